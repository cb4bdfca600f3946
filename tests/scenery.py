"""Photographs seen twice: enlarged, warped, with other gain and offset, noise, and parts that are masked."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter
from skimage import data

from bigncc.transform import Affine, Translation, compose

NAMES = ("astronaut", "brick", "camera", "cell", "chelsea", "coffee", "coins", "grass", "gravel", "moon")


def photograph(name):
    """Return a photograph of scikit-image's wheel, grey, float64."""
    image = np.asarray(getattr(data, name)(), float)
    return image if image.ndim == 2 else image[..., :3].mean(-1)


def transform(seed, model, side, *, angle=15.0, growth=0.1, reach=0.1):
    """Return a random transform about the middle of an image of `side` pixels."""
    rng = np.random.default_rng([seed, 8])
    turn = math.radians(rng.uniform(-angle, angle)) if model != "translation" else 0.0
    scale = 1 + rng.uniform(-growth, growth) if model in ("similarity", "affine") else 1.0
    shear = rng.uniform(-0.03, 0.03, (2, 2)) if model == "affine" else np.zeros((2, 2))
    c, s = scale * math.cos(turn), scale * math.sin(turn)
    matrix = np.array([[c, s], [-s, c]]) @ (np.eye(2) + shear)
    shift = rng.uniform(-reach * side, reach * side, 2)
    middle = Translation((-(side - 1) / 2,) * 2)
    back = Translation(tuple((side - 1) / 2 + shift))
    if model == "translation":
        return compose(back, middle)
    return compose(back, compose(Affine(tuple(map(tuple, matrix.tolist())), (0.0, 0.0)), middle))


def pair(seed, true, side, *, noise=0.1, masked=0.0, name=None):
    """Return two views of `side` pixels: what is at p in the first is at true(p) in the second.

    Noise is independent, its standard deviation in those of the scene; masked parts are NaN, blots of some 5 % of the
    side in each image of its own.
    """
    rng = np.random.default_rng([seed, 9])
    image = photograph(name or NAMES[seed % len(NAMES)])
    coefficients = spline_filter((image - image.mean()) / image.std(), 3)
    # the view's middle is the photograph's, which is enlarged so that both views lie inside as far as it goes
    zoom = min(image.shape) / (1.25 * side)
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"))
    middle = np.array(image.shape)[:, None, None] / 2
    views = []
    for places in (grid, inverse(true, grid)):
        where = middle + (places - (side - 1) / 2) * zoom
        views.append(map_coordinates(coefficients, where, order=3, mode="mirror", prefilter=False))
    first, second = (view + noise * rng.standard_normal(view.shape) for view in views)
    first, second = 20000 + 1500 * first, 9000 + 900 * second
    for view in (first, second):
        if masked:
            blots = gaussian_filter(rng.standard_normal(view.shape), side / 20)
            view[blots > np.quantile(blots, 1 - masked)] = np.nan
        else:
            view[...] = np.round(view)
    return first, second


def inverse(true, grid):
    """Return where reference pixels seen at `grid` of the moving image are."""
    if isinstance(true, Translation):
        return grid - np.array(true.offset)[:, None, None]
    back = true.inverse()
    return np.einsum("ij,jyx->iyx", np.array(back.matrix), grid) + np.array(back.offset)[:, None, None]


def corner_error(found, true, side):
    """Return the largest distance between two transforms at the corners of an image, pixels."""
    from bigncc.transform import points

    corners = np.array([[y, x] for y in (0, side - 1) for x in (0, side - 1)], float)
    return float(np.linalg.norm(points(found, corners) - points(true, corners), axis=1).max())
