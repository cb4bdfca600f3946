"""The window: which samples are correlated for each pixel, and when they give no value."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from bigncc.errors import InputError

Border = Literal["shrink", "valid", "reflect", "mirror", "nearest", "constant"]
BORDERS: tuple[Border, ...] = get_args(Border)


@dataclass(frozen=True)
class Window:
    """A box window and its rules.

    Parameters
    ----------
    size : int or tuple of int
        Odd number of pixels per axis. An int means the trailing ``(y, x)``; three numbers mean
        ``(z, y, x)``. Axes in front of these are batches.
    border : {'shrink', 'valid', 'reflect', 'mirror', 'nearest', 'constant'}
        What the window does at the image's edge: it is cut (``shrink``), it has no value
        (``valid``), or the image is continued with the meaning of :mod:`scipy.ndimage`.
    cval : float
        Grey level beyond the edge for ``border='constant'``; such samples are valid.
    min_valid_fraction : float
        Share of the samples that a window could have which must be valid, in [0, 1]; two at least.
    flat : float
        Value of a window without contrast: 0.0 or NaN.
    min_std : float or tuple of float
        Standard deviation (grey levels, population) of reference and moving below which a window
        counts as flat.

    Raises
    ------
    InputError
        If a number is outside of what is described here.
    """

    size: int | tuple[int, ...] = 7
    border: Border = "shrink"
    cval: float = 0.0
    min_valid_fraction: float = 0.5
    flat: float = 0.0
    min_std: float | tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        size = (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)
        std = (self.min_std,) * 2 if isinstance(self.min_std, (int, float)) else tuple(self.min_std)
        object.__setattr__(self, "size", size)
        # the NaN of YAML has a sign, and so has -0.0
        object.__setattr__(self, "flat", 0.0 if self.flat == 0.0 else math.nan if math.isnan(self.flat) else self.flat)
        object.__setattr__(self, "min_std", tuple(float(value) for value in std))
        self._check(size)

    def _check(self, size: tuple[int, ...]) -> None:
        if len(size) not in (2, 3):
            message = f"window.size is {list(size)}: 2 numbers (y, x) or 3 numbers (z, y, x) are accepted"
            raise InputError(message)
        if not all(isinstance(n, int) and n > 0 and n % 2 for n in size) or math.prod(size) < 2:
            message = f"window.size is {list(size)}: odd whole numbers of at least 1, not all 1, are accepted"
            raise InputError(message)
        if math.prod(size) >= 2**31:
            message = f"window.size is {list(size)}: fewer than 2^31 samples are accepted"
            raise InputError(message)
        if self.border not in BORDERS:
            message = f"window.border is {self.border!r}: one of {', '.join(BORDERS)} is accepted"
            raise InputError(message)
        if not 0.0 <= self.min_valid_fraction <= 1.0:
            message = f"window.min_valid_fraction is {self.min_valid_fraction}: a number in [0, 1] is accepted"
            raise InputError(message)
        if not (self.flat == 0.0 or math.isnan(self.flat)):
            message = f"window.flat is {self.flat}: 0 or nan is accepted"
            raise InputError(message)
        if not math.isfinite(self.cval):
            message = f"window.cval is {self.cval}: a finite grey level is accepted"
            raise InputError(message)
        if len(self.deviations) != 2 or not all(0.0 <= std < math.inf for std in self.deviations):
            message = f"window.min_std is {self.min_std}: two finite numbers (reference, moving) >= 0 are accepted"
            raise InputError(message)

    @property
    def shape(self) -> tuple[int, ...]:
        """Size per windowed axis, ``([z,] y, x)``."""
        assert isinstance(self.size, tuple)  # __post_init__ made it one
        return self.size

    @property
    def deviations(self) -> tuple[float, ...]:
        """``min_std`` of reference and moving."""
        assert isinstance(self.min_std, tuple)  # __post_init__ made it one
        return self.min_std

    @property
    def ndim(self) -> int:
        """Number of windowed axes: 2 or 3."""
        return len(self.shape)

    @property
    def radius(self) -> tuple[int, ...]:
        """Half size per windowed axis: what a block needs around it."""
        return tuple(n // 2 for n in self.shape)


def as_window(window: "int | tuple[int, ...] | Window") -> Window:
    """Return `window` itself, or the default `Window` of that size."""
    return window if isinstance(window, Window) else Window(window)


def several(window: Window, sizes: Iterable[int | tuple[int, ...]]) -> tuple[Window, ...]:
    """Return a window and those of other sizes with the same rules.

    Raises
    ------
    InputError
        If a size is there twice, or has other axes.
    """
    windows = (window, *(replace(window, size=size) for size in sizes))
    shapes = [each.shape for each in windows]
    if len(set(shapes)) < len(shapes) or len(set(map(len, shapes))) > 1:
        message = f"windows have sizes {', '.join(str(list(shape)) for shape in shapes)}: sizes of as many axes each, "
        message += "each once, are accepted"
        raise InputError(message)
    return windows


def check_shapes(
    reference: tuple[int, ...], moving: tuple[int, ...], window: Window, *, same_shape: bool, named: bool = False
) -> None:
    """Refuse a pair of shapes that cannot be correlated.

    Raises
    ------
    InputError
        With both shapes, or the window's and the image's.
    """
    ndim = window.ndim
    for name, shape in (("reference", reference), ("moving", moving)):
        if len(shape) < ndim:
            message = f"the {name} image has shape {list(shape)}: at least {ndim} axes are accepted with this window"
            raise InputError(message)
        if len(shape) > 2 and shape[-1] in (3, 4) and not named:
            message = (
                f"the {name} image has shape {list(shape)}, which looks like a colour image taken for a stack: "
                "channel_axis=-1, or one channel of it, is accepted"
            )
            raise InputError(message)
    differ = reference != moving if same_shape else reference[:-ndim] != moving[:-ndim]
    if differ or len(reference) != len(moving):
        what = "equal shapes" if same_shape else "equal axes in front of the window's"
        message = f"the images have shapes {list(reference)} and {list(moving)}: {what} are accepted"
        raise InputError(message)
    for size, length in zip(window.shape, reference[-ndim:], strict=True):
        if 0 < length < size:
            message = (
                f"window.size is {list(window.shape)}, larger than the image of {list(reference[-ndim:])}: "
                "a window that fits into the image is accepted"
            )
            raise InputError(message)
