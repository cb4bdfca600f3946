"""What the CF conventions say of samples, among the attributes of an array: which of them are none, and packing."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from bigncc.errors import InputError

LEVELS = ("_FillValue", "missing_value")
PACKING = ("scale_factor", "add_offset")


def attributes_of(array: Any) -> dict[str, Any]:
    """Return the attributes of a stored array, none where a file has something else in their place."""
    found = array.metadata.attributes
    return dict(found) if isinstance(found, Mapping) else {}


def left_out(attributes: Mapping[str, Any], dtype: np.dtype[Any], place: str) -> tuple[float, ...]:
    """Return the grey levels, as they are stored, that mean: no sample.

    Correlation does not depend on a positive factor and an offset, so packed samples are taken as they are stored.

    Raises
    ------
    InputError
        If the samples that are meant would correlate otherwise than those that are stored.
    """
    factor, unsigned = attributes.get("scale_factor", 1), attributes.get("_Unsigned")
    if not (isinstance(factor, Real | np.number) and 0 < factor < np.inf):  # type: ignore[operator]
        message = f"{place} has scale_factor {factor!r}, and r has its sign: a positive number is accepted"
        raise InputError(message)
    if unsigned is not None and dtype.kind in "iu" and (str(unsigned).lower() == "true") != (dtype.kind == "u"):
        message = (
            f"{place} has _Unsigned {unsigned!r} and dtype {dtype}: samples of the type that is meant are accepted"
        )
        raise InputError(message)
    levels = (level for name in LEVELS for level in _levels(name, attributes.get(name), place))
    # what is not a number is no sample in any case
    return tuple(dict.fromkeys(level for level in levels if not math.isnan(level)))


def _levels(name: str, value: Any, place: str) -> tuple[float, ...]:
    if isinstance(value, str):
        return (_decoded(name, value, place),)
    return tuple(float(level) for level in np.ravel(() if value is None else value) if isinstance(level, np.number))


def _decoded(name: str, text: str, place: str) -> float:
    """Return the number that a text means: xarray writes floats of Zarr v3 as base64 of their bytes."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return float(struct.unpack("<d", base64.b64decode(text, validate=True))[0])
    except (ValueError, struct.error):
        message = f"{place} has {name} {text!r}: a number is accepted"
        raise InputError(message) from None
