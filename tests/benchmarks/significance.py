"""``python -m tests.benchmarks.significance [null] [textures] [power] [time]``: how often chance is called more.

Random pairs with a seed each. The naive test takes the samples of a window for independent. Without words all parts
run, which takes two minutes.
"""

import sys
import time

import numpy as np
from scipy import special

import bigncc
from bigncc import Window, kernel, significance
from bigncc.maps import Asked
from tests import scenes
from tests.benchmarks.kernel import say

SIDE = 384
PAIRS = 8
MAPS = ("ncc", "status", "pvalue", "lower")


def naive(r, samples):
    """Return the p-values of Student's t for independent samples."""
    return special.betainc(samples / 2 - 1, 0.5, 1 - np.minimum(1, r.astype(float) ** 2))


def as_kind(scene, kind):
    """Return a scene of unit variance as an image."""
    values = {"uint8": 128 + 30 * scene, "uint16": 20000 + 1500 * scene}.get(kind, scene)
    return (np.clip(np.round(values), 0, 255) if kind == "uint8" else values).astype(kind)


def unrelated(seed, shape, sigmas, kind="float32"):
    """Return two independent images of blurred noise."""
    return [as_kind(scenes.scene([seed, i], shape, sigma), kind) for i, sigma in enumerate(sigmas)]


def related(seed, shape, sigma, correlation, kind="float32"):
    """Return two images of blurred noise with a correlation."""
    f, g = (scenes.scene([seed, i], shape, sigma) for i in range(2))
    return as_kind(f, kind), as_kind(correlation * f + np.sqrt(1 - correlation**2) * g, kind)


def spectral(seed, shape, weight):
    """Return a random scene of unit variance whose power at each frequency is weighted."""
    field = np.fft.rfft2(np.random.default_rng(seed).standard_normal(shape))
    k = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
    image = np.fft.irfft2(field * weight(k), shape)
    return (image - image.mean()) / image.std()


TEXTURES = {
    "exponential correlation, length 4": lambda k: (1 + (2 * np.pi * 4 * k) ** 2) ** -0.75,
    "power 1/f^2": lambda k: 1 / np.maximum(k, 1 / 128),
    "band of periods 5 to 8 (ripples)": lambda k: ((k > 1 / 8) & (k < 1 / 5)).astype(float),
    "blur of 2 and as much white noise": lambda k: np.sqrt(16 * np.pi * np.exp(-16 * (np.pi * k) ** 2) + 1),
}


def rates(pairs, window, limits=(0.05, 0.01)):
    """Return how often both tests call pixels related, at each limit, ours first."""
    size, found = Window(window), []
    for f, g in pairs:
        maps = bigncc.local_maps(f, g, size, MAPS)
        chance = maps["pvalue"].astype(float), naive(maps["ncc"], np.prod(size.shape))
        found.append([[np.mean(p[maps["status"] == 1] < limit) for limit in limits] for p in chance])
    return np.mean(found, axis=0)


def null():
    """Print the rates for blurred noise."""
    say(f"{PAIRS} pairs of {SIDE} x {SIDE} (3-D: 64^3), unrelated: share of pixels with p < 0.05 (p < 0.01)\n")
    say("| window | sigmas | dtype | independent samples | by autocorrelation |")
    say("|---|---|---|---|---|")
    cases = [(11, (s, s), "float32") for s in (0, 1, 2, 3)]
    cases += [(11, (s, s), kind) for kind in ("uint8", "uint16") for s in (0, 3)]
    cases += [(11, sigmas, "float32") for sigmas in ((0, 3), (1, 3))]
    cases += [(window, (s, s), "float32") for window in (7, 21) for s in (0, 1, 2, 3)]
    cases += [((5, 9, 9), (s, s), "float32") for s in (0, 1, 2)]
    for window, sigmas, kind in cases:
        shape = (SIDE, SIDE) if isinstance(window, int) else (64, 64, 64)
        ours, theirs = rates((unrelated(seed, shape, sigmas, kind) for seed in range(PAIRS)), window)
        shown = [f"{each[0]:.3f} ({each[1]:.3f})" for each in (theirs, ours)]
        say(f"| {window} | {sigmas[0]}, {sigmas[1]} | {kind} | {' | '.join(shown)} |")


def textures():
    """Print the rates for other textures, and for images that are smooth in one half and rough in the other."""
    say("\n| texture, window 11 | independent samples | by autocorrelation |")
    say("|---|---|---|")
    for name, weight in TEXTURES.items():
        pairs = ([spectral([seed, i], (SIDE, SIDE), weight) for i in range(2)] for seed in range(PAIRS))
        ours, theirs = rates(pairs, 11)
        say(f"| {name} | {theirs[0]:.3f} ({theirs[1]:.3f}) | {ours[0]:.3f} ({ours[1]:.3f}) |")
    parts = {"smooth half (sigma 3)": (0, 160), "rough half (sigma 0)": (224, 384), "64 pixels between": (160, 224)}
    found = {name: [] for name in parts}
    for seed in range(PAIRS):
        smooth, rough = unrelated(seed, (SIDE, SIDE), (3, 3)), unrelated(seed + 1000, (SIDE, SIDE), (0, 0))
        f, g = (np.where(np.arange(SIDE) < SIDE // 2, a, b) for a, b in zip(smooth, rough, strict=True))
        maps = bigncc.local_maps(f, g, 11, MAPS)
        chance = naive(maps["ncc"], 121), maps["pvalue"]
        for name, (a, b) in parts.items():
            found[name].append([np.mean(p[:, a:b] < limit) for p in chance for limit in (0.05, 0.01)])
    for name, each in found.items():
        a, b, c, d = np.mean(each, axis=0)
        say(f"| {name} | {a:.3f} ({b:.3f}) | {c:.3f} ({d:.3f}) |")


def power():
    """Print how often related images are called so, and how often the lower bound is above the truth."""
    say("\n| window | sigma | correlation | p < 0.05 | discoveries at 5 % | mean lower bound | above the truth |")
    say("|---|---|---|---|---|---|---|")
    for window, sigma, truth in [(w, s, r) for w in (11, 21) for s in (0, 1, 2, 3) for r in (0.6, 0.9)]:
        found = []
        for seed in range(PAIRS):
            maps = bigncc.local_maps(*related(seed, (SIDE, SIDE), sigma, truth), window, MAPS)
            p = np.sort(maps["pvalue"].ravel())
            steps = np.flatnonzero(p <= 0.05 * np.arange(1, p.size + 1) / p.size)
            discovered = (steps[-1] + 1) / p.size if steps.size else 0.0
            found.append([np.mean(p < 0.05), discovered, maps["lower"].mean(), np.mean(maps["lower"] > truth)])
        a, b, c, d = np.mean(found, axis=0)
        say(f"| {window} | {sigma} | {truth} | {a:.3f} | {b:.3f} | {c:.2f} | {d:.3f} |")


def timed():
    """Print what it costs."""
    say("\n1500 x 1500, one thread, ns per pixel, minimum of 5\n")
    say("| dtype | window | correlation | p-value and lower bound |")
    say("|---|---|---|---|")
    asked, core = Asked(("pvalue", "lower")), (slice(0, 1500),) * 2
    for kind, window in [(k, w) for k in ("uint8", "float32") for w in (7, 11, 21, 31)]:
        f, g = unrelated(0, (1500, 1500), (1, 1), kind)
        size, spent = Window(window), []
        for _ in range(6):
            start = time.thread_time()
            block = kernel.local(f, g, size)
            middle = time.thread_time()
            significance.judged(block, f, g, size, start=(0, 0), core=core, asked=asked)
            spent.append((middle - start, time.thread_time() - middle))
        plain, more = np.min(spent[1:], axis=0) * 1e9 / f.size
        say(f"| {kind} | {window} | {plain:.0f} | {more:.0f} |")


PARTS = {"null": null, "textures": textures, "power": power, "time": timed}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
