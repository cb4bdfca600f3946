"""What both images are filtered by before they are correlated: band passes, and one contrast everywhere."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from bigncc.errors import InputError

Kind = Literal["none", "laplacian_of_gaussian", "difference_of_gaussians", "local_standardisation"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Numbers = float | tuple[float, ...]

RATIO = 1.6
"""Of the sigmas whose difference comes closest to a Laplacian (Marr and Hildreth)."""

FARTHEST = 1000
"""Pixels that a filter may reach: so many terms leave a sum twelve digits, and beyond it a coarser level does."""


@dataclass(frozen=True)
class Prefilter:
    """A filter of both images, the moving one as it is registered, before they are correlated.

    Parameters
    ----------
    kind : {'none', 'laplacian_of_gaussian', 'difference_of_gaussians', 'local_standardisation'}
        Which one; see Notes.
    sigma : float or tuple of float, optional
        Standard deviation of the Gaussian in pixels, one for all axes of the window or one for each; 0 leaves an axis
        as it is. For ``difference_of_gaussians`` that of the narrow one.
    sigma_wide : float or tuple of float, optional
        That of the wide one for ``difference_of_gaussians``; by default 1.6 times `sigma`, which comes closest to a
        Laplacian [1]_.
    size : int or tuple of int, optional
        For ``local_standardisation`` a box instead of a Gaussian: odd pixels, for all axes or for each.
    truncate : float
        The Gaussian ends that many standard deviations from its middle, as in :mod:`scipy.ndimage`.

    Raises
    ------
    InputError
        If a number is outside of what is described here, or says nothing for this kind.

    Notes
    -----
    With f the image, v 1 where a sample is valid and 0 where it is not or where the image ends, and g the sampled
    Gaussian, all filters are made of normalised convolutions [2]_, ``G(f) = sum g v f / sum g v``:

    * ``difference_of_gaussians``: ``G_narrow(f) - G_wide(f)``.
    * ``laplacian_of_gaussian``: ``sum h v (f - G(f)) / sum g v``, where h is the sum over the axes of the second
      derivative of g, ``(x^2 / sigma^4 - 1 / sigma^2) g`` [1]_, and ``G(f)`` that of the middle. It is what
      :func:`scipy.ndimage.gaussian_laplace` gives where all is valid, but for what that makes of a constant, as the
      sum of h is not quite 0 (-0.00014 in two dimensions for sigma 1 and truncate 4); here a constant gives 0, also
      beside samples that do not count (differential convolution of [2]_).
    * ``local_standardisation``: ``(f - G(f)) / sqrt(G(f^2) - G(f)^2)``, G with a Gaussian or a box; 0 where there is no
      contrast, that is where the variance is at most 1e-12 of the mean square about the image's pivot.

    What is filtered is valid where the sample in the middle is, so that a mask stays what it is: nothing is filled in,
    and no more is lost. One NaN spoils nothing but itself. Where the filter's answer is below 1e-12 of the grey level
    about the pivot, it is rounding, and is 0: what is flat stays flat. `Window.min_std` and `Window.cval` are in units
    of what is filtered: grey levels per square pixel, grey levels, and standard deviations.

    References
    ----------
    .. [1] D. Marr and E. Hildreth, "Theory of edge detection", Proceedings of the Royal Society B 207, 1980.
    .. [2] H. Knutsson and C.-F. Westin, "Normalized and differential convolution", CVPR, 1993.
    """

    kind: Kind = "none"
    sigma: Numbers | None = None
    sigma_wide: Numbers | None = None
    size: int | tuple[int, ...] | None = None
    truncate: float = 4.0

    def __post_init__(self) -> None:
        for name in ("sigma", "sigma_wide", "size"):
            if isinstance(value := getattr(self, name), Iterable) and not isinstance(value, str):
                object.__setattr__(self, name, tuple(value))
        if self.kind not in KINDS:
            message = f"prefilter.kind is {self.kind!r}: one of {', '.join(KINDS)} is accepted"
            raise InputError(message)
        self._check_words()
        self._check_numbers()

    def _check_words(self) -> None:
        """Refuse what is missing, and what would say nothing."""
        known = {
            "none": (),
            "laplacian_of_gaussian": ("sigma", "truncate"),
            "difference_of_gaussians": ("sigma", "sigma_wide", "truncate"),
            "local_standardisation": ("sigma", "truncate") if self.size is None else ("size",),
        }[self.kind]
        needed = "size" if self.size is not None else "sigma"
        if self.kind != "none" and getattr(self, needed) is None:
            more = " or prefilter.size" if self.kind == "local_standardisation" else ""
            message = f"prefilter.kind is {self.kind} and prefilter.sigma is null: a number of pixels{more} is accepted"
            raise InputError(message)
        for name, unsaid in (("sigma", None), ("sigma_wide", None), ("size", None), ("truncate", 4.0)):
            if (value := getattr(self, name)) != unsaid and name not in known:
                beside = " and prefilter.size is given" if "size" in known else ""
                accepted = " or ".join(f"prefilter.{word}" for word in known) or "another kind"
                message = f"prefilter.{name} is {_said(value)} and prefilter.kind is {self.kind}{beside}: "
                message += f"{accepted} is accepted with it" if known else f"{accepted} is accepted"
                raise InputError(message)

    def _check_numbers(self) -> None:
        if not 0 < self.truncate < math.inf:
            message = f"prefilter.truncate is {self.truncate}: a number above 0 is accepted"
            raise InputError(message)
        for name in ("sigma", "sigma_wide"):
            numbers = _each(getattr(self, name))
            if not all(isinstance(n, (int, float)) and n >= 0 and n * self.truncate <= FARTHEST for n in numbers):
                message = f"prefilter.{name} is {_said(getattr(self, name))} and prefilter.truncate {self.truncate:g}: "
                message += f"numbers of at least 0 that reach at most {FARTHEST} pixels are accepted"
                raise InputError(message)
        sizes = _each(self.size)
        odd = all(isinstance(n, int) and n > 0 and n % 2 for n in sizes)
        if sizes and not (odd and 1 < max(sizes) <= 2 * FARTHEST + 1):
            message = f"prefilter.size is {_said(self.size)}: odd whole numbers up to {2 * FARTHEST + 1}, not all 1, "
            raise InputError(message + "are accepted")

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return self.kind != "none"

    def sigmas(self, ndim: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the narrow and the wide sigma along each axis, in pixels; they are alike where there is only one.

        Raises
        ------
        InputError
            If there are not as many as axes, or the filter would do nothing.
        """
        narrow = _along(self.sigma, ndim, "sigma")
        wide = narrow
        if self.kind == "difference_of_gaussians":
            given = self.sigma_wide is not None
            wide = _along(self.sigma_wide, ndim, "sigma_wide") if given else tuple(RATIO * n for n in narrow)
            if wide == narrow or any(b < a for a, b in zip(narrow, wide, strict=True)):
                message = (
                    f"prefilter.sigma_wide is {list(wide)} and prefilter.sigma {list(narrow)}: no less along any axis, "
                    "and more along one, is accepted"
                )
                raise InputError(message)
        if not any(self.reach(n) for n in wide):
            message = f"prefilter.sigma is {list(narrow)} and prefilter.truncate {self.truncate:g}, which is less than "
            message += "a pixel along all axes: more along one is accepted"
            raise InputError(message)
        return narrow, wide

    def sizes(self, ndim: int) -> tuple[int, ...]:
        """Return the sides of the box, in pixels; InputError as `sigmas`."""
        return tuple(int(n) for n in _along(self.size, ndim, "size"))

    def settled(self, ndim: int) -> dict[str, Any]:
        """Return the numbers that hold, with a value for each axis: what is written in another way is the same filter.

        InputError as `sigmas`.
        """
        if self.size is not None:
            return {"kind": self.kind, "size": self.sizes(ndim)}
        narrow, wide = self.sigmas(ndim)
        other = {} if wide == narrow else {"sigma_wide": wide}
        return {"kind": self.kind, "sigma": narrow, **other, "truncate": self.truncate}

    def reach(self, sigma: float) -> int:
        """Return where a Gaussian ends, in pixels from its middle."""
        return int(self.truncate * sigma + 0.5)

    def radius(self, ndim: int) -> tuple[int, ...]:
        """Return what the filter needs around a block along each axis, in pixels; InputError as `sigmas`."""
        if not self:
            return (0,) * ndim
        if self.size is not None:
            return tuple(n // 2 for n in self.sizes(ndim))
        return tuple(map(self.reach, self.sigmas(ndim)[1]))


def _each(value: Numbers | None) -> tuple[float, ...]:
    return () if value is None else value if isinstance(value, tuple) else (value,)


def _along(value: Numbers | None, ndim: int, name: str) -> tuple[float, ...]:
    numbers = _each(value)
    if not isinstance(value, tuple):
        return numbers * ndim
    if len(numbers) != ndim:
        message = (
            f"prefilter.{name} is {list(numbers)} and the window has {ndim} axes: one number, or {ndim}, is accepted"
        )
        raise InputError(message)
    return numbers


def _said(value: object) -> str:
    return str(list(value) if isinstance(value, tuple) else value)


UNFILTERED = Prefilter()
