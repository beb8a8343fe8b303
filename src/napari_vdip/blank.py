"""A blank plane, such as a missing time point or an empty channel: it passes through as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_vdip.estimate import Estimate
from napari_vdip.generators import Posterior
from napari_vdip.plane import Restored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_vdip.checkpoint import Checkpoint
    from napari_vdip.settings import Settings


class Blank:
    """A plane of which each channel holds one single value; its interface is that of `Plane`.

    There is nothing to estimate. Any point spread function leaves it what it is, so it keeps one that is
    given, and else has a point.

    Parameters
    ----------
    image, settings, device, kernel
        See `Plane`.
    """

    noise_level = 0.0
    """See `Plane`."""

    def __init__(
        self,
        image: NDArray[Any],
        settings: Settings,
        device: torch.device,
        kernel: Tensor | None = None,
    ):
        self.settings = settings
        self._image = image.astype(np.float32)
        if kernel is None or settings.psf_source != "given":
            height, width = settings.psf_shape
            kernel = torch.zeros(1, 1, height, width, device=device)
            kernel[..., height // 2, width // 2] = 1
        self.kernel = kernel

    def estimates(self, start: Checkpoint | None = None) -> Iterator[Estimate]:
        """Yield the only estimate; its latent image is zero in units of a range that is none."""
        height, width, channels = self._image.shape
        window = self.kernel.shape[-2:]
        mean = self.kernel.new_zeros(()).expand(1, channels, height + window[0] - 1, width + window[1] - 1)
        yield Estimate("blank", 1, 1, Posterior(mean), self.kernel, {})

    def state(self) -> None:
        """Return nothing: there are no checkpoints."""

    def preview(self, estimate: Estimate) -> Restored:
        """Convert the estimate to arrays, without the std map."""
        psf = estimate.kernel[0, 0].flip((0, 1)).cpu().numpy().astype(np.float32)
        return Restored(latent=self._image, psf=psf, reblurred=self._image, noise=0.0)

    def result(self, estimate: Estimate) -> Restored:
        """Convert the estimate to arrays, with a std map of zeros if the method is variational."""
        std = np.zeros_like(self._image) if self.settings.variational else None
        return replace(self.preview(estimate), std=std)
