"""How values are stored: as they are, with fewer bits, in half the bytes, or as whole numbers of steps.

A pyramid is made of the values that are stored: each level is rounded before it is halved, so that a level is the same
to the bit whether it was made with the pixels or later from the level before it. Statistics are of the exact values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bigncc.conventions import attributes_of

Array = NDArray[Any]

DType = Literal["float32", "float16", "int16", "uint8"]

FIXED: dict[str, tuple[int, int, int]] = {"int16": (2**14, 0, -(2**15)), "uint8": (127, 127, 255)}
"""Of fixed point, steps from 0 to the largest value, the code of 0, and that of NaN.

The least value, 0 and the largest are exact in both. With a power of two all values are, in whatever arithmetic a
reader decodes them: 1/32767 would halve the step and leave the last bits to the reader. Of eight bits a power of two
would waste one.
"""

MANTISSA = 23
"""Bits of a float32 behind the first."""

ROUNDED = "_QuantizeBitRoundNumberOfSignificantBits"
"""What netCDF calls the number of bits that are kept."""

SLAB = 2**15
"""Values that are encoded at a time, so that they stay in the cache."""


@dataclass(frozen=True)
class Encoding:
    """How the values of one map are stored.

    Parameters
    ----------
    dtype : {"float32", "float16", "int16", "uint8"}
        Of what is stored.
    keepbits : int or None
        Of float32, bits of the mantissa that are kept; None: all.
    largest : float
        Of fixed point, the magnitude that values reach at most.
    """

    dtype: DType = "float32"
    keepbits: int | None = None
    largest: float = 1.0

    @property
    def exact(self) -> bool:
        """Whether values are stored as they are."""
        return self.dtype == "float32" and self.keepbits is None

    @property
    def step(self) -> float:
        """Of fixed point, the distance of two values."""
        return self.largest / FIXED[self.dtype][0]

    @property
    def fill(self) -> float:
        """What is stored where there is no value."""
        return FIXED[self.dtype][2] if self.dtype in FIXED else np.nan

    @property
    def attributes(self) -> dict[str, Any]:
        """What an array says of it, as the CF conventions and netCDF do."""
        if self.dtype in FIXED:
            zero = FIXED[self.dtype][1]
            return {"scale_factor": self.step, "add_offset": -zero * self.step, "_FillValue": int(self.fill)}
        return {} if self.keepbits is None else {ROUNDED: self.keepbits}

    def stored(self, value: float) -> float:
        """Return a value in stored units, not rounded."""
        return value / self.step + FIXED[self.dtype][1] if self.dtype in FIXED else value

    def encoded(self, values: Array) -> Array:
        """Return float32 values as they are stored: rounded half to even, NaN canonical, no -0.0."""
        if self.exact:
            return values
        found = np.empty(values.shape, self.dtype)
        into, flat = found.reshape(-1), np.ascontiguousarray(values).reshape(-1)
        way = self._codes if self.dtype in FIXED else self._rounded
        for start in range(0, flat.size, SLAB):
            into[start : start + SLAB] = way(flat[start : start + SLAB])
        return found

    def decoded(self, stored: Array) -> Array:
        """Return what is stored as float32 values."""
        if self.dtype not in FIXED:
            return stored.astype(np.float32, copy=False)
        _, zero, fill = FIXED[self.dtype]
        values: Array = stored.astype(np.float32)
        values -= np.float32(zero)
        values *= np.float32(self.step)
        values[stored == fill] = np.nan
        return values

    def _codes(self, values: Array) -> Array:
        steps, zero, fill = FIXED[self.dtype]
        codes = np.rint(values * np.float32(steps / self.largest))
        codes += np.float32(zero)
        # beyond `largest` there is only what a last bit is wrong, and in int16 there is room for it
        least, most = (0, 254) if self.dtype == "uint8" else (-(2**15) + 1, 2**15 - 1)
        np.clip(codes, least, most, out=codes)
        codes[np.isnan(codes)] = fill
        return codes

    def _rounded(self, values: Array) -> Array:
        if self.dtype == "float16":
            found = values.astype(np.float16)
            found[np.isnan(values)] = np.nan
            found.view(np.uint16)[found == 0] = 0
            return found
        from numcodecs import BitRound

        rounded: Array = np.asarray(BitRound(self.keepbits).encode(values)).view(np.float32)
        rounded += np.float32(0.0)  # -0.0 becomes 0.0
        return rounded


EXACT = Encoding()

Encodings = Mapping[str, Encoding]
"""Those of maps of pixels, by name; what is not among them is stored as it is."""


def for_bounds(bounds: Mapping[str, float | None], dtype: DType, keepbits: int | None) -> dict[str, Encoding]:
    """Return how maps of pixels are stored: half floats and fixed point are for those whose largest value is known."""
    return {
        name: EXACT if bound is None and dtype != "float32" else Encoding(dtype, keepbits, bound or 1.0)
        for name, bound in bounds.items()
    }


def of_array(array: Any) -> Encoding:
    """Return how the samples of a stored array are to be understood, as it says itself."""
    attributes, dtype = attributes_of(array), str(np.dtype(array.dtype))
    if dtype in FIXED and "scale_factor" in attributes:
        return Encoding(dtype, None, float(attributes["scale_factor"]) * FIXED[dtype][0])  # type: ignore[arg-type]
    return Encoding("float16") if dtype == "float16" else EXACT


def values_of(array: Any, view: Any) -> Any:
    """Return a view of a stored array with its values."""
    how = of_array(array)
    return view if how.exact else Values(view, how)


@dataclass(frozen=True)
class Values:
    """The values of what is stored, as an array of its shape."""

    array: Any
    encoding: Encoding

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of values."""
        return np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the array."""
        return self.array.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Those of the array."""
        return self.array.chunks  # type: ignore[no-any-return]

    def __getitem__(self, key: tuple[slice, ...]) -> Array:
        return self.encoding.decoded(self.array[key])
