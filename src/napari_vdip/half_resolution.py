"""The kernel's structure, from the image at half its resolution.

A wrong share of the mass along a track is a matter of low frequencies, where an image has most of its power
and ringing is worst. Its gradient from pixel to pixel is weak, so the sparse prior hardly sees it; at half
the resolution the gradient is twice as large and the noise a half or less. How much the kernel passes at
each frequency is another matter: where edges are as sharp as pixels only the full resolution shows it, and
elsewhere the half suffices.
"""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from skimage.registration import phase_cross_correlation
from torch import Tensor

from napari_vdip.candidate import Candidate, annealed
from napari_vdip.kernel_spectrum import Complex, Real, frequencies, nearest, spectrum
from napari_vdip.noise import noise_variance
from napari_vdip.operators import Size, crop, extend, size_of

FLOOR = 0.5
"""Floor of the gradient, in noise levels."""
CUTOFF = 0.16
"""Frequency, in cycles per pixel of the full resolution, above which the kernel stays as it was."""
NYQUIST = 0.25
"""Highest frequency that there is at half the resolution."""
RING = 0.02
"""Width of the rings of frequencies over which amplitudes are compared."""
UPSAMPLING = 20
"""Parts of a pixel in which two kernels are shifted onto each other."""


def resized(image: Tensor, size: Size) -> Tensor:
    """Image ``(1, C, Y, X)`` with fewer pixels; made on the CPU, since not every device can."""
    pixels = image.cpu()
    return F.interpolate(pixels, size=list(size), mode="bicubic", antialias=True).to(image)


def halved(image: Tensor) -> Tensor:
    """Image at half its resolution; an odd row or column at the end is left out."""
    height, width = (n // 2 * 2 for n in size_of(image))
    return resized(image[..., :height, :width], (height // 2, width // 2))


def halved_kernel(kernel: Tensor) -> Tensor:
    """Kernel for an image at half the resolution; it has the sum and the centroid of the one given."""
    tent = kernel.new_tensor([0.5, 1.0, 0.5])
    window = size_of(kernel)
    margins = [smaller - n // 2 for smaller, n in zip(halved_window(window), window, strict=True)]
    padded = F.pad(kernel, (margins[1], margins[1], margins[0], margins[0]))
    return F.conv2d(padded, (tent[:, None] * tent).view(1, 1, 3, 3), stride=2)


def halved_window(window: Size) -> Size:
    """Window of a kernel at half the resolution."""
    height, width = (2 * ((n // 2 + 1) // 2 + 1) + 1 for n in window)
    return height, width


class HalfResolution:
    """A candidate at half the resolution, in the making.

    Parameters
    ----------
    image, latent, kernel : Tensor
        ``(1, C, Y, X)`` in [0, 1], ``(1, C, H, W)`` and ``(1, 1, kh, kw)``, at full resolution.
    """

    def __init__(self, image: Tensor, latent: Tensor, kernel: Tensor):
        half, smaller = halved(image), halved_kernel(kernel)
        self._variance = noise_variance(half)
        start = extend(halved(crop(latent, size_of(kernel))), size_of(smaller))
        floor = FLOOR * float(self._variance.median().sqrt())
        self._candidate = Candidate(half, start, smaller, floor)
        self._candidate.confine()

    def advance(self, progress: float) -> None:
        """Update gradient and kernel in a round at this part of all rounds."""
        self._candidate.advance(annealed(self._variance, progress))

    def merged(self, kernel: Tensor, sharp: float) -> Tensor:
        """Return a kernel of the full resolution with the low frequencies of the one found here.

        Parameters
        ----------
        kernel : Tensor
            ``(1, 1, kh, kw)``, non-negative, sums to one.
        sharp : float
            In [0, 1]: how far the amplitude of every ring of frequencies stays that of `kernel`.

        Returns
        -------
        Tensor
            Non-negative, sums to one, in the surroundings of `kernel`. Of all such kernels it is the one
            whose spectrum comes nearest, with errors weighted as an image's power weights them.
        """
        u, radius = frequencies(kernel)
        fine, coarse = spectrum(kernel, u), spectrum(self._candidate.kernel, 2 * u)
        shared = (np.maximum(np.abs(u)[:, None], np.abs(u)) < NYQUIST) & (radius < 1.5 * CUTOFF)
        offset, _, _ = phase_cross_correlation(
            fine * shared, coarse * shared, space="fourier", normalization=None, upsample_factor=UPSAMPLING
        )
        coarse = coarse * np.exp(-2j * np.pi * (u[:, None] * offset[0] + u * offset[1]))
        coarse *= (amplitude(fine, radius) / amplitude(coarse, radius)) ** sharp
        share = shared * np.exp(-0.5 * (radius / CUTOFF) ** 4)
        return nearest(share * coarse + (1 - share) * fine, kernel)


def amplitude(values: Complex, radius: Real) -> Real:
    """Root mean square over the ring that each frequency lies in."""
    rings = (radius / RING).astype(int).ravel()
    power = np.bincount(rings, np.abs(values.ravel()) ** 2) / np.maximum(np.bincount(rings), 1)
    means: Real = np.sqrt(power)[rings].reshape(values.shape)
    return means
