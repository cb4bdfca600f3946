"""What plan says of masks and nodata is what is there, from a bounded look."""

import numpy as np
import pytest

from bigncc import coverage, pipeline
from bigncc.inputs import open_inputs
from bigncc.storage import open_image
from tests import pairs
from tests.test_masks import label
from tests.zarrs import ome, plain


def blobs(shape, share):
    """A smooth scene, and where it is among the highest share of its samples."""
    from scipy.ndimage import gaussian_filter

    scene = gaussian_filter(np.random.default_rng(1).normal(size=shape), 6)
    return np.uint16(1000 + 200 * scene / scene.std()), scene >= np.quantile(scene, 1 - share)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coverage")
    scene, valid = blobs((400, 500), 0.7)
    scene = np.where(valid, scene, 0)
    ome(folder / "a", [scene, scene[::4, ::4]], "yx", chunks=(128, 128))
    plain(folder / "b", np.where(valid, scene.astype("f4"), np.nan), chunks=(128, 128))
    label(folder / "cells", [2 * valid, 2 * valid[::4, ::4]], "yx", chunks=(128, 128))
    return folder, valid


def said(place, *words):
    folder, _ = place
    names = str(folder / "a"), str(folder / "b"), folder / "out"
    return pipeline.plan(pairs.job(*names, *words)).facts().get("valid")


def test_nothing_is_said_where_all_samples_count(place):
    assert said(place) is None


def test_a_mask_says_it(place, monkeypatch):
    folder, valid = place
    words = f"reference.mask.url={folder / 'cells'}", f"moving.mask.url={folder / 'cells'}", "moving.mask.invalid=[2]"
    share = 100 * valid.mean()
    assert said(place, *words) == (
        f"about {share:.1f} % of reference (its mask at 400 x 500 samples) and {100 - share:.1f} % of moving "
        "(its mask at 400 x 500 samples)"
    )
    monkeypatch.setattr(coverage, "SAMPLES", 20000)
    assert said(place, words[0]) == (
        f"about {100 * valid[::4, ::4].mean():.1f} % of reference (its mask at 100 x 125 samples)"
    )


def test_so_does_an_image_with_levels_of_grey(place, monkeypatch):
    _, valid = place
    assert said(place, "reference.nodata=[0, 65535]") == (
        f"about {100 * valid.mean():.1f} % of reference (seen at 400 x 500 samples)"
    )
    monkeypatch.setattr(coverage, "SAMPLES", 20000)
    assert said(place, "reference.nodata=0").endswith("(seen at 100 x 125 samples)")


def test_else_a_few_places_do(place, monkeypatch):
    folder, valid = place
    both = f"reference.mask.url={folder / 'cells'}", "reference.nodata=5", "moving.nodata=7"
    monkeypatch.setattr(coverage, "SAMPLES", 1000)
    words = said(place, *both)
    assert words.count("at 36 places of 64 x 64 samples") == 2
    for share in (float(part.split(" %")[0].split()[-1]) for part in words.split(" and ")):
        assert abs(share - 100 * valid.mean()) < 8  # and what is NaN does not count


@pytest.mark.parametrize("chunks", [(70, 64), (64, 200), (300, 300), (30, 20)])
def test_a_place_lies_within_a_chunk_that_holds_it(tmp_path, chunks):
    plain(tmp_path / "a", np.zeros((301, 450), "u1"), chunks=chunks)
    found = coverage.places(open_image(tmp_path / "a"), 2)
    assert 16 <= len(set(map(str, found))) <= 36
    for roi in found:
        for s, n, chunk in zip(roi, (301, 450), chunks, strict=True):
            assert 0 <= s.start < s.stop <= n
            assert s.stop - s.start == 64
            assert chunk < 64 or (s.stop - 1) // chunk == s.start // chunk or s.start // chunk == (n - 1) // chunk - 1


def test_volumes_and_stacks(tmp_path, monkeypatch):
    plain(tmp_path / "a", np.arange(2 * 9 * 40 * 50, dtype="u2").reshape(2, 9, 40, 50) % 4)
    monkeypatch.setattr(coverage, "SAMPLES", 100)
    names = str(tmp_path / "a"), str(tmp_path / "a"), tmp_path / "out"
    size = {"window": {"size": [3, 5, 5]}, "output": {"chunks": [4, 32, 32]}}
    inputs = open_inputs(pairs.job(*names, size, "reference.nodata=2"))
    assert coverage.shares(inputs, 1) == ("75.0 % of reference (at 9 places of 9 x 16 x 16 samples)",)
    words = (
        "stack.lags=1",
        *(f"{name}.{word}" for name in ("reference", "moving") for word in ("nodata=2", "channel=0")),
    )
    inputs = open_inputs(pairs.job(names[0], names[0], names[2], *words))
    assert coverage.shares(inputs, 1) == ("75.0 % of stack (at 1 place of 40 x 50 samples)",)
