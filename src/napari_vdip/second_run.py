"""Whether a second run of a plane finds the same point spread function: if not, one of them is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_vdip.psf_measures import agreement
from napari_vdip.settings import NETWORK_STEPS, Settings

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from napari_vdip.tiling import Bounds


def second_settings(settings: Settings) -> Settings:
    """Return settings for a second run of one plane: another seed, and networks.

    Without networks there is next to nothing random in a run, so the second one has them in any case.
    """
    return settings.replace(
        seed=settings.seed + 1,
        steps=settings.network_steps or NETWORK_STEPS,
        psf_source="plane",
        channels="joint",
    )


def running(
    image: NDArray[Any],
    psf: NDArray[Any],
    settings: Settings,
    *,
    region: Bounds | None = None,
    device: str | None = None,
) -> Generator[float, None, float]:
    """Estimate the point spread function of a plane again, and return the `agreement` of both.

    Yields the part that is done.

    Parameters
    ----------
    image : array
        ``(Y, X, C)``, of any intensities.
    psf : array
        ``(kh, kw)`` that was found.
    settings : Settings
        What it was found with; see `second_settings`.
    region : tuple, optional
        First and end of the rows and of the columns that it was found in, if not all.
    device : str, optional
        See `deconvolution.deconvolve`.
    """
    from napari_vdip.deconvolution import run_plane

    for progress in run_plane(image, second_settings(settings), region=region, device=device):
        if progress.estimate.step == progress.estimate.steps:  # a std map is not needed
            return agreement(psf, progress.preview().psf)
        yield progress.fraction
    raise ValueError("agreement: expected an estimate, got none")
