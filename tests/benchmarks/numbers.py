"""``python -m tests.benchmarks.numbers [CASES [FIRST]]``: what numbers at their extremes give, against exact fractions.

Each of CASES (20000) is a pair of small images with a window, masks and rules, drawn by its number alone: extremes,
subnormals, infinities, NaN of all kinds, -0.0, constants but for one step of the last bit, sums that cancel; all dtypes
and pairs of them, both byte orders, axes of one pixel, windows as large as the image and larger, two and three axes. A
few pixels of each are compared with `tests.oracle`; a warning is an error. A quarter of an hour on one core.
"""

import sys
import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from math import prod

import dask
import numba
import numpy as np

import bigncc
from bigncc import Window
from bigncc.kernel import RESOLUTION, common_dtype, lattice, lattice_pivot, local
from bigncc.window import BORDERS
from tests import oracle

INTEGERS = ("?", "u1", "i1", "<u2", "<i2", ">u2", ">i2")
WIDE = ("<u4", "<i4", "<u8", "<i8", ">u4", ">i4", ">u8", ">i8")
FLOATS = ("<f2", "<f4", "<f8", ">f2", ">f4", ">f8")
DTYPES = INTEGERS + WIDE + FLOATS

ROUNDED = 48
"""Rounding errors of 2^-53 that sums may leave of a mean square about the pivot: what the bound below is made of."""

CLEAR = 1e4
"""Mean square about the pivot over variance, up to which cancellation costs less than a float32 shows."""

HELD = 2.0**440
"""Samples about the pivot, in units of its scale, between this and its inverse have squares that a float64 holds."""

FLAT = {1: (False, False), 3: (True, False), 4: (False, True), 5: (True, True), 8: (False, False)}
"""Which images a status says are flat."""

OF_INTEGERS = ("noise", "extremes", "top", "bottom", "step", "ramp", "half", "levels", "alternating", "constant")
OF_FLOATS = (
    "noise", "offset", "wide", "subnormal", "huge", "tiny", "extremes", "zeros", "step", "alternating", "levels",
    "half", "unreal", "outlier", "constant", "regions",
)  # fmt: skip


def integers(rng, shape, dtype, kind):
    """Integers of one kind."""
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    middle = int(rng.integers(low, high, endpoint=True, dtype=np.uint64 if low == 0 else np.int64))
    places = np.indices(shape).sum(axis=0)
    few = {
        "extremes": [low, high],
        "top": [high, high - 1],
        "bottom": [low, low + 1],
        "levels": [low, min(low + 3, high), middle],
        "constant": [middle],
    }
    if kind in few:
        return np.array(few[kind], dtype)[rng.integers(0, len(few[kind]), shape)]
    if kind == "alternating":
        return np.array([low, high], dtype)[places % 2]
    if kind == "ramp":
        return np.array([(low + int(i) * max(1, (high - low) // 40)) % (high + 1) for i in places.flat], dtype).reshape(
            shape
        )
    values = rng.integers(low, high, shape, endpoint=True, dtype=np.uint64 if low == 0 else np.int64).astype(dtype)
    if kind == "half":
        values[..., : shape[-1] // 2 + 1] = high
    if kind == "step":
        values[...] = middle
        values.flat[rng.integers(values.size)] = middle - 1 if middle > low else middle + 1
    return values


def unreal(rng, values):
    """Put infinities and NaN of every payload, quiet and signalling, in the place of some samples."""
    kind = np.dtype(f"{values.dtype.byteorder}u{values.itemsize}")
    digits = np.finfo(values.dtype).nmant
    exponent = int(np.array([np.inf], values.dtype).view(kind)[0])
    sign = 1 << (8 * values.itemsize - 1)
    payloads = [0, 1, 1 << (digits - 1), (1 << digits) - 1, (1 << (digits - 1)) + 5]
    codes = np.array([exponent + p + s for p in payloads for s in (0, sign)], np.uint64)
    bits = values.view(kind)
    bits[...] = np.where(rng.random(values.shape) < 0.2, rng.choice(codes, values.shape), bits)


def floats(rng, shape, dtype, kind):
    """Floats of one kind."""
    native = dtype.newbyteorder("=").type
    limits = np.finfo(native)
    least, most = float(limits.smallest_subnormal), float(limits.max)
    noise, places = rng.normal(0, 1, shape), np.indices(shape).sum(axis=0)
    scale = 2.0 ** rng.integers(limits.minexp // 2, limits.maxexp // 2)
    flat = float(native(rng.choice([7.25, -0.0, scale, most, least, 60001.0])))
    if kind == "wide":
        values = np.ldexp(rng.uniform(-1, 1, shape), rng.integers(limits.minexp - limits.nmant, limits.maxexp, shape))
    elif kind == "subnormal":
        values = rng.integers(-9, 9, shape) * least
    elif kind == "extremes":
        values = rng.choice([most, -most, least, -least, float(limits.tiny), 0.0, -0.0, 1.0], shape)
    elif kind in ("constant", "step", "half"):
        values = np.full(shape, flat)
        if kind == "half":
            values[..., shape[-1] // 2 :] = np.round(noise[..., shape[-1] // 2 :], 1)
        elif kind == "step":
            values.flat[rng.integers(values.size)] = np.nextafter(native(flat), native(-np.inf if flat > 0 else np.inf))
    elif kind == "regions":
        values = noise * scale
        values[..., : shape[-1] // 2] *= min(1.0, 2.0 ** rng.integers(limits.minexp // 2, 1))
    else:
        values = {
            "noise": 100 + 3 * noise,
            "offset": scale * (1 + np.round(4 * noise) * 2.0 ** -rng.integers(1, limits.nmant + 1)),
            "huge": rng.uniform(-1, 1, shape) * most,
            "tiny": noise * scale**-0.5,
            "zeros": rng.choice([0.0, -0.0], shape),
            "alternating": scale * (1 + 2.0**-10 * noise) * np.where(places % 2, 1, -1),
            "levels": rng.integers(0, 3, shape) * scale,
            "unreal": 100 + noise,
            "outlier": np.where(places == rng.integers(0, places.max() + 1), rng.choice([most, scale]), noise),
        }[kind]
    with np.errstate(all="ignore"):
        values = values.astype(dtype)
    if kind == "unreal":
        unreal(rng, values)
    return values


def image(rng, shape, dtype):
    """An image of a random kind."""
    dtype = np.dtype(dtype)
    kinds, made = (OF_FLOATS, floats) if dtype.kind == "f" else (OF_INTEGERS, integers)
    return made(rng, shape, dtype, str(rng.choice(kinds)))


@dataclass(frozen=True)
class Case:
    """A pair, its window, its validities, and how it is asked: as arrays of a user, or as a block of the kernel."""

    f: np.ndarray
    g: np.ndarray
    window: Window
    vf: np.ndarray | None = None
    vg: np.ndarray | None = None
    nodata: float | None = None
    block: bool = True

    @property
    def exact(self):
        return self.window.exact and common_dtype(self.f.dtype, self.g.dtype).kind == "u"

    @property
    def pivots(self):
        return tuple(lattice_pivot(each[np.ix_(*lattice(each.shape))]) for each in (self.f, self.g))


def shape_of(rng):
    """A shape; one axis in three has one pixel, or two."""
    three = rng.random() < 0.25
    most = 6 if three else 15
    narrow = rng.random(3 if three else 2) < 0.3
    return tuple(int(rng.integers(1, 3) if each else rng.integers(2, most)) for each in narrow)


def window_of(rng, shape, pair, fits):
    """A window of any weights and rules; with `fits` none that is larger than the image."""
    radius = (rng.integers(0, min((n - 1) // 2 if fits else n, 5), endpoint=True) for n in shape)
    size = tuple(2 * int(r) + 1 for r in radius)
    if prod(size) == 1:
        size = (*size[:-1], 3)
    kind = rng.choice(["box", "box", "box", "gaussian", "disk", "cells", "table"])
    words = {"size": size}
    if kind == "gaussian":
        words = {"weights": "gaussian", "sigma": tuple(n // 2 * 0.29 for n in size)}
    elif kind == "disk":
        volume = len(size) == 3 and size[0] > 1
        words |= {"weights": "footprint", "footprint": "ball" if volume else "disk"}
    elif kind in ("cells", "table"):
        table = (rng.random(size) < 0.6) * (1.0 if kind == "cells" else rng.random(size) + 0.1)
        table.flat[[0, -1]] = 1.0
        words = {"weights": "footprint", "footprint": table}
    levels = [float(v) for v in (0, 1, *(each.flat[0] for each in pair)) if np.isfinite(v) and abs(float(v)) < 2**53]
    held = [v for v in levels if all(float(np.array(v).astype(each.dtype)) == v for each in pair if abs(v) < 2**15)]
    std = [0.0, 0.0, 0.5, 2.0, 300.0, 1e200, float(abs(Fraction(held[-1])) / 2)]
    return Window(
        **words,
        border=str(rng.choice(BORDERS)),
        cval=float(rng.choice([v for v in held if abs(v) < 2**15])),
        min_valid_fraction=float(rng.choice([0.0, 0.25, 0.5, 1.0])),
        flat=float(rng.choice([0.0, np.nan])),
        min_std=(0.0, 0.0) if rng.random() < 0.7 else (float(rng.choice(std)), float(rng.choice(std))),
    )


def validity(rng, shape, codes):
    """Codes of samples, mostly valid, hardly ever valid, or None."""
    weights = [[0.8, *[0.2 / (len(codes) - 1)] * (len(codes) - 1)], [0.2, *[0.8 / (len(codes) - 1)] * (len(codes) - 1)]]
    drawn = rng.choice(np.array(codes, np.uint8), shape, p=weights[int(rng.random() < 0.2)])
    return None if rng.random() < 0.5 else drawn


def drawn(number):
    """The case of this number."""
    rng = np.random.default_rng(number)
    shape = shape_of(rng)
    one = DTYPES[number % len(DTYPES)]
    other = one if rng.random() < 0.5 else str(rng.choice(DTYPES))
    f, g = image(rng, shape, one), image(rng, shape, other)
    if one == other and rng.random() < 0.3:
        # the same but for some samples
        g = np.where(rng.random(shape) < rng.choice([0.0, 0.3]), g, f if rng.random() < 0.5 else f[..., ::-1])
        g = g.astype(f.dtype)
    block = bool(rng.random() < 0.4)
    colours = shape[-1] in (3, 4) and len(shape) > 2  # which arrays of users are taken for
    block = block or colours
    with np.errstate(all="ignore"):
        window = window_of(rng, shape, (f, g), not block)
    block = block or any(n > m for n, m in zip(window.shape, shape, strict=True))
    codes = (1, 0, 2) if block else (1, 0)
    nodata = None
    if not block and rng.random() < 0.3:
        nodata = float(rng.choice([f.flat[0], g.flat[-1], 0.0, -9999.0, 1e300, 255.0]))
    return Case(f, g, window, validity(rng, shape, codes), validity(rng, shape, codes), nodata, block)


def answer(case):
    """Coefficients and status as they are computed."""
    if case.block:
        found = local(
            case.f, case.g, case.window, reference_validity=case.vf, moving_validity=case.vg, pivot=case.pivots
        )
        return found.ncc, found.status
    masks = {name: None if v is None else v == 1 for name, v in (("reference_mask", case.vf), ("moving_mask", case.vg))}
    with dask.config.set(scheduler="synchronous"):
        found = bigncc.local_maps(case.f, case.g, case.window, nodata=case.nodata, **masks)
    return found["ncc"], found["status"]


def as_read(case):
    """The case with samples as they are read, in a float64 where they have 64 bits, and nodata among validities."""
    images, flags = [], []
    for each, v in ((case.f, case.vf), (case.g, case.vg)):
        codes = np.ones(each.shape, np.uint8) if v is None else v.copy()
        with np.errstate(all="ignore"):
            image = each.astype(np.float64) if each.dtype.kind in "ui" and each.itemsize == 8 else each
            if case.nodata is not None:
                level = image.dtype.type(case.nodata) if image.dtype.kind == "f" else case.nodata
                codes[np.array([s == level for s in image.ravel().tolist()]).reshape(image.shape)] = 0
        images.append(image)
        flags.append(codes)
    return replace(case, f=images[0], g=images[1], vf=flags[0], vg=flags[1], nodata=None)


@dataclass
class Error:
    """What a pixel's value is away from the exact one."""

    ulp: float = 0.0
    of_bound: float = 0.0
    absolute: float = 0.0
    clear: bool = True


@dataclass
class Tally:
    """The largest errors of a dtype, and what is no answer that is accepted."""

    cases: int = 0
    pixels: int = 0
    ulp: float = 0.0
    of_bound: float = 0.0
    absolute: float = 0.0
    status: Counter = field(default_factory=Counter)
    wrong: list = field(default_factory=list)

    def add(self, error):
        self.of_bound, self.absolute = max(self.of_bound, error.of_bound), max(self.absolute, error.absolute)
        if error.clear:
            self.ulp = max(self.ulp, error.ulp)


def shares(pairs, pivots, variances):
    """Variances over mean squares about the pivots, and whether what counts has squares that a float64 holds."""
    n, found, held = sum(w for w, _, _ in pairs), [], []
    for k, (pivot, variance) in enumerate(zip(pivots, variances, strict=True)):
        samples = [(pair[0], (pair[k + 1] - Fraction(pivot.value)) * Fraction(pivot.scale)) for pair in pairs]
        square = n * sum(w * x * x for w, x in samples)
        found.append(variance * Fraction(pivot.scale) ** 2 / square if square else Fraction(0))
        held.append(all(abs(x) < HELD for _, x in samples) and square > Fraction(1 / HELD) ** 2)
    return found, held


def error_of(value, exact, condition):
    """How far a float32 is from the exact value, beside what its last place and cancellation allow."""
    ulp = float(np.spacing(np.abs(value))) if value else 2.0**-149
    away = abs(Decimal(float(value)) - exact)
    allowed = Decimal(ulp / 2 * (1 + 2.0**-26)) + Decimal(ROUNDED * 2.0**-53) * condition
    clear = condition <= CLEAR and (condition == 0 or abs(exact) > Decimal(2) ** -8)
    return Error(float(away / Decimal(ulp)), float(away / allowed), float(away), clear)


def compared(case, pivots, centre, value, status):
    """The error of one pixel, or a sentence on what is wrong with it."""
    exact, code = oracle.pixel(case.f, case.g, case.vf, case.vg, case.window, centre)
    if status != 1 and not (np.isnan(value) or (status in (3, 4, 5) and value == 0 and not np.signbit(value))):
        return f"status {status} has {value}"
    if np.isnan(value) and value.view(np.uint32) != 0x7FC00000:
        return "a NaN that is not the canonical one"
    if status in (3, 4, 5) and np.isnan(value) != np.isnan(case.window.flat):
        return f"a flat window has {value}"
    if case.exact and status == code:
        return error_of(value, exact, Decimal(0)) if code == 1 else Error()
    if case.exact or code in (2, 6, 7) or status in (2, 6, 7):
        return Error() if status == code else f"status {status}, not {code}"
    pairs, *_ = oracle.samples(case.f, case.g, case.vf, case.vg, case.window, centre)
    n = sum(w for w, _, _ in pairs)
    _, *variances = oracle.moments(pairs)
    share, held = shares(pairs, pivots, variances)
    # what rounding may do to a variance, as a share of it
    blur = [Fraction(ROUNDED, 2**53) / s if s else Fraction(0) for s in share]
    least = [Fraction(std) ** 2 * n * n for std in case.window.deviations]
    tied = any(v and abs(v - m) <= b * v for v, m, b in zip(variances, least, blur, strict=True))
    if (status == code and code != 1) or (status != code and tied and status != 8):
        return Error()
    if status == code:
        if min(share) < Fraction(RESOLUTION) * (1 - Fraction(1, 100)) - Fraction(ROUNDED, 2**53):
            return "status 1 below the resolution"
        if np.signbit(value) and value == 0:
            return "-0.0"
        return error_of(value, exact, sum(Decimal(s.denominator) / Decimal(s.numerator) for s in share))
    resolved = Fraction(RESOLUTION) * (1 + Fraction(1, 100)) + Fraction(ROUNDED, 2**53)
    unknown = [s <= resolved or not h for s, h in zip(share, held, strict=True)]
    # what is said to be flat is so; what is and is not said to be has a variance that is not known, and is above 0
    each = zip(FLAT[status], FLAT[code], variances, unknown, strict=True)
    if (
        status != 1
        and any(unknown)
        and all(is_so if said else not is_so or (u and v != 0) for said, is_so, v, u in each)
    ):
        return Error()
    return f"status {status}, not {code}; shares {[float(s) for s in share]}"


def judged(number, case, pixels=6):
    """The errors of some pixels of a case, or what is wrong."""
    # loops that are not compiled warn of what compiled ones do not
    with warnings.catch_warnings(), np.errstate(all="ignore" if numba.config.DISABLE_JIT else None):
        warnings.simplefilter("error")
        ncc, status = answer(case)
    pivots = case.pivots
    read = as_read(case)
    rng = np.random.default_rng(number)
    places = list(np.ndindex(case.f.shape))
    picked = rng.choice(len(places), min(pixels, len(places)), replace=False)
    for place in (places[i] for i in picked):
        yield place, int(status[place]), compared(read, pivots, place, ncc[place], int(status[place]))


def name_of(dtype):
    """What the table calls it."""
    return "bool" if dtype.kind == "b" else dtype.name + (" big" if dtype.str[0] == ">" else "")


def soak(cases, first=0, tell=None):
    """The tally of each dtype of the reference; what is wrong is told as it is found."""
    found = {}
    for number in range(first, first + cases):
        case = drawn(number)
        tally = found.setdefault((case.exact, name_of(case.f.dtype)), Tally())
        tally.cases += 1
        try:
            results = list(judged(number, case))
        except Exception as error:
            results = [((), -1, f"{type(error).__name__}: {error}")]
        for place, status, result in results:
            tally.pixels += 1
            tally.status[status] += 1
            if isinstance(result, Error) and result.of_bound <= 1:
                tally.add(result)
            else:
                tally.wrong.append((number, place, result))
                if tell is not None:
                    tell(f"case {number} at {place}: {result}")
    return found


def say(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(cases=20000, first=0):
    found = soak(cases, first, say)
    say("| pair | cases | pixels | with a value | wrong | error, ulp | error, of its bound | error |")
    say(f"|{'---|' * 8}")
    for (exact, name), tally in sorted(found.items(), key=lambda each: (not each[0][0], each[0][1])):
        say(
            f"| {name}, {'integers' if exact else 'floats'} | {tally.cases} | {tally.pixels} | {tally.status[1]} "
            f"| {len(tally.wrong)} | {tally.ulp:.7f} | {tally.of_bound:.3f} | {tally.absolute:.1e} |"
        )
    say(f"{cases} cases, {sum(len(each.wrong) for each in found.values())} wrong")
    return sum(len(each.wrong) for each in found.values())


if __name__ == "__main__":
    sys.exit(bool(main(*map(int, sys.argv[1:]))))
