"""What a run gives: its progress at every step, and its result."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_vdip.blank import Blank
    from napari_vdip.estimate import Estimate
    from napari_vdip.mosaic import Mosaic
    from napari_vdip.plane import Plane, Restored
    from napari_vdip.settings import Settings
    from napari_vdip.tiling import Region

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Deconvolution:
    """Result of a deconvolution.

    Arrays are float32, unless they were given. Intensities are in the source's units, axes are those of the
    source.

    Attributes
    ----------
    latent : array
        Sharp image, of the shape of the source or of its region; overlays it. NaN in planes not reached by
        a run that was stopped; the source itself in parts of a large plane that were not.
    psf : array
        Point spread function as convolution kernel: non-negative, sums to one, centred unless it was given.
        The source's axes with ``psf_shape`` in place of Y and X; without C if channels are joint.
    std : array or None
        Standard deviation of `latent`, for variational methods. NaN where there is no result.
    reblurred : array or None
        `latent`, with what lies beyond its border, convolved with `psf`: the model of the source. Made
        before both are centred to a part of a pixel. ``None`` where it was not kept.
    noise : array
        Standard deviation of the residual of each plane that was reached, in the order of the planes.
    history : tuple of mapping
        For each of these planes the course of the run: ``stage`` (str), ``loss``, its terms with the
        other sign (``data``, ``prior``, ``psf_prior``, ``entropy``, ``similarity``) and ``noise`` of every
        step, NaN where a stage has no such term.
    axes : str
        One letter for each axis of `latent`.
    settings : Settings
        What the run was made with.
    device : str
        Where it ran.
    seconds : float
        How long it took.
    stopped : str
        Why it ended: ``"finished"`` or the reason it ended early; ``"blank"`` of a single plane of a stack
        that is blank.
    region : tuple of tuple of int, or None
        First and end of the rows and of the columns of the source that were deconvolved, if not all.
    reduced : tuple of mapping
        For each plane that was reached, the settings that had to be made smaller for lack of memory and
        what they became: ``search_area`` and ``tile``. Empty where there was enough.
    blank : tuple of tuple of int
        Indices in the stacked axes of planes that hold one single value in each channel, such as missing
        time points. They pass through: `latent` is the plane as it came, `std` is zero, and `psf` a point
        unless it was given.
    """

    latent: Array
    psf: Array
    std: Array | None
    reblurred: Array | None
    noise: NDArray[np.float64]
    history: tuple[Mapping[str, NDArray[Any]], ...]
    axes: str
    settings: Settings
    device: str
    seconds: float
    stopped: str
    region: tuple[tuple[int, int], tuple[int, int]] | None = None
    reduced: tuple[Mapping[str, int], ...] = ()
    blank: tuple[tuple[int, ...], ...] = ()

    @property
    def metadata(self) -> dict[str, Any]:
        """Plain data that says how the result was made, and suffices to make it again.

        But for a point spread function that was given: that is `psf`.
        """
        return {
            "settings": self.settings.asdict(),
            "method": self.settings.method,
            "axes": self.axes,
            "region": self.region,
            "noise": self.noise.tolist(),
            "device": self.device,
            "seconds": round(self.seconds, 3),
            "stopped": self.stopped,
            "reduced": [dict(plane) for plane in self.reduced],
            "blank": [list(index) for index in self.blank],
            "versions": {name: version(name) for name in ("napari-vdip", "torch", "numpy")},
        }


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is.

    Attributes
    ----------
    plane, planes : int
        Number of this plane, counted from 1 in the order in which they are deconvolved, and of all.
    name : str
        Which plane it is, such as ``"T=3, C=1"``; empty where there is only one.
    index : tuple of int
        Its index in the stacked axes.
    estimate : Estimate
        This step's estimate, with its step and stage.
    seconds : float
        Time since the start of the run.
    source : Plane or Mosaic or Blank or None
        What makes arrays of the estimate; ``None`` for a plane that was done on a cluster.
    inside : tuple of slice
        Rows and columns of these that are in the result.
    """

    plane: int
    planes: int
    name: str
    index: tuple[int, ...]
    estimate: Estimate
    seconds: float
    source: Plane | Mosaic | Blank | None
    inside: Region

    @property
    def fraction(self) -> float:
        """Part of the whole run that is done."""
        return (self.plane - 1 + self.estimate.step / self.estimate.steps) / self.planes

    @property
    def remaining(self) -> float:
        """Seconds to go at the pace so far."""
        return self.seconds * (1 / self.fraction - 1)

    def preview(self) -> Restored:
        """Convert the estimate to arrays ``(Y, X, C)`` in source units, without the std map.

        Raises
        ------
        ValueError
            If the plane was done on a cluster, from where its images do not come twice.
        """
        if self.source is None:
            raise ValueError(f"preview: expected a plane that was done here, got {self.name or 'another'}")
        return self.source.preview(self.estimate).cut(self.inside)
