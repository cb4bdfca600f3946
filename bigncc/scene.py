"""What neuroglancer is told of a result: layers, colours, units and where to look, as the state that its address holds.

A viewer counts from the lower corner of a voxel and OME-Zarr from its centre; whoever opens an OME-Zarr image shifts it
by half a voxel, so that here pixel 0 of a result lies at `Frame.origin` and not half a pixel beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import numpy as np

from bigncc.encoding import EXACT, FIXED, Encoding
from bigncc.errors import InputError
from bigncc.layout import COLOURS, Layout
from bigncc.notation import METRES
from bigncc.report import UNDEFINED
from bigncc.tiles import Shape

VIEWER = "https://neuroglancer-demo.appspot.com/"
"""Where links are opened: the public neuroglancer, which is a page that runs in the browser of whoever opens it."""

SECONDS = {"second": 1.0, "millisecond": 1e-3, "microsecond": 1e-6, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
"""Units of time, as OME-Zarr writes them."""

DISPLAYED = ("x", "y", "z", "c", "t")
"""Axes in the order of a viewer, which shows the first one from left to right and the second one downwards."""

PANEL = 360
"""Pixels of a panel on a small screen: a result that is looked at as a whole fits into it."""

SIDE = 300
"""Pixels of the column with the threshold and the words of the status."""

THRESHOLD = {"type": "shaderControl", "layer": "confidence", "control": "threshold"}
"""The slider, where it can be seen."""

DIVERGING = (
    "a50026", "d73027", "f46d43", "fdae61", "fee090", "ffffbf", "e0f3f8", "abd9e9", "74add1", "4575b4", "313695",
)  # fmt: skip
"""The colours of the report's map, RdYlBu of ColorBrewer, from -1 to 1."""

GREY = """#uicontrol invlerp normalized
void main() {
  float value = float(toRaw(getDataValue()));
  // neither NaN nor infinite
  if (!(abs(value) <= 3.4e38)) { emitTransparent(); return; }
  emitGrayscale(normalized());
}
"""

CONFIDENCE = """// pixels above the threshold let the reference through
#uicontrol float threshold slider(min=-1, max=1, default=1, step=0.01)
const vec3 colours[11] = vec3[11](%(colours)s);
void main() {
  float r = %(value)s;
  // no value
  if (!(r >= -1.001 && r <= 1.001)) { emitRGB(%(undefined)s); return; }
  if (r > threshold) { emitTransparent(); return; }
  float place = clamp((r + 1.0) * 5.0, 0.0, 10.0);
  int below = min(int(place), 9);
  emitRGB(mix(colours[below], colours[below + 1], place - float(below)));
}
"""

Kind = Literal["image", "confidence", "status"]
Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Frame:
    """Physical coordinates of a result.

    Parameters
    ----------
    axes : tuple of str
        Of the result.
    shape : tuple of int
        Of the result.
    scale, units : tuple
        Per axis the extent of a pixel in metres or seconds, or in a unit that has no name.
    origin : tuple of float
        Per axis, where the centre of pixel 0 lies, in pixels.
    """

    axes: tuple[str, ...]
    shape: Shape
    scale: tuple[float, ...]
    units: tuple[str, ...]
    origin: tuple[float, ...]


@dataclass(frozen=True)
class Layer:
    """Something to look at.

    Parameters
    ----------
    name : str
        What it is called.
    kind : {"image", "confidence", "status"}
        How it is coloured.
    path : str
        Address of its Zarr group or array, or its end, after that of the scene.
    matrix : tuple of tuple of float
        Per axis of the result what coordinates of the source, and 1, add to it.
    scale : tuple of float
        Per axis the extent of a pixel that the source gives itself, in metres or seconds; by default it gives none.
    zarr : int
        Version of its format.
    window : tuple of float
        Of an image, the grey levels that are black and white.
    encoding : Encoding
        Of confidence, how it is stored.
    legend : str
        Of the status, where its words are, after the address of the scene; "" for nowhere.
    """

    name: str
    kind: Kind
    path: str
    matrix: Rows
    scale: tuple[float, ...] = ()
    zarr: int = 3
    window: tuple[float, float] = (0.0, 1.0)
    encoding: Encoding = EXACT
    legend: str = ""


@dataclass(frozen=True)
class Scene:
    """A result as it is looked at: where it lies, and its layers."""

    frame: Frame
    layers: tuple[Layer, ...]


def frame_of(layout: Layout) -> Frame:
    """Return the physical coordinates of a result."""
    known = [metric(unit) for unit in layout.units]
    scale = tuple(s * each for s, (each, _) in zip(layout.scale, known, strict=True))
    origin = tuple(t / s for t, s in zip(layout.translation, layout.scale, strict=True))
    return Frame(layout.axes, layout.shape, scale, tuple(unit for _, unit in known), origin)


def metric(unit: str | None) -> tuple[float, str]:
    """Return how much of a unit that the viewer knows one of a file is."""
    if unit in METRES:
        return METRES[unit], "m"
    return (SECONDS[unit], "s") if unit in SECONDS else (1.0, "")


def placed(
    layout: Layout,
    scale: Sequence[float],
    translation: Sequence[float],
    *,
    pixels: tuple[Any, Any] | None = None,
    first: Sequence[float] | float = 0.0,
) -> Rows:
    """Return where an image lies in the coordinates of a result.

    Parameters
    ----------
    layout : Layout
        Of the result.
    scale, translation : sequence of float
        Of the grid on which the image lies, in the units of the result.
    pixels : tuple of array, optional
        Matrix and offset along the last axes from a pixel of the image to that grid; the same pixel by default.
    first : float or sequence of float
        Coordinates of the centre of the image's pixel 0, as the viewer opens it.
    """
    n = len(layout.axes)
    matrix, offset = np.eye(n), np.zeros(n)
    if pixels is not None:
        inner = len(pixels[1])
        matrix[n - inner :, n - inner :], offset[n - inner :] = pixels
    own, grid, start = (np.asarray(each, float) for each in (layout.scale, scale, translation))
    matrix = matrix * (grid / own)[:, None]
    shift = start / own + offset * grid / own - matrix @ np.broadcast_to(np.asarray(first, float), n)
    return tuple((*row, float(more)) for row, more in zip(matrix.tolist(), shift, strict=True))


def state(
    scene: Scene, address: str, position: Sequence[float] | None = None, extent: Sequence[float] | None = None
) -> dict[str, Any]:
    """Return the state of a viewer that shows a scene.

    Parameters
    ----------
    scene : Scene
        What is shown.
    address : str
        What the paths of its layers begin with.
    position : sequence of float, optional
        Pixel of the result to look at, one number for each axis; its middle by default.
    extent : sequence of float, optional
        Pixels of the result to look at, one number for each axis; all of them by default.
    """
    frame = scene.frame
    dims = [frame.axes.index(name) for name in DISPLAYED if name in frame.axes]
    if position is None:
        # of channels and times the first one
        position = [
            (n - 1) / 2 if a in "yx" else n // 2 if a == "z" else 0
            for a, n in zip(frame.axes, frame.shape, strict=True)
        ]
    shown = [frame.axes[i] for i in dims if frame.axes[i] in "xyz"]
    names = [layer.name for layer in scene.layers]
    return {
        "dimensions": {frame.axes[i]: [frame.scale[i], frame.units[i]] for i in dims},
        "displayDimensions": shown,
        "position": [frame.origin[i] + position[i] for i in dims],
        "crossSectionScale": _zoom(frame, extent or frame.shape),
        "layers": [_layer(layer, frame, address) for layer in scene.layers],
        "layout": {"type": "row", "children": [_panel(panel) for panel in _panels(names)]},
        "toolPalettes": {"Confidence": {"side": "right", "row": 0, "size": SIDE, "flex": 0.2, "tools": [THRESHOLD]}},
        "crossSectionBackgroundColor": "#000000",
        "showDefaultAnnotations": False,
    }


def link(
    scene: Scene, base_url: str, position: Sequence[float] | None = None, extent: Sequence[float] | None = None
) -> str:
    """Return an address that shows a scene whose files are hosted somewhere; nothing is served for it.

    Parameters
    ----------
    scene : Scene
        What is shown.
    base_url : str
        Where the folder is hosted that the paths of the layers begin in: http(s)://, s3:// or gs://.
    position, extent : sequence of float, optional
        As for `state`.

    Raises
    ------
    InputError
        If `base_url` is no such address.
    """
    if not base_url.startswith(("https://", "http://", "s3://", "gs://")) or any(c in base_url for c in "|#? "):
        message = (
            f"--link is {base_url!r}: the address of a hosted folder, with http(s)://, s3:// or gs://, is accepted"
        )
        raise InputError(message)
    found = json.dumps(state(scene, f"{base_url.rstrip('/')}/", position, extent), separators=(",", ":"))
    return f"{VIEWER}#!{quote(found, safe='~@$()*!+=:;,.?/')}"


def _zoom(frame: Frame, extent: Sequence[float]) -> float:
    """Return how many of the smallest pixels one of the screen shows, so that an extent fits into a panel."""
    sides = [(frame.scale[i] * extent[i], frame.scale[i]) for i, name in enumerate(frame.axes) if name in "xy"]
    smallest = min(frame.scale[i] for i, name in enumerate(frame.axes) if name in "xyz")
    return max(max(side for side, _ in sides) / smallest / PANEL, 0.05)


def _panels(names: Sequence[str]) -> Iterable[list[str]]:
    """Return which layers are beside each other: images alone, and what was found on top of the reference."""
    found = [name for name in ("confidence", "status") if name in names]
    images = [name for name in names if name not in found]
    return [*([name] for name in images), [*(["reference"] if "reference" in images else []), *found]]


def _panel(layers: list[str]) -> dict[str, Any]:
    # what several layers are called takes more room
    return {"type": "viewer", "layers": layers, "layout": "xy", "flex": 1.2 if len(layers) > 1 else 1}


def _layer(layer: Layer, frame: Frame, address: str) -> dict[str, Any]:
    place = layer.path if "://" in layer.path else f"{address}{layer.path}"
    space = {name: [s, unit] for name, s, unit in zip(frame.axes, frame.scale, frame.units, strict=True)}
    source: dict[str, Any] = {
        "url": f"{place}/|zarr{layer.zarr}:",
        "transform": {"outputDimensions": space, "matrix": _physical(layer, frame)},
    }
    if layer.kind == "status":
        codes = [code for code, colour in enumerate(COLOURS) if colour[3]]
        legend = [f"{address}{layer.legend}/|neuroglancer-precomputed:"] if layer.legend else []
        return {
            "type": "segmentation",
            "name": layer.name,
            "source": [source, *legend],
            "segments": list(map(str, codes)),
            "segmentColors": {str(code): "#{:02x}{:02x}{:02x}".format(*COLOURS[code]) for code in codes},
            "selectedAlpha": 1,
            "notSelectedAlpha": 0,
            "hideSegmentZero": False,
            "hoverHighlight": False,
            "segmentQuery": "<id",
            "panels": [{"tabs": ["segments"], "side": "right", "row": 1, "size": SIDE, "flex": 1.0}],
        }
    shown: dict[str, Any] = {"type": "image", "name": layer.name, "source": source, "opacity": 1, "tab": "rendering"}
    if layer.kind == "confidence":
        return shown | {"shader": confidence_shader(layer.encoding), "codeVisible": False}
    return shown | {"shader": GREY, "shaderControls": {"normalized": {"range": list(layer.window)}}}


def _physical(layer: Layer, frame: Frame) -> list[list[float]]:
    """Return a layer's matrix as neuroglancer wants it: of physical coordinates, but for what is added in pixels."""
    own = layer.scale or (1.0,) * len(frame.axes)
    rows = zip(layer.matrix, frame.scale, strict=True)
    return [[*(c * scale / s for c, s in zip(row[:-1], own, strict=True)), row[-1]] for row, scale in rows]


def confidence_shader(encoding: Encoding = EXACT) -> str:
    """Return how coefficients are coloured, and what is none; `encoding` says how they are stored."""
    value = "float(toRaw(getDataValue()))"
    if encoding.dtype == "float16":
        message = "output.encoding is float16, which neuroglancer does not read: float32, int16 or uint8 is accepted"
        raise InputError(message)
    if encoding.dtype in FIXED:
        _, zero, fill = FIXED[encoding.dtype]
        code = value
        value = f"{code} == {fill:.1f} ? 2.0 : ({code} - {zero:.1f}) * {encoding.step:.9g}"
    colours = ", ".join(map(_colour, DIVERGING))
    return CONFIDENCE % {"colours": colours, "value": value, "undefined": _colour(UNDEFINED.lstrip("#"))}


def _colour(code: str) -> str:
    return "vec3({:.6f}, {:.6f}, {:.6f})".format(*(byte / 255 for byte in bytes.fromhex(code)))
