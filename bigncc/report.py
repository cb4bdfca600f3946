"""The picture of a result: reference, registered moving image, confidence and histogram side by side."""

import io
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bigncc import store
from bigncc.discoveries import Discoveries
from bigncc.errors import RefusedError
from bigncc.maps import described
from bigncc.sections import Row, Table
from bigncc.summary import BINS, STATUS, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bigncc.shift import Lengths
SUSPECT = "#d55e00"

UNDEFINED = "#9a9a9a"
"""The grey of pixels without a value; it is no colour of the map."""

COLOURS = "RdYlBu"

TITLE = 140
"""Characters in a line of a title."""

FEW, IN_ROW = 2, 4
"""Further maps that have a place beside the others, and how many share a row if there are more."""

MARK = b"Software\x00bigncc"
"""What a PNG of ours begins with, after its size."""

Paint = Callable[["Axes"], None]


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
    table : Table or None
        Of its sections and channels; of one stack, the images are those of its worst row.
    further : dict of ndarray, ``[y, x]``
        Block means of further maps by their names, NaN where there are none.
    shift : Vectors or None
        The shift map, where it was asked for.
    discoveries : Discoveries or None
        Of the map of p-values.
    """

    title: str
    reference: NDArray[Any] | None
    moving: NDArray[Any] | None
    ncc: NDArray[Any]
    summary: Summary
    factor: int
    table: Table | None = None
    further: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    shift: Vectors | None = None
    discoveries: Discoveries | None = None

    @property
    def names(self) -> tuple[str, str]:
        """What the two images are."""
        if self.table is None or not self.table.stacked:
            return "reference", "moving, as pulled onto the reference"
        first, second = self.table.worst.pair
        return f"section {first}", f"section {second}, as it is correlated"


def check_ours(path: Path) -> None:
    """Raise RefusedError if there is something at `path` that is no picture of bigncc."""
    if path.exists() and (not path.is_file() or MARK not in path.read_bytes()[:256]):
        message = f"{path} exists and is no picture of bigncc: a path without it is accepted"
        raise RefusedError(message)


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Draw one row for each panel and write the PNG.

    Raises
    ------
    RefusedError
        If `path` is a file that no bigncc made.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_ours(path)
    height, width = panels[0].ncc.shape
    tall = min(max(4.4 * height / width, 2.8), 8.0)
    parts = [(panel, *_beside(panel), _with_sections(panel.table)) for panel in panels]
    heights = [h for _, _, rest, table in parts for h in (*(tall + 0.8,) * (1 + len(rest)), *((3.4,) if table else ()))]
    wide = 18 + 4.9 * max(len(first) for _, first, _, _ in parts)
    figure = Figure(figsize=(wide, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    rows = iter(figure.subfigures(len(heights), 1, squeeze=False, hspace=0.04, height_ratios=heights)[:, 0])
    for panel, first, rest, table in parts:
        row = next(rows)
        row.suptitle(textwrap.fill(panel.title, TITLE), x=0.005, ha="left", fontsize=13, fontweight="bold")
        axes = row.subplots(1, 4 + len(first), width_ratios=(1, 1, 1.12, *(1.12,) * len(first), 0.85))
        for ax, image, name in zip(axes, (panel.reference, panel.moving), panel.names, strict=False):
            _grey(ax, image, name)
        _confidence(axes[2], panel)
        for ax, paint in zip(axes[3:], first, strict=False):
            paint(ax)
        _histogram(axes[-1], panel.summary)
        for those in rest:
            for ax, paint in zip_longest(next(rows).subplots(1, IN_ROW), those):
                paint(ax) if paint is not None else ax.set_axis_off()
        if table is not None:
            _sections(next(rows).subplots(), table)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, metadata={"Software": "bigncc"})
    store.put(path, picture.getvalue())


def _beside(panel: Panel) -> tuple[list[Paint], list[list[Paint]]]:
    """Return what draws further maps: a few beside the others, or all of them in rows of their own."""
    found: list[Paint] = []
    for name, values in panel.further.items():
        told = panel.discoveries.facts().values() if name == "pvalue" and panel.discoveries is not None else ()
        found.append(partial(_further, name=name, values=values, told=tuple(told)))
    if panel.shift is not None:
        found.append(partial(_shift, panel=panel, found=panel.shift))
    if len(found) <= FEW:
        return found, []
    return [], [found[i : i + IN_ROW] for i in range(0, len(found), IN_ROW)]


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


def _with_sections(table: Table | None) -> Table | None:
    """Return a table that has sections, which can be drawn one beside the other."""
    return table if table is not None and len(table.sections) > 1 else None


def _sections(axes: "Axes", table: Table) -> None:
    """Draw mean and share below the threshold of each section, and mark the bad ones."""
    several = len({(row.lag, row.time, row.channel) for row in table.rows}) > 1
    share = axes.twinx()

    def series(row: Row) -> tuple[int, int, int]:
        return row.time or 0, row.channel or 0, row.lag

    for _, rows in groupby(sorted(table.rows, key=series), series):
        every = list(rows)
        sections = [row.section for row in every]
        one = every[0]
        names = (("time", one.time), ("channel", one.channel), ("z +", one.lag or None))
        label = ", ".join(f"{name} {value}" for name, value in names if value is not None) if several else "mean NCC"
        (line,) = axes.plot(sections, [row.summary.mean for row in every], ".-", lw=1, label=label)  # type: ignore[arg-type]
        below = [100 * row.summary.below(table.threshold) for row in every]
        share.plot(sections, below, ":", lw=1, color=line.get_color())  # type: ignore[arg-type]
    for section in table.suspects:
        axes.axvline(section, color=SUSPECT, lw=6, alpha=0.25, zorder=0)
    # a name for each as long as they can be read
    for section in table.suspects[:40]:
        axes.annotate(str(section), (section, 1.0), xycoords=("data", "axes fraction"), ha="center", va="bottom")
    axes.margins(x=0.01)
    axes.set_xlabel("section z" + ("; shaded: bad sections" if table.suspects else ""))
    axes.set_ylabel("mean NCC (lines)")
    share.set_ylabel(f"% below {table.threshold:g} (dotted)")
    if several:
        axes.legend(loc="lower left", fontsize=8)


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


def _further(axes: "Axes", name: str, values: NDArray[Any], told: Iterable[str]) -> None:
    axes.set_title("\n".join(textwrap.wrap(f"{name}: {described(name).words}", 42)))
    axes.set_axis_off()
    there = values[np.isfinite(values)]
    low, high = described(name).ends or (np.percentile(there, (1, 99)) if there.size else (0.0, 1.0))
    colours = _map("PuOr" if name == "gain" else COLOURS if low < 0 < high else "viridis")
    if low < 0 < high:  # what is neither has the colour in the middle
        low, high = -max(-low, high), max(-low, high)
    picture = axes.imshow(values, cmap=colours, vmin=low, vmax=max(high, low + 1e-9), interpolation="nearest")
    axes.get_figure().colorbar(picture, ax=axes, shrink=0.95)  # type: ignore[union-attr]
    lines = [line for each in ("grey: no value", *told) for line in textwrap.wrap(each, 64)]
    axes.text(0.0, -0.02, "\n".join(lines), fontsize=9, va="top", transform=axes.transAxes)


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
