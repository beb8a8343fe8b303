"""Everything that decides a run besides the image. Imports no torch, so that a GUI opens at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from napari_vdip.scales import coarse_rounds
from napari_vdip.validation import check, integers, window

Prior = Literal["none", "sparse", "extreme"]
Channels = Literal["separate", "joint"]
PsfSource = Literal["plane", "channel", "given"]
PsfGenerator = Literal["network", "free"]
BrightVariance = Literal["exact", "official"]

SMALLEST_CANVAS = 35
"""Side in pixels of the extreme channels' window; the five scales of the generator need 33."""

NETWORK_STEPS = 400
"""Steps of the networks where there are any and no number is named."""

LARGEST_WIDTH = 1024
"""Features of a scale, eight times the published number; more would ask for all memory there is."""

METHODS = {
    "VDIP-Sparse": {"prior": "sparse", "variational": True},
    "VDIP-Extreme": {"prior": "extreme", "variational": True},
    "VDIP-Std": {"prior": "none", "variational": True},
    "DIP-Sparse": {"prior": "sparse", "variational": False},
    "DIP-Extreme": {"prior": "extreme", "variational": False},
    "DIP": {"prior": "none", "variational": False},
}
"""The six methods of Huo et al., TPAMI 2023, tables I and II, as settings."""


def _option(default: Any, help: str, *, advanced: bool = True, **limits: Any) -> Any:
    """Describe a field once: its default, what larger values do, and its limits (min, max, step)."""
    return field(default=default, metadata={"help": help, "advanced": advanced, **limits})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a blind deconvolution, validated at construction.

    ``Settings()`` is what is best for users; ``Settings.paper()`` is the published schedule. Every
    field carries its meaning in ``metadata["help"]``, from which the widget's tooltips and the
    command line's help are made.

    Raises
    ------
    ValueError
        If a value is outside its limits; the message names the field, the limits and the value.

    Examples
    --------
    >>> Settings(psf_shape=15).psf_shape
    (15, 15)
    >>> Settings.paper(prior="extreme").steps
    5000
    """

    psf_shape: tuple[int, int] = _option(
        (31, 31),
        "Window of the point spread function in pixels (height, width), both odd. Larger windows "
        "hold a wider blur, but leave more to estimate; a little too large is better than too small.",
        advanced=False,
        min=3,
        step=2,
    )
    prior: Prior = _option(
        "sparse",
        "Prior of the latent image: sparse gradients, extreme (dark and bright) channels, or none.",
        advanced=False,
    )
    variational: bool = _option(
        True,
        "Estimate a distribution for every pixel (VDIP), hence a std map, instead of a point (DIP).",
        advanced=False,
    )
    channels: Channels = _option(
        "separate",
        "separate: every channel has its own point spread function, as in fluorescence. "
        "joint: all channels share one, as in a colour photograph.",
        advanced=False,
    )
    psf_source: PsfSource = _option(
        "plane",
        "plane: the point spread function is estimated for every plane. channel: once for every channel, "
        "on the plane with the most detail, and then used for all its planes. given: it is known, and "
        "passed as psf. The last two need VDIP-Sparse.",
        advanced=False,
    )
    seed: int = _option(
        0, "Seed of all randomness; the same seed gives the same result on a CPU.", min=0, max=2**31 - 1
    )
    steps: int | None = _option(
        None,
        "Steps in which the two networks are fitted to the image. More steps take longer and fit "
        "finer detail. 0 leaves the networks out: the point spread function is then found from coarse to "
        f"fine (VDIP-Sparse only). None: 0 where that is possible, else {NETWORK_STEPS}.",
        min=0,
        max=100_000,
        step=50,
    )
    prefit_steps: int = _option(
        0,
        "Steps before that in which the networks learn to reproduce the blurred image.",
        min=0,
        max=10_000,
        step=50,
    )
    bound_until: float = _option(
        1.0,
        "Part of the steps, from the first, in which the variational bound is maximised.",
        min=0.0,
        max=1.0,
        step=0.1,
    )
    similarity_from: float = _option(
        0.0,
        "Part of the steps after which structural similarity is maximised, to the last. Larger values "
        "leave more to the bound alone.",
        min=0.0,
        max=1.0,
        step=0.1,
    )
    bound_weight: float = _option(
        10.0,
        "Weight of the bound where structural similarity is maximised with it. Larger values give the "
        "prior more say.",
        min=0.0,
        max=1e6,
        step=1.0,
    )
    refinements: int = _option(
        90,
        "Rounds in which the bound is then maximised over gradients, point spread function and pixels "
        "themselves (VDIP-Sparse only). Fewer than about 80 leave out those at half the resolution, fewer "
        "than about 40 are too hasty; 0 keeps the networks' result.",
        min=0,
        max=1000,
    )
    gradient_floor: float | None = _option(
        None,
        "Gradient, in noise levels, below which the refinement's prior makes no difference. Smaller "
        "values give sharper point spread functions, and suit photographs. None: 0.05, and less, down to "
        "0.01, where an image has detail as fine as its pixels.",
        min=0.001,
        max=100.0,
        step=0.01,
    )
    psf_error: float | None = _option(
        None,
        "Sum of the squared errors of the point spread function that is expected where it is estimated. "
        "Larger values leave less ringing, and less contrast of fine detail. None: 0.0002, and more, up to "
        "0.002, where an image has detail as fine as its pixels.",
        min=0.0,
        max=1.0,
        step=0.001,
    )
    pooling: float = _option(
        1.0,
        "Distance in pixels over which neighbours share the weights of the refinement's prior. Larger "
        "values suit smooth specimens; 0 suits photographs, whose edges are one pixel wide.",
        min=0.0,
        max=10.0,
        step=0.5,
    )
    gaussians: bool = _option(
        True,
        "Let the refinement take a round Gaussian for the point spread function, unless what was found is "
        "plausible and predicts pixels better that were left out. Dense and faint specimens need it. Too "
        "few refinements leave it out. With it, a specimen under a round one is made no sharper than "
        "pixels show. Without it, the long track of a moving camera is looked for in images "
        "of one channel as well.",
    )
    samples: int = _option(
        16,
        "Posterior samples behind the std map. More make it smoother and take longer.",
        min=2,
        max=1024,
    )
    prior_weight: float = _option(
        0.01,
        "Weight of the prior and the entropy against the data, 1 is the published one. Larger values "
        "give smoother images.",
        min=0.0,
        max=1000.0,
        step=0.01,
    )
    psf_prior_weight: float = _option(
        0.0,
        "Weight of the Gaussian prior of the point spread function, 10 is the published one. Larger "
        "values spread it out.",
        min=0.0,
        max=1000.0,
        step=1.0,
    )
    image_rate: float = _option(
        1e-2, "Learning rate of the image generator. Larger is faster, then unstable.", min=1e-6, max=1.0
    )
    psf_rate: float = _option(
        1e-1,
        "Learning rate of the point spread function. Larger is faster, then unstable.",
        min=1e-6,
        max=10.0,
    )
    psf_generator: PsfGenerator = _option(
        "free",
        "free: one logit per pixel of the point spread function. network: two dense layers, as "
        "published, which need a thousand times smaller learning rate.",
    )
    widths: tuple[int, ...] = _option(
        (16, 32, 64, 64, 64),
        "Features of the image generator at each scale, the finest first. More are slower and fit "
        "finer detail. The published network has 128 at all five.",
        min=4,
    )
    bright_variance: BrightVariance = _option(
        "exact",
        "Variance of the bright channel under the extreme prior: exact, or official, as in the published "
        "code, which drops a covariance.",
    )
    mixed_precision: bool = _option(
        True, "Run the networks in bfloat16 on CUDA; the objective stays in float32."
    )
    search_area: int = _option(
        512,
        "Side in pixels of the square that the networks and the point spread function are fitted to. A "
        "plane with more pixels is searched where it has most detail, and then restored as a whole "
        "(VDIP-Sparse only). Larger squares take more time and memory.",
        min=64,
        max=2**16,
        step=64,
    )
    tile: int = _option(
        2048,
        "Side in pixels of the square that is restored at a time. A plane with more pixels is restored in "
        "overlapping tiles (VDIP-Sparse only). Larger tiles take more memory.",
        min=64,
        max=2**16,
        step=64,
    )
    headroom: float | None = _option(
        0.3,
        "Part of the generator's intensity range kept free on both sides, since a latent image is "
        "darker and brighter than its blurred version. None: the range of the data type, as published.",
        min=0.0,
        max=0.4,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "psf_shape", window("psf_shape", self.psf_shape))
        object.__setattr__(self, "widths", integers("widths", self.widths, 4, LARGEST_WIDTH))
        check(self)

    @classmethod
    def paper(cls, **changes: Any) -> Settings:
        """Return the settings of the published method (Huo et al., TPAMI 2023), with some changes."""
        return cls(**{**PAPER, **changes})

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Settings:
        """Return the settings of a preset, one of `PRESETS`, with some changes."""
        if name not in PRESETS:
            raise ValueError(f"preset: expected one of {tuple(PRESETS)}, got {name!r}")
        return cls(**{**PRESETS[name], **changes})

    def replace(self, **changes: Any) -> Settings:
        """Return a copy with some fields changed."""
        unknown = set(changes) - {item.name for item in fields(self)}
        if unknown:
            names = tuple(item.name for item in fields(self))
            raise ValueError(f"{min(unknown)}: expected a field of Settings, one of {names}")
        return replace(self, **changes)

    def asdict(self) -> dict[str, Any]:
        """Return plain data that runs the same again: ``Settings(**settings.asdict())``."""
        return asdict(self)

    @property
    def method(self) -> str:
        """Name of the method in the paper."""
        switches = {"prior": self.prior, "variational": self.variational}
        return next(name for name, those in METHODS.items() if those == switches)

    @property
    def network_steps(self) -> int:
        """Steps of the networks."""
        if self.steps is not None:
            return self.steps
        return 0 if self.rounds_of_refinement and not self.prefit_steps else NETWORK_STEPS

    @property
    def rounds_of_refinement(self) -> int:
        """Rounds after the coarser scales, in the closed form of the sparse gradient prior."""
        return self.refinements if self.method == "VDIP-Sparse" else 0

    @property
    def rounds(self) -> int:
        """All rounds of refinement."""
        return self.rounds_of_refinement and self.rounds_of_refinement + self.coarse_rounds

    @property
    def coarse_rounds(self) -> int:
        """Rounds from coarse to fine, which come first where there are no networks."""
        return 0 if self.network_steps else coarse_rounds(self.psf_shape)


PAPER: dict[str, Any] = {
    "steps": 5000,
    "prefit_steps": 500,
    "bound_until": 0.4,
    "similarity_from": 0.4,
    "bound_weight": 1.0,
    "refinements": 0,
    "prior_weight": 1.0,
    "psf_prior_weight": 10.0,
    "psf_rate": 1e-4,
    "psf_generator": "network",
    "widths": (128, 128, 128, 128, 128),
    "bright_variance": "official",
    "mixed_precision": False,
    "headroom": None,
}
"""The published schedule, where it differs from the default."""

PHOTOGRAPH: dict[str, Any] = {
    "refinements": 80,
    "gradient_floor": 0.01,
    "psf_error": 0.002,
    "pooling": 0.0,
    "gaussians": False,
}
"""For photographs blurred by motion, whose edges are sharper and sparser than those of specimens."""

NETWORKS: dict[str, Any] = {"steps": NETWORK_STEPS}
"""The networks find the point spread function's first form, which takes several times longer."""

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "photograph": PHOTOGRAPH,
    "networks": NETWORKS,
    "paper": PAPER,
}
