"""One plane from source intensities to source intensities."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import shift

from napari_vdip.images import Intensities
from napari_vdip.kernels import centred
from napari_vdip.latent import PIXEL_ROUNDS, restore, seen
from napari_vdip.noise import noise_variance
from napari_vdip.operators import blur, crop, extend, size_of
from napari_vdip.posterior import (
    BATCH,
    flat_precision,
    gradient_variances,
    sparse_precision,
    standard_deviation,
)
from napari_vdip.refinement import Refinement
from napari_vdip.regularization import Regularization, regularization_of
from napari_vdip.search import Search
from napari_vdip.sharpness import psf_error_of, resolution_of, sharpness
from napari_vdip.starts import sharpness_under
from napari_vdip.widths import blurred, whole_gaussian

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from napari_vdip.checkpoint import Checkpoint, State
    from napari_vdip.estimate import Estimate
    from napari_vdip.settings import Settings
    from napari_vdip.tiling import Region

Array = NDArray[np.float32]
WEIGHT_ROUNDS = 2
"""Rounds that make the weights of the sparse prior consistent with the posterior's variance."""
UNRESOLVED = 0.05
"""Part of the mean squared gradient that the std map allows for everywhere (see `sparse_precision`). Chosen
for its coverage on an image of Levin et al., two of cells and three specimens."""
STD_STRENGTH = 1.25
"""Factor on the weights of the prior behind the std map, chosen on generated scenes. With it, the root mean
square of the map is 1.05 times that of the error, on average over these and images of Levin et al."""
LEAST_POOLING = 1.0
"""Distance in pixels over which neighbours share the std map's weights at least: alone, a weight is as
uncertain as what it is to tell."""


@dataclass(frozen=True, slots=True)
class Restored:
    """Result of one plane, in the source's intensity units.

    Attributes
    ----------
    latent : array
        ``(Y, X, C)`` float32, overlays the source.
    psf : array
        ``(kh, kw)`` float32 convolution kernel, sums to one; centred unless it was given.
    reblurred : array
        ``(Y, X, C)`` float32: the latent canvas convolved with the point spread function.
    noise : float
        Standard deviation of the residual.
    std : array or None
        ``(Y, X, C)`` float32; ``None`` if the method is not variational, or in a preview.
    """

    latent: Array
    psf: Array
    reblurred: Array
    noise: float
    std: Array | None = None

    def cut(self, region: Region) -> Restored:
        """Cut the images to a region."""
        std = None if self.std is None else self.std[region]
        return replace(self, latent=self.latent[region], reblurred=self.reblurred[region], std=std)


class Plane:
    """A blurred plane on a device, ready to be deconvolved at once.

    Parameters
    ----------
    image : array
        ``(Y, X, C)`` of real numbers, checked by `images.check_plane`.
    settings : Settings
        Everything else.
    device : torch.device
        Where to compute.
    kernel : Tensor, optional
        ``(1, 1, kh, kw)`` correlation kernel, if it is known: then only the latent image is estimated.
    """

    KNOWN_STEPS = PIXEL_ROUNDS
    """Steps for a kernel that is known."""
    regularization: Regularization | None = None
    """What is known of it from the whole that this is a part of."""

    def __init__(
        self,
        image: NDArray[Any],
        settings: Settings,
        device: torch.device,
        kernel: Tensor | None = None,
    ):
        self.settings = settings
        self.kernel = kernel
        self.intensities = Intensities.of(image, settings.headroom)
        self.image = self.intensities.to_tensor(image).to(device)
        self.variance = noise_variance(self.image)
        self.sharpness = sharpness(self.image, self.variance)
        self.rng = torch.Generator(device).manual_seed(settings.seed)
        self._stage: Search | Refinement | None = None

    @property
    def noise_level(self) -> float:
        """Standard deviation of the image's noise, as estimated from the image alone, in source units."""
        return float(self.variance.mean().sqrt()) * self.intensities.scale

    def part(self, region: Region, kernel: Tensor | None, rng: torch.Generator) -> Plane:
        """Cut out a part with the same intensities and noise, on the device of the random numbers."""
        part = copy(self)
        part.kernel, part.rng = kernel, rng
        part.image, part.variance = (a[..., *region].to(rng.device) for a in (self.image, self.variance))
        return part

    def estimates(self, start: Checkpoint | None = None) -> Iterator[Estimate]:
        """Yield the estimate of every step; each is a valid result, the last is the best.

        From a checkpoint, its own is the first.
        """
        if self.kernel is not None:
            given = self.settings.psf_source == "given"
            yield from restore(
                self.image,
                self.kernel,
                self.KNOWN_STEPS,
                self.rng,
                self.variance,
                self.regularization or self.regularization_of(self.kernel),
                psf_error=0.0 if given else psf_error_of(self._sharpness_under(self.kernel), self.settings),
            )
            return
        estimate: Estimate | None = None
        try:
            if self.settings.network_steps and not (start and start.estimate.stage == "refinement"):
                self._stage = Search(self.image, self.settings, self.rng)
                for estimate in self._stage.estimates(start):
                    yield estimate
                start = None
            self._stage = None  # it is large
            if self.settings.rounds:
                self._stage = Refinement(self.image, self.settings, self.rng)
                yield from self._stage.estimates(estimate, start)
        finally:
            self._stage = None

    def regularization_of(self, kernel: Tensor) -> Regularization:
        """Return how far this plane's latent image should follow its prior, for a kernel."""
        pooling, seed = self.settings.pooling, self.settings.seed
        sharp = self._sharpness_under(kernel)
        resolution = resolution_of(kernel, sharp, self.settings)
        return regularization_of(self.image, self.variance, kernel, sharp, pooling, seed, resolution)

    def _sharpness_under(self, kernel: Tensor) -> float:
        """Sharpness of the image, now that its kernel is known."""
        return sharpness_under(kernel, self.sharpness, self.settings, self.image.shape[1] > 1)

    def state(self) -> State | None:
        """Return what a checkpoint of the latest step holds, as it is; ``None`` where there can be none."""
        return self._stage.state() if self._stage else None

    def preview(self, estimate: Estimate) -> Restored:
        """Convert an estimate to arrays, without the std map."""
        return self._restored(estimate, None)

    @torch.no_grad()
    def result(self, estimate: Estimate) -> Restored:
        """Convert an estimate to arrays, with the std map if the method is variational."""
        return self._restored(estimate, self._std(estimate) if self.settings.variational else None)

    def _std(self, estimate: Estimate) -> Tensor:
        """Marginal standard deviation on the canvas, ``(1, C, H, W)``, for the estimate's kernel.

        It is that of what is seen of the structure, for which the image itself stands here.
        """
        mean, kernel = estimate.posterior.mean, estimate.kernel
        residual = blur(mean, kernel) - self.image
        misfit = (residual.square() / self.variance).mean((-2, -1), keepdim=True).clamp_min(1)
        noise = (misfit * self.variance).sqrt()  # what the model does not explain is noise
        resolution = resolution_of(kernel, self._sharpness_under(kernel), self.settings)
        if resolution:
            kernel = blurred(kernel, resolution)
            mean = extend(mean, size_of(whole_gaussian(resolution, mean.device)))
        precision = flat_precision(mean, kernel, noise)
        if self.settings.prior == "sparse":
            variances, pooling = None, max(self.settings.pooling, LEAST_POOLING)
            for _ in range(1 + WEIGHT_ROUNDS):
                precision = sparse_precision(
                    mean, kernel, noise, variances, UNRESOLVED, pooling, strength=STD_STRENGTH
                )
                samples = precision.sample(torch.Size((BATCH, *mean.shape[1:])), self.rng)
                variances = gradient_variances(samples)
        return standard_deviation(
            precision, mean.shape, self.settings.samples, self.rng, partial(seen, resolution=resolution)
        )

    def _noise(self, estimate: Estimate) -> float:
        """Root mean square of the residual, in [0, 1] units."""
        residual = blur(estimate.posterior.mean, estimate.kernel) - self.image
        return float(residual.square().mean().sqrt())

    def _restored(self, estimate: Estimate, std: Tensor | None) -> Restored:
        mean, kernel = estimate.posterior.mean, estimate.kernel
        # The point spread function is the correlation kernel turned by 180 degrees.
        psf, moved_by = kernel[0, 0].flip((0, 1)).cpu().numpy(), (0.0, 0.0)
        window = size_of(kernel)
        if self.settings.psf_source != "given":
            psf, moved_by = centred(psf, max(window))

        def overlay(canvas: Tensor, order: int) -> Tensor:
            """Move a canvas against the point spread function, and cut it to the image."""
            if any(moved_by):
                by = (-moved_by[0], -moved_by[1])  # of each channel: with more axes it takes far longer
                channels = [shift(c, by, order=order, mode="nearest") for c in canvas[0].cpu().numpy()]
                canvas = torch.from_numpy(np.stack(channels))[None]
            return crop(canvas, window)

        return Restored(
            latent=self.intensities.to_array(overlay(mean, order=3)),
            psf=psf.astype(np.float32),
            reblurred=self.intensities.to_array(blur(mean, kernel)),
            noise=self._noise(estimate) * self.intensities.scale,
            std=None if std is None else self.intensities.to_deviation(overlay(std, order=1)),
        )
