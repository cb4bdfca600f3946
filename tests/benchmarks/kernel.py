"""``python -m tests.benchmarks.kernel``: bigncc.ncc against the fastest accurate recipe, interleaved in one run.

The recipe is what a user of OpenCV writes: five float64 box filters, exact enough where the grey levels are moderate.
"""

import sys
import time

import cv2
import dask
import numpy as np

import bigncc

SIDE = 4096
WINDOWS = (3, 7, 15, 31)
ROUNDS = 5
BAND = 64


def pair(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Two smooth scenes with the same structure and noise of their own."""
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.normal(0, 1, (SIDE, SIDE)), (0, 0), 2)
    scene /= scene.std()
    scale, middle = (40, 128) if dtype == "uint8" else (6000, 20000)
    images = (scene + 0.3 * rng.normal(0, 1, scene.shape) for _ in range(2))
    limit = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else np.inf
    f, g = (np.clip(middle + scale * image, 0, limit).astype(dtype) for image in images)
    return f, g


def opencv(reference: np.ndarray, moving: np.ndarray, window: int) -> np.ndarray:
    """Pearson's r by five box filters in float64, as it is usually written."""

    def mean(image: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(image, -1, (window, window), borderType=cv2.BORDER_REFLECT)

    f, g = reference.astype(np.float64), moving.astype(np.float64)
    mean_f, mean_g = mean(f), mean(g)
    variance_f = np.maximum(mean(f * f) - mean_f * mean_f, 0)
    variance_g = np.maximum(mean(g * g) - mean_g * mean_g, 0)
    covariance = mean(f * g) - mean_f * mean_g
    root = np.sqrt(variance_f * variance_g)
    return np.divide(covariance, root, out=np.zeros_like(root), where=root > 0).astype(np.float32)


def opencv_bands(reference: np.ndarray, moving: np.ndarray, window: int) -> np.ndarray:
    """The same in bands of rows, so that its temporaries stay in the cache: the best use of it that was found."""
    rows, radius = reference.shape[0], window // 2
    out = np.empty(reference.shape, np.float32)
    for top in range(0, rows, BAND):
        first, last = max(0, top - radius), min(rows, top + BAND + radius)
        band = opencv(reference[first:last], moving[first:last], window)
        out[top : top + BAND] = band[top - first :][:BAND]
    return out


def ours(reference: np.ndarray, moving: np.ndarray, window: int) -> np.ndarray:
    """The same, with status and summary computed on the way."""
    result: np.ndarray = bigncc.ncc(reference, moving, bigncc.Window(window, border="reflect"))
    return result


def difference(reference: np.ndarray, moving: np.ndarray, window: int) -> float:
    """Largest difference between the two where there is contrast; where there is none the recipe's value is noise."""
    maps = bigncc.local_maps(reference, moving, bigncc.Window(window, border="reflect"))
    return float(np.abs(opencv(reference, moving, window) - maps["ncc"])[maps["status"] == 1].max())


def main() -> None:
    """Print one row per dtype and window: nanoseconds per pixel (minimum / median) and the ratios of the medians."""
    out = sys.stdout
    cv2.setNumThreads(1)
    out.write(f"{SIDE} x {SIDE}, one thread, {ROUNDS} rounds, ns per pixel: minimum / median\n\n")
    out.write("| dtype | window | OpenCV float64 | in bands | bigncc.ncc | ratios | largest difference |\n")
    out.write("|---|---|---|---|---|---|---|\n")
    rivals = (opencv, opencv_bands, ours)
    with dask.config.set(scheduler="synchronous"):
        for dtype in ("uint8", "uint16", "float32"):
            f, g = pair(dtype)
            for window in WINDOWS:
                largest = difference(f, g, window)
                times: list[list[float]] = [[] for _ in rivals]
                for _ in range(ROUNDS):
                    for compute, found in zip(rivals, times, strict=True):
                        start = time.perf_counter()
                        compute(f, g, window)
                        found.append((time.perf_counter() - start) / SIDE**2 * 1e9)
                middle = [float(np.median(found)) for found in times]
                cells = " | ".join(f"{min(found):.1f} / {m:.1f}" for found, m in zip(times, middle, strict=True))
                ratios = ", ".join(f"{m / middle[-1]:.1f}" for m in middle[:-1])
                out.write(f"| {dtype} | {window} | {cells} | {ratios} | {largest:.1e} |\n")
                out.flush()


if __name__ == "__main__":
    main()
