"""Stacks larger than memory: planes are read and written one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask.base import is_dask_collection

from napari_vdip.cluster import active_client, check_device
from napari_vdip.deconvolution import finish, prepare, run
from napari_vdip.lazy_cluster import run_on_cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_vdip.result import Deconvolution, Progress
    from napari_vdip.settings import Settings


def deconvolve_stack(
    image: Any,
    settings: Settings | None = None,
    *,
    axes: str | None = None,
    psf: Any = None,
    region: Any = None,
    out: Mapping[str, Any] | None = None,
    device: str | None = None,
    progress: Callable[[Progress], bool | None] | None = None,
    **changes: Any,
) -> Deconvolution:
    """Deconvolve a stack plane by plane: what `deconvolve` does, in the memory of a few planes.

    A plane is read when its turn comes, and its result is written when it is done, so that what was written
    stays if a later plane fails.

    A Dask array is done on the cluster of the active `distributed.Client`, if there is one: as many planes
    at a time as there are workers for. Only the chunks that a plane lies in move to its worker, and only
    what the worker has not written itself comes back.

    Parameters
    ----------
    image : array
        Of any real type; of NumPy, Dask, Zarr or anything with ``shape``, ``dtype`` and ``__getitem__``.
    settings, axes, psf, region
        See `deconvolve`. With ``psf_source="channel"`` every plane is read twice.
    out : mapping of str to array, optional
        Where ``latent``, ``std`` and ``reblurred`` go: arrays of NumPy, Zarr or anything with ``shape``,
        ``dtype`` and ``__setitem__``, of the shape of the image, or of the region. New NumPy arrays are
        made for the first two if they are not among them, whereas ``reblurred`` is not kept. On a cluster
        the workers write to Zarr arrays in files, which they all must see, if a chunk holds one plane; what
        goes to other arrays comes back first.
    device
        On a cluster a type such as ``"cuda"``: every worker has a GPU of its own.
    progress
        On a cluster it is called once for every plane that is done, in any order, and not for steps. The
        estimate is the last one, without its images. If it returns true, planes that are not done are
        cancelled.
    **changes
        Fields of the settings to replace.

    Returns
    -------
    Deconvolution
        Its arrays are those of `out`.

    Raises
    ------
    ValueError
        If an argument cannot be used, before any work, or a plane, when it is read. If all planes are
        blank, which of an array that is read in parts is known when the last one was read.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_vdip import deconvolve_stack
    >>> from napari_vdip.scenes import cells
    >>> scene = cells(size=64, psf_size=9)
    >>> out = {"latent": np.zeros((2, 64, 64), np.float32)}
    >>> result = deconvolve_stack(np.stack([scene.blurred] * 2), axes="ZYX", psf=scene.psf, out=out)
    >>> result.latent is out["latent"], result.std.shape
    (True, (2, 64, 64))
    """
    client = active_client() if is_dask_collection(image) else None
    if client is None:
        steps = run(
            image, settings, axes=axes, psf=psf, region=region, out=out or {}, device=device, **changes
        )
        return finish(steps, progress)
    check_device(device)
    prepared = prepare(image, settings, axes, psf, region, out or {}, changes)
    return run_on_cluster(client, *prepared, device, progress)
