"""The transform of which sites were made is found among strays, and it is off by what it is said to be unsure by."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigncc import fit
from bigncc.errors import RegistrationError
from bigncc.sites import FLOOR, UNSURE
from bigncc.transform import Affine, Translation, points

MODELS = ("translation", "rigid", "similarity", "affine")


def planted(model, ndim, rng):
    """Return a transform that a model allows."""
    offset = tuple(rng.uniform(-300, 300, ndim).tolist())
    if model == "translation":
        return Translation(offset)
    turn, triangle = np.linalg.qr(np.eye(ndim) + 0.1 * rng.standard_normal((ndim, ndim)))
    matrix = turn * np.sign(np.diag(triangle))
    if model != "rigid":
        matrix = matrix * rng.uniform(0.9, 1.1)
    if model == "affine":
        matrix = matrix + rng.uniform(-0.05, 0.05, (ndim, ndim))
    return Affine(tuple(map(tuple, matrix.tolist())), offset)


@given(
    st.sampled_from(MODELS), st.sampled_from([2, 3]), st.integers(8, 30), st.integers(0, 7), st.integers(0, 2**32 - 1)
)
@settings(max_examples=40, deadline=None)
def test_a_transform_is_found_among_strays_in_any_order(model, ndim, true, stray, seed):
    rng = np.random.default_rng(seed)
    wanted = planted(model, ndim, rng)
    positions = rng.uniform(0, 1000, (true + stray, ndim))
    targets = points(wanted, positions) + 0.01 * rng.standard_normal(positions.shape)
    order = rng.permutation(len(positions))
    targets[true:] += rng.choice([-1, 1], (stray, ndim)) * rng.uniform(20, 400, (stray, ndim))
    found, agree = fit.fitted(model, positions[order], targets[order], np.ones(len(order)))
    np.testing.assert_array_equal(agree, order < true)
    assert isinstance(found, Translation if model == "translation" else Affine)
    corners = fit.corners((1000,) * ndim)
    np.testing.assert_allclose(points(found, corners), points(wanted, corners), atol=0.25)


@pytest.mark.parametrize("model", ["rigid", "similarity"])
def test_a_model_allows_no_more_than_it_says(model):
    rng = np.random.default_rng(3)
    positions = rng.uniform(0, 500, (20, 2))
    targets = positions * (1.001, 1.003) + 5
    found, _ = fit.fitted(model, positions, targets, np.ones(20))
    values = np.linalg.svd(found.matrix)[1]
    assert values[0] == pytest.approx(values[1], abs=1e-12)
    assert values[0] == pytest.approx(1 if model == "rigid" else 1.002, abs=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_what_is_said_to_be_unsure_is_how_far_it_is_off(model):
    rng = np.random.default_rng(4)
    positions = np.stack(np.meshgrid(np.arange(6), np.arange(6)), -1).reshape(-1, 2) * 150.0 + 100
    wanted, corners, noise = planted(model, 2, rng), fit.corners((1000, 1000)), np.array([0.1, 0.3])
    off, said = [], []
    for _ in range(60):
        targets = points(wanted, positions) + noise * rng.standard_normal(positions.shape)
        found, agree = fit.fitted(model, positions, targets, np.ones(36))
        said.append(
            fit.uncertainty(model, positions[agree], targets[agree] - points(found, positions[agree]), (1000, 1000))
        )
        off.append(points(found, corners) - points(wanted, corners))
    # three standard deviations at the corner where they are largest
    spread = 3 * np.sqrt((np.array(off) ** 2).mean(axis=0).max(axis=0))
    ratio = np.median(said, axis=0) / spread
    assert ((ratio > 0.6) & (ratio < 1.5)).all()


def test_an_uncertainty_has_a_floor_and_stragglers_do_not_count():
    positions = np.array([[0.0, 0], [0, 9], [9, 0], [9, 9], [4, 4], [5, 7]])
    residuals = np.zeros((6, 2))
    assert fit.uncertainty("affine", positions, residuals, (10, 10)) == (FLOOR, FLOOR)
    residuals[5] = 1.9
    assert fit.uncertainty("affine", positions, residuals, (10, 10)) == (FLOOR, FLOOR)


@pytest.mark.parametrize(("model", "count"), [("rigid", 3), ("similarity", 3), ("affine", 4)])
def test_too_few_sites_are_refused(model, count):
    positions = np.random.default_rng(0).uniform(0, 9, (count, 2))
    with pytest.raises(RegistrationError, match=f"{count} sites have texture and {count + 1} are needed for a {model}"):
        fit.fitted(model, positions, positions, np.ones(count))


def test_sites_in_a_line_are_refused():
    positions = np.stack([np.arange(20.0), 2 * np.arange(20.0)], -1)
    with pytest.raises(RegistrationError, match="20 sites lie in a line or a plane, by which no affine"):
        fit.fitted("affine", positions, positions, np.ones(20))
    found, _ = fit.fitted("rigid", positions, positions + 3, np.ones(20))
    np.testing.assert_allclose(found.matrix, np.eye(2), atol=1e-9)


def test_what_is_too_unsure_is_refused():
    with pytest.raises(RegistrationError, match=r"4 sites say y \+0.5, x \+0 pixels and are uncertain by 0.87"):
        fit.check(Translation((0.5, 0)), (0.87, 0.02), 4)
    fit.check(Translation((0.5, 0)), (UNSURE, 0.02), 4)
    assert math.isclose(UNSURE, 0.5)
