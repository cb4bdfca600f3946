"""Small pictures inside a page: PNG as addresses that hold their own bytes."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.layout import COLOURS as OF_STATUS
from bigncc.report import COLOURS

NOTHING = 0
"""The colour number of pixels without a value, through which the page is seen."""


def grey(image: NDArray[Any]) -> str:
    """Return a grey picture of an image between its extremes but for a hundredth; nothing where it is NaN."""
    there = np.isfinite(image)
    low, high = np.percentile(image[there], (0.5, 99.5)) if there.any() else (0.0, 1.0)
    ramp = np.linspace(0, 255, 255).round().astype(np.uint8)
    return _uri(_levels(image, float(low), float(max(high, low + 1e-9))), np.stack([ramp] * 3, axis=-1))


def diverging(ncc: NDArray[Any]) -> str:
    """Return a picture of coefficients in [-1, 1] in the colours of the reports; nothing where there is none."""
    return _uri(_levels(ncc, -1.0, 1.0), ramp())


def statuses(codes: NDArray[Any]) -> str:
    """Return a picture of why there is no value, in the colours of the labels; nothing where there is one."""
    palette = np.array([rgb for *rgb, _ in (OF_STATUS[1], OF_STATUS[0], *OF_STATUS[2:])], np.uint8)[1:]
    # what has a value is the colour that is not seen
    return _uri(np.where(codes == 1, NOTHING, np.where(codes == 0, 1, codes)).astype(np.uint8), palette)


def ramp(count: int = 255) -> NDArray[np.uint8]:
    """Return the colours from -1 to 1."""
    from matplotlib import colormaps

    return np.round(255 * colormaps[COLOURS](np.linspace(0, 1, count))[:, :3]).astype(np.uint8)


def hexadecimal(rgb: Any) -> str:
    """Return a colour as pages say it."""
    return "#" + "".join(f"{int(part):02x}" for part in rgb)


def _levels(image: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Return the numbers of colours, of which 0 is none."""
    there = np.isfinite(image)
    scaled = (np.where(there, image, low).astype(np.float64) - low) * (254 / (high - low))
    return np.where(there, np.clip(np.round(scaled), 0, 254) + 1, NOTHING).astype(np.uint8)


def _uri(numbers: NDArray[np.uint8], palette: NDArray[np.uint8]) -> str:
    """Return a picture of numbers of colours, the first of which after `NOTHING` is the palette's first."""
    from PIL import Image

    picture, file = Image.fromarray(np.ascontiguousarray(numbers)), io.BytesIO()
    picture.putpalette([128, 128, 128, *palette.ravel().tolist()])
    picture.save(file, "PNG", optimize=True, transparency=NOTHING)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
