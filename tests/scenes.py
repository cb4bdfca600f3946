"""Random scenes seen twice: shifted by any part of a pixel, with other gain, offset and noise."""

import numpy as np
from scipy import fft


def spectrum(seed, shape, sigma):
    """Return the transform of white noise blurred by `sigma` pixels, of unit variance, and its frequencies."""
    field = fft.rfftn(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))
    frequencies = [fft.fftfreq(n).astype(np.float32) for n in shape[:-1]] + [fft.rfftfreq(shape[-1]).astype(np.float32)]
    frequencies = np.meshgrid(*frequencies, indexing="ij", sparse=True)
    field *= np.exp(-2 * np.pi**2 * sigma**2 * sum(k**2 for k in frequencies))
    return field / fft.irfftn(field, shape).std(), frequencies


def scene(seed, shape, sigma):
    """Return blurred noise of unit variance."""
    return fft.irfftn(spectrum(seed, shape, sigma)[0], shape)


def pair(seed, shape, sigma, offset, *, noise=0.3, kind="uint16"):
    """Return two views of one scene: what is at p in the first is at p + `offset` in the second.

    Noise is independent, its standard deviation in those of the scene.
    """
    rng = np.random.default_rng([seed, 1])
    margin = [int(np.ceil(abs(d))) + 4 for d in offset]
    whole = tuple(fft.next_fast_len(n + 2 * m, real=True) for n, m in zip(shape, margin, strict=True))
    field, frequencies = spectrum(seed, whole, sigma)
    turn = np.exp(-2j * np.pi * sum(k * d for k, d in zip(frequencies, offset, strict=True))).astype(np.complex64)
    cut = tuple(slice(m, m + n) for n, m in zip(shape, margin, strict=True))
    views = (fft.irfftn(part, whole)[cut] for part in (field, field * turn))
    first, second = (view + noise * rng.standard_normal(shape, dtype=np.float32) for view in views)
    first, second = 20000 + 1500 * first, 9000 + 900 * second
    first, second = (np.round(view) if kind[0] == "u" else view for view in (first, second))
    return first.astype(kind), second.astype(kind)


def offset(seed, reach, ndim=2):
    """Return a random shift of at most `reach` pixels along each axis."""
    return tuple(np.random.default_rng([seed, 2]).uniform(-reach, reach, ndim).tolist())
