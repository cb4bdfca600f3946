"""The picture of a result: reference, registered moving image, confidence and histogram side by side."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bigncc import store
from bigncc.errors import RefusedError
from bigncc.summary import BINS, STATUS, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bigncc.shift import Lengths

UNDEFINED = "#9a9a9a"
"""The grey of pixels without a value; it is no colour of the map."""

COLOURS = "RdYlBu"

TITLE = 140
"""Characters in a line of a title."""

MARK = b"Software\x00bigncc"
"""What a PNG of ours begins with, after its size."""


@dataclass(frozen=True)
class Vectors:
    """A shift map at the size of a picture: mean displacements of neighbouring nodes that have an uncertainty.

    Parameters
    ----------
    y, x : ndarray, one dimension
        Where they are, in pixels of the picture.
    dy, dx : ndarray, ``[y, x]``
        Displacements in pixels of the image, NaN where there is none.
    lengths : Lengths
        Of all nodes.
    """

    y: NDArray[Any]
    x: NDArray[Any]
    dy: NDArray[Any]
    dx: NDArray[Any]
    lengths: "Lengths"


@dataclass(frozen=True)
class Panel:
    """One result at the size of a picture.

    Parameters
    ----------
    title : str
        What was done with the moving image.
    reference, moving : ndarray or None, ``[y, x]``
        Block means, NaN where there is no sample; None where the images cannot be read any more.
    ncc : ndarray, ``[y, x]``
        Block means of the pixels whose status is 1, NaN where there is none.
    summary : Summary
        Of all pixels.
    factor : int
        Pixels of the image per pixel of the picture.
    gain : ndarray or None, ``[y, x]``
        Block means of the gain, NaN where there is none; None where it was not asked for.
    shift : Vectors or None
        The shift map, where it was asked for.
    """

    title: str
    reference: NDArray[Any] | None
    moving: NDArray[Any] | None
    ncc: NDArray[Any]
    summary: Summary
    factor: int
    gain: NDArray[Any] | None = None
    shift: Vectors | None = None

    @property
    def further(self) -> int:
        """How many further maps there are."""
        return (self.gain is not None) + (self.shift is not None)


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Draw one row for each panel and write the PNG.

    Raises
    ------
    RefusedError
        If `path` is a file that no bigncc made.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if path.exists() and (not path.is_file() or MARK not in path.read_bytes()[:256]):
        message = f"{path} exists and is no picture of bigncc: a path without it is accepted"
        raise RefusedError(message)
    height, width = panels[0].ncc.shape
    tall = min(max(4.4 * height / width, 2.8), 8.0)
    wide = 18 + 4.9 * max(panel.further for panel in panels)
    figure = Figure(figsize=(wide, (tall + 0.8) * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subfigures(len(panels), 1, squeeze=False, hspace=0.04)[:, 0]
    for row, panel in zip(rows, panels, strict=True):
        row.suptitle(textwrap.fill(panel.title, TITLE), x=0.005, ha="left", fontsize=13, fontweight="bold")
        axes = row.subplots(1, 4 + panel.further, width_ratios=(1, 1, 1.12, *(1.12,) * panel.further, 0.85))
        _grey(axes[0], panel.reference, "reference")
        _grey(axes[1], panel.moving, "moving, as pulled onto the reference")
        _confidence(axes[2], panel)
        if panel.gain is not None:
            _gain(axes[3], panel.gain)
        if panel.shift is not None:
            _shift(axes[-2], panel, panel.shift)
        _histogram(axes[-1], panel.summary)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, metadata={"Software": "bigncc"})
    store.put(path, picture.getvalue())


def facts(summary: Summary) -> dict[str, str]:
    """Return the main statistics as words."""
    share = 100 * summary.valid / max(1, summary.pixels)
    found = {"pixels": f"{summary.pixels}, {share:.1f} % of them with a value"}
    if summary.valid:
        found["mean NCC"] = f"{summary.mean:.4f}, standard deviation {summary.std:.4f}"
        found["range"] = f"{summary.low:.4f} to {summary.high:.4f}"
        found["quantiles"] = ", ".join(f"{int(100 * q)} %: {summary.quantile(q):.2f}" for q in (0.05, 0.25, 0.5, 0.75))
    for code, count in enumerate(summary.counts):
        if count and code != 1:
            found[STATUS[code]] = f"{count} pixels"
    return found


def _grey(axes: "Axes", image: NDArray[Any] | None, title: str) -> None:
    axes.set_title(title)
    axes.set_axis_off()
    if image is None:
        axes.text(0.5, 0.5, "the image cannot be read any more", ha="center", va="center")
        return
    seen = image[np.isfinite(image)]
    low, high = np.percentile(seen, (0.5, 99.5)) if seen.size else (0.0, 1.0)
    axes.set_facecolor(UNDEFINED)
    axes.imshow(image, cmap=_map("gray"), vmin=low, vmax=max(high, low + 1e-9), interpolation="nearest")


def _confidence(axes: "Axes", panel: Panel) -> None:
    scale = f", means of {panel.factor} x {panel.factor} pixels" if panel.factor > 1 else ""
    axes.set_title(f"confidence: NCC{scale}")
    axes.set_axis_off()
    picture = axes.imshow(panel.ncc, cmap=_map(COLOURS), vmin=-1, vmax=1, interpolation="nearest")
    axes.get_figure().colorbar(picture, ax=axes, ticks=[-1, -0.5, 0, 0.5, 1], shrink=0.95)  # type: ignore[union-attr]
    axes.text(0.0, -0.02, "grey: no value", fontsize=9, va="top", transform=axes.transAxes)


def _gain(axes: "Axes", gain: NDArray[Any]) -> None:
    axes.set_title("gain: NCC after minus before")
    axes.set_axis_off()
    picture = axes.imshow(gain, cmap=_map("PuOr"), vmin=-1, vmax=1, interpolation="nearest")
    axes.get_figure().colorbar(picture, ax=axes, ticks=[-1, -0.5, 0, 0.5, 1], shrink=0.95)  # type: ignore[union-attr]
    axes.text(0.0, -0.02, "grey: no value before or after", fontsize=9, va="top", transform=axes.transAxes)


def _shift(axes: "Axes", panel: Panel, found: Vectors) -> None:
    """Draw vectors over the reference, or over nothing, each as long as its cell where it is as long as most are."""
    _grey(axes, panel.reference if panel.reference is not None else np.zeros(panel.ncc.shape), "where it still slips")
    for image in axes.get_images():
        image.set_alpha(0.35)
    lengths = np.hypot(found.dy, found.dx)
    there = np.isfinite(lengths)
    axes.text(0.0, -0.02, "\n".join(found.lengths.facts().values()), fontsize=9, va="top", transform=axes.transAxes)
    if not there.any():
        return
    cell = min(float(np.diff(each).min()) if each.size > 1 else max(panel.ncc.shape) / 4 for each in (found.y, found.x))
    most = max(float(np.percentile(lengths[there], 95)), 1e-6)
    y, x = np.meshgrid(found.y, found.x, indexing="ij")
    arrows = axes.quiver(
        x[there], y[there], found.dx[there], found.dy[there], lengths[there], angles="xy", scale_units="xy",
        scale=most / cell, cmap=_map("turbo"), width=0.006, clim=(0, most),
    )  # fmt: skip
    axes.get_figure().colorbar(arrows, ax=axes, shrink=0.95, label="residual shift, pixels")  # type: ignore[union-attr]


def _histogram(axes: "Axes", summary: Summary) -> None:
    edges = np.linspace(-1, 1, BINS + 1)
    share = np.array(summary.histogram) / max(1, summary.valid)
    centres = (edges[1:] + edges[:-1]) / 2
    axes.bar(centres, 100 * share, width=2 / BINS, color=_map(COLOURS)((centres + 1) / 2), edgecolor="#555555", lw=0.3)
    axes.set_xlim(-1, 1)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.set_xlabel("NCC of pixels with a value")
    axes.set_ylabel("% of them")
    lines = [f"{name}: {value}" for name, value in facts(summary).items()]
    # the upper part of the plot is kept free for the words
    axes.set_ylim(0, 165 * max(float(share.max()), 1 / BINS))
    axes.text(0.03, 0.97, "\n".join(lines), fontsize=8.5, va="top", transform=axes.transAxes)
    axes.set_title("histogram")


def _map(name: str) -> Any:
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad=UNDEFINED)
