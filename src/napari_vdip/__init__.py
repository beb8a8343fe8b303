"""Blind deconvolution by variational deep image prior, for napari, Python and the command line."""

from __future__ import annotations

import lazy_loader

__all__ = ["Deconvolution", "Progress", "Settings", "deconvolve", "run"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "deconvolution": ["Deconvolution", "Progress", "deconvolve", "run"],
        "settings": ["Settings"],
    },
)
