"""Masks are what the library is given as masks, whichever way they are stored."""

import numpy as np
import pytest
import zarr

import bigncc
from bigncc import pipeline
from bigncc.errors import InputError
from tests import pairs
from tests.zarrs import ome, plain, samples


def label(path, levels, axes, version="0.5"):
    """Write an OME label image, and that it is there."""
    group = ome(path, levels, axes, version)
    document = {"image-label": {"source": {"image": "../../"}}, "version": version}
    if version == "0.5":
        group.attrs["ome"] = {**group.attrs["ome"], **document}
    else:
        group.attrs.update(document)
    parent = zarr.open_group(path.parent, mode="a", zarr_format=3 if version == "0.5" else 2)
    listed = {"labels": [path.name]}
    parent.attrs.update({"ome": {"version": version, **listed}} if version == "0.5" else listed)


@pytest.fixture
def images(tmp_path):
    """Two images of two times, one channel and three planes, and cells of each."""
    shape = (2, 1, 3, 20, 26)
    f, g = samples(shape, seed=1), samples(shape, seed=2)
    g[..., :12] = f[..., :12]
    for name, data in (("a", f), ("b", g)):
        ome(tmp_path / name, [data, data[..., ::2, ::2]], "tczyx")
    cells = samples(shape, "u4", seed=3)
    cells[cells % 3 == 0] = 0
    return f, g, cells


def masked(folder, out, *words, mask="a/labels/cells"):
    words = (f"reference.mask.url={folder / mask}", *words)
    whole = {"output": {"chunks": [64, 64]}}
    pipeline.run(pairs.job(str(folder / "a"), str(folder / "b"), folder / out, whole, *words))
    return pairs.maps(folder / out)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("axes", "cut"),
    [
        ("tczyx", np.s_[:]),
        ("yx", np.s_[1, 0, 2]),
        ("tczyx", np.s_[:1, :, :1]),
        ("tczyx", np.s_[:, :, 2:]),
        ("tzyx", np.s_[:, 0]),
        ("zyx", np.s_[1, 0]),
    ],
)
def test_label_images_are_masks_of_all_that_they_do_not_tell_apart(tmp_path, images, version, axes, cut):
    f, g, cells = images
    label(tmp_path / "a" / "labels" / "cells", [cells[cut]], axes, version)
    at = [slice(None) if name in axes else None for name in "tczyx"]
    whole = np.broadcast_to(cells[cut][tuple(at)] != 0, f.shape)
    pairs.same(masked(tmp_path, "out"), bigncc.local_maps(f, g, reference_mask=whole))


@pytest.mark.parametrize("named", [True, False])
def test_what_is_chosen_of_the_image_is_chosen_of_its_mask(tmp_path, images, named):
    f, g, cells = images
    if named:
        label(tmp_path / "a" / "labels" / "cells", [cells], "tczyx")
    else:
        plain(tmp_path / "a" / "labels" / "cells", cells)
    words = [f"{name}.{word}" for name in ("reference", "moving") for word in ("time=1", "channel=0", "z=1:3")]
    one, other, valid = f[1, 0, 1:3], g[1, 0, 1:3], cells[1, 0, 1:3] != 0
    pairs.same(masked(tmp_path, "out", *words), bigncc.local_maps(one, other, reference_mask=valid))
    # a mask of what was chosen
    plain(tmp_path / "m", cells[1, 0, 1:3])
    pairs.same(masked(tmp_path, "chosen", *words, mask="m"), pairs.maps(tmp_path / "out"))
    plain(tmp_path / "v", valid)
    size = {"window": {"size": [1, 7, 7]}, "output": {"chunks": [4, 64, 64]}}
    found = masked(tmp_path, "volume", *words, size, mask="v")
    pairs.same(found, bigncc.local_maps(one, other, (1, 7, 7), reference_mask=valid))


def test_values_and_levels(tmp_path, images):
    f, g, cells = images
    coarse = cells[0, 0, 0, ::2, ::2]
    label(tmp_path / "a" / "labels" / "cells", [cells[0, 0, 0], coarse], "yx")
    small = ("reference.level=1", "moving.level=1", "reference.mask.level=1")
    one, other = f[..., ::2, ::2], g[..., ::2, ::2]
    cases = (
        ("none", coarse != 0),
        ("reference.mask.valid=[4, 5, 7, 8]", np.isin(coarse, (4, 5, 7, 8))),
        ("reference.mask.invalid=[0, 1, 2]", ~np.isin(coarse, (0, 1, 2))),
    )
    for word, valid in cases:
        words = (*small, *([] if word == "none" else [word]), "window.min_valid_fraction=0.1")
        window = bigncc.Window(7, min_valid_fraction=0.1)
        pairs.same(masked(tmp_path, word, *words), bigncc.local_maps(one, other, window, reference_mask=valid))


@pytest.mark.parametrize(
    ("shape", "names", "sentence"),
    [
        (
            (40, 49),
            "yx",
            r"is a mask of axes \(y, x\) and shape \[40, 49\], its image has axes \(t, c, z, y, x\) and shape",
        ),
        ((26, 20), "xy", r"is a mask of axes \(x, y\) .*: the same, or only \(y, x\), is accepted"),
        ((3, 20, 26), "tyx", r"is a mask of axes \(t, y, x\)"),
        ((3, 1, 26), "zyx", r"is a mask of axes \(z, y, x\)"),
        ((4, 3, 20, 26), None, r"is a mask of axes \(c, z, y, x\)"),
        ((3, 2, 20, 26), "ztyx", r"is a mask of axes \(z, t, y, x\)"),
    ],
)
def test_masks_that_do_not_fit_are_refused_before_anything_is_computed(tmp_path, images, shape, names, sentence):
    plain(tmp_path / "m", samples(shape), dimension_names=names and tuple(names))
    with pytest.raises(InputError, match=rf"{tmp_path}/m {sentence}"):
        pipeline.plan(pairs.job(str(tmp_path / "a"), str(tmp_path / "b"), tmp_path / "out",
                                f"reference.mask.url={tmp_path / 'm'}"))  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_a_windowed_axis_of_one_plane_is_no_batch(tmp_path):
    f, g = samples((1, 20, 26), seed=1), samples((1, 20, 26), seed=2)
    for name, data in (("a", f), ("b", g), ("m", f % 3)):
        plain(tmp_path / name, data)
    found = masked(tmp_path, "out", {"window": {"size": [1, 7, 7]}, "output": {"chunks": [1, 64, 64]}}, mask="m")
    pairs.same(found, bigncc.local_maps(f, g, (1, 7, 7), reference_mask=f % 3 != 0))


def test_colours_have_one_mask(tmp_path):
    f, g = samples((3, 30, 40), "u1", seed=1), samples((3, 30, 40), "u1", seed=2)
    for name, data in (("a", f), ("b", g)):
        ome(tmp_path / name, [data], "cyx")
    valid = samples((3, 30, 40)) > 100
    grey = ("reference.channel=grey", "moving.channel=grey")
    plain(tmp_path / "m", valid[0])
    plain(tmp_path / "one", valid[:1], dimension_names=("c", "y", "x"))
    one = masked(tmp_path, "out", *grey, mask="m")
    images = [bigncc.open_image(tmp_path / name, channel="grey").array[0:30, 0:40] for name in "ab"]
    pairs.same(one, bigncc.local_maps(*images, reference_mask=valid[0]))
    pairs.same(one, masked(tmp_path, "other", *grey, mask="one"))
    plain(tmp_path / "three", valid, dimension_names=("c", "y", "x"))
    with pytest.raises(InputError, match=r"three is a mask of axes \(c, y, x\)"):
        masked(tmp_path, "none", *grey, mask="three")
