"""The window: which samples are correlated for each pixel, and when they give no value."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Literal, get_args

from bigncc.errors import InputError
from bigncc.weights import DRAWN, TRUNCATE, WEIGHTS, Table, Weights, drawn, gaussian_size, table_of, taps

Border = Literal["shrink", "valid", "reflect", "mirror", "nearest", "constant"]
BORDERS: tuple[Border, ...] = get_args(Border)

SIZE = (7, 7)
"""What a window has without a word about it."""


@dataclass(frozen=True)
class Window:
    """Which samples are correlated, what each of them counts, and when there is no value.

    Parameters
    ----------
    size : int or tuple of int, optional
        Odd number of pixels per axis. An int means the trailing ``(y, x)``; three numbers mean
        ``(z, y, x)``. Axes in front of these are batches. By default 7, or what `sigma` or an array as
        `footprint` says.
    weights : {'box', 'gaussian', 'footprint'}
        What a sample counts: all the same, less away from the middle, or as `footprint` says.
    sigma : float or tuple of float, optional
        Standard deviation of a Gaussian in pixels, along all axes or each; 0 along an axis means that pixel alone.
    truncate : float
        Standard deviations at which a Gaussian is cut: its size is ``2 * int(truncate * sigma + 0.5) + 1``, as
        `scipy.ndimage.gaussian_filter` has it.
    footprint : {'disk', 'ball', 'octagon'} or array_like, optional
        A shape of the window's size, or a weight of at least 0 for each sample of the window.
    border : {'shrink', 'valid', 'reflect', 'mirror', 'nearest', 'constant'}
        What the window does at the image's edge: it is cut (``shrink``), it has no value
        (``valid``), or the image is continued with the meaning of :mod:`scipy.ndimage`.
    cval : float
        Grey level beyond the edge for ``border='constant'``; such samples are valid.
    min_valid_fraction : float
        Share, by weight, of the samples that a window could have which must be valid, in [0, 1]; two at least.
    flat : float
        Value of a window without contrast: 0.0 or NaN.
    min_std : float or tuple of float
        Standard deviation (grey levels, population, weighted) of reference and moving below which a window
        counts as flat.

    Raises
    ------
    InputError
        If a number is outside of what is described here, or two of them contradict each other.
    """

    size: int | tuple[int, ...] | None = None
    weights: Weights = "box"
    sigma: float | tuple[float, ...] | None = None
    truncate: float = 3.5
    footprint: Any = None
    border: Border = "shrink"
    cval: float = 0.0
    min_valid_fraction: float = 0.5
    flat: float = 0.0
    min_std: float | tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        size = (self.size, self.size) if isinstance(self.size, int) else self.size
        std = (self.min_std,) * 2 if isinstance(self.min_std, (int, float)) else tuple(self.min_std)
        # the NaN of YAML has a sign, and so has -0.0
        object.__setattr__(self, "flat", 0.0 if self.flat == 0.0 else math.nan if math.isnan(self.flat) else self.flat)
        object.__setattr__(self, "min_std", tuple(float(value) for value in std))
        self._check_weights()
        if self.weights == "gaussian":
            size = self._as_gaussian(None if size is None else tuple(size))
        elif self.footprint is not None and not isinstance(self.footprint, str):
            size = self._as_table(None if size is None else tuple(size))
        size = SIZE if size is None else tuple(size)
        object.__setattr__(self, "size", size)
        self._check(size)
        if isinstance(self.footprint, str):
            drawn(self.footprint, size)  # type: ignore[arg-type]

    def _check_weights(self) -> None:
        """Refuse words that do not go with each other."""
        if self.weights not in WEIGHTS:
            message = f"window.weights is {self.weights!r}: one of {', '.join(WEIGHTS)} is accepted"
            raise InputError(message)
        for name, of in (("sigma", "gaussian"), ("footprint", "footprint")):
            value = getattr(self, name)
            if (value is None) == (self.weights == of):
                said = f"window.weights is {self.weights} and window.{name} is {'null' if value is None else 'given'}"
                accepted = f"window.{name}" if value is None else f"window.weights={of}"
                message = f"{said}: {accepted} is accepted with it"
                raise InputError(message)
        if self.weights != "gaussian" and self.truncate != Window.truncate:
            message = f"window.truncate is {self.truncate} and window.weights {self.weights}: it belongs to gaussian"
            raise InputError(message)
        if isinstance(self.footprint, str) and self.footprint not in DRAWN:
            message = f"window.footprint is {self.footprint!r}: {', '.join(DRAWN)}, or an array, is accepted"
            raise InputError(message)

    def _as_gaussian(self, size: tuple[int, ...] | None) -> tuple[int, ...]:
        """Check `sigma`, bring it to one number per axis, and return the size that it gives."""
        given = self.sigma
        ndim = 2 if size is None else len(size)
        try:
            sigma = tuple(map(float, given if isinstance(given, (tuple, list)) else (given,) * ndim))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            sigma = ()
        if len(sigma) not in (2, 3) or not all(0.0 <= each < 2**20 for each in sigma) or not any(sigma):
            message = f"window.sigma is {given!r}: a number of pixels above 0, or 2 or 3 of 0 or more, are accepted"
            raise InputError(message)
        if not 0.0 < self.truncate <= TRUNCATE:
            message = f"window.truncate is {self.truncate}: a number above 0 and up to {TRUNCATE:g} is accepted"
            raise InputError(message)
        found = gaussian_size(sigma, self.truncate)
        if size is not None and size != found:
            message = (
                f"window.size is {list(size)}, and window.sigma {list(sigma)} with window.truncate {self.truncate:g} "
                f"gives {list(found)}: the same, or window.size=null, is accepted"
            )
            raise InputError(message)
        object.__setattr__(self, "sigma", sigma)
        return found

    def _as_table(self, size: tuple[int, ...] | None) -> tuple[int, ...]:
        """Check an array as `footprint`, and return its shape."""
        table = self.footprint if isinstance(self.footprint, Table) else table_of(self.footprint)
        if size is not None and size != table.shape:
            message = (
                f"window.size is {list(size)} and window.footprint has shape {list(table.shape)}: the same, or "
                "window.size=null, is accepted"
            )
            raise InputError(message)
        object.__setattr__(self, "footprint", table)
        return table.shape

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

    @property
    def exact(self) -> bool:
        """Whether samples count or not, so that sums of integers are integers."""
        return self.weights == "box" or (self.weights == "footprint" and self.table.flat)

    @property
    def samples(self) -> int:
        """Number of samples that count."""
        return math.prod(self.shape) if self.weights != "footprint" else int((self.table.array > 0).sum())

    @property
    def table(self) -> Table:
        """The weights of a footprint."""
        assert self.footprint is not None
        return self.footprint if isinstance(self.footprint, Table) else _drawn(self.footprint, self.shape)

    @property
    def taps(self) -> tuple[Any, ...]:
        """The weights of a Gaussian along each axis, from the middle outwards."""
        assert isinstance(self.sigma, tuple)  # __post_init__ made it one
        return tuple(map(_taps, self.sigma, self.radius))

    @property
    def request(self) -> dict[str, Any]:
        """What makes two windows the same; a box is described as it always was."""
        words = asdict(self) | ({"footprint": self.footprint.digest} if isinstance(self.footprint, Table) else {})
        unsaid = {"box": {"weights", "sigma", "truncate", "footprint"}, "gaussian": {"footprint"}}
        left_out = unsaid.get(self.weights, {"sigma", "truncate"})
        return {name: value for name, value in words.items() if name not in left_out}


_drawn, _taps = lru_cache(drawn), lru_cache(taps)


def as_window(window: "int | tuple[int, ...] | Window") -> Window:
    """Return `window` itself, or the default `Window` of that size."""
    return window if isinstance(window, Window) else Window(window)


def check_box(window: Window, name: str) -> None:
    """Raise InputError for a window of other weights, where a map knows only boxes."""
    if window.weights != "box":
        message = f"maps has {name} and window.weights is {window.weights}: box is accepted with it"
        raise InputError(message)


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
