"""The command line: ``napari-vdip``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from napari_vdip.deconvolution import Deconvolution, Progress
    from napari_vdip.settings import Settings

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False, add_completion=False)

PIXEL_SIZE = 0.1
"""Pixel size of the demo's scene in micrometres."""


@app.callback()
def main() -> None:
    """Blind deconvolution by variational deep image prior."""


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("napari-vdip-demo"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the scene and of the run.")] = 0,
    size: Annotated[int, typer.Option(min=64, help="Height and width of the scene in pixels.")] = 256,
) -> None:
    """Blur a generated microscopy scene, deconvolve it blind and compare with the truth."""
    import numpy as np

    from napari_vdip import Settings
    from napari_vdip.figures import side_by_side
    from napari_vdip.io import write_ome_tiff
    from napari_vdip.metrics import aligned_quality, kernel_error
    from napari_vdip.scenes import cells

    scene = cells(size=size, seed=seed)
    settings = Settings(psf_shape=scene.psf.shape[0] + 4, seed=seed)
    try:
        result = with_progress_bar(scene.blurred, settings, device)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    output.mkdir(parents=True, exist_ok=True)
    arrays = {"blurred": scene.blurred, "latent": result.latent, "psf": result.psf, "std": result.std}
    for name, array in arrays.items():
        if array is not None:
            write_ome_tiff(output / f"{name}.ome.tif", array, "YX", PIXEL_SIZE)
    side_by_side(scene, result, PIXEL_SIZE).savefig(output / "overview.png", dpi=110)
    data_range = float(np.ptp(scene.latent))
    before = aligned_quality(scene.blurred, scene.latent, data_range=data_range)
    after = aligned_quality(result.latent, scene.latent, data_range=data_range)
    gain = after.psnr - before.psnr
    typer.echo(f"PSNR          {before.psnr:.2f} dB -> {after.psnr:.2f} dB  ({gain:+.2f} dB)")
    typer.echo(f"SSIM          {before.ssim:.3f} -> {after.ssim:.3f}")
    typer.echo(f"kernel error  {kernel_error(result.psf, scene.psf):.5f}")
    typer.echo(f"time          {result.seconds:.0f} s on {result.device} ({result.stopped})")
    typer.echo(f"written to    {output.resolve()}: {', '.join(sorted(p.name for p in output.iterdir()))}")


def with_progress_bar(image: object, settings: Settings, device: str) -> Deconvolution:
    """Deconvolve with a live bar for a person, which a log gets without its motion."""
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from napari_vdip import deconvolve

    columns = (
        TextColumn("{task.fields[stage]:<10}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}% step {task.fields[step]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[terms]}"),
    )
    with Bar(*columns) as bar:
        task = bar.add_task("", total=1.0, stage="starting", step="", terms="")

        def show(progress: Progress) -> None:
            estimate = progress.estimate
            terms = "  ".join(f"{name} {float(value):.4f}" for name, value in estimate.terms.items())
            bar.update(
                task,
                completed=progress.fraction,
                stage=estimate.stage,
                step=f"{estimate.step}/{estimate.steps}",
                terms=terms,
            )

        return deconvolve(image, settings, device=device, progress=show)
