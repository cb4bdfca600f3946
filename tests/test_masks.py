"""Masks are what the library is given as masks, whichever way they are stored."""

import json

import numpy as np
import pytest
import zarr

import bigncc
from bigncc import pipeline
from bigncc.errors import InputError, RefusedError
from tests import pairs
from tests.zarrs import ome, plain, samples


def label(path, levels, axes, version="0.5", **options):
    """Write an OME label image, and that it is there."""
    group = ome(path, levels, axes, version, **options)
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


def masked(folder, out, *words, mask="a/labels/cells", how=pairs.job):
    words = (f"reference.mask.url={folder / mask}", *words)
    whole = {"output": {"chunks": [64, 64]}}
    pipeline.run(how(str(folder / "a"), str(folder / "b"), folder / out, whole, *words))
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


def seen(mask, steps, shape):
    """The sample of a mask that is nearest to each of an image, by brute force; of two the one before."""
    at = []
    for n, m, (scale, shift) in zip(shape, mask.shape, steps, strict=True):
        centres = shift + scale * np.arange(m)
        at.append([int(np.argmin(np.round(abs(centres - i), 9))) for i in range(n)])
    return mask[np.ix_(*at)]


def transformations(steps):
    scale, shift = zip(*steps, strict=True)
    return [[{"type": "scale", "scale": list(scale)}, {"type": "translation", "translation": list(shift)}]]


@pytest.mark.parametrize(
    ("version", "shape", "steps"),
    [
        ("0.4", (20, 25), ((2.0, 0.5), (2.0, 0.5))),  # coarser, odd lengths cut
        ("0.5", (21, 26), ((2.0, 0.0), (2.0, 0.0))),  # between two samples: the one before
        ("0.5", (122, 153), ((1 / 3, -1 / 3), (1 / 3, -1 / 3))),  # finer
        ("0.5", (12, 30), ((3.7, 1.0), (1.9, -3.3))),
    ],
)
def test_a_mask_of_another_resolution_is_seen_by_its_scales(tmp_path, version, shape, steps):
    f, g = samples((41, 51), seed=1), samples((41, 51), seed=2)
    for name, data in (("a", f), ("b", g)):
        ome(tmp_path / name, [data], "yx", version, chunks=(16, 16))
    cells = samples(shape, "u4", seed=3) // 50
    place = tmp_path / "a" / "labels" / "cells"
    label(place, [cells], "yx", version, steps=transformations(steps), chunks=(24, 24))
    valid = np.isin(seen(cells, steps, f.shape), (1, 3, 4))
    assert 0.3 < valid.mean() < 0.8
    words = ("reference.mask.valid=[1, 3, 4]", "output.chunks=[20, 20]", "window.min_valid_fraction=0.2")
    window = bigncc.Window(7, min_valid_fraction=0.2)
    found = masked(tmp_path, "out", *words, how=pairs.still)
    pairs.same(found, bigncc.local_maps(f, g, window, reference_mask=valid))


def test_a_coarse_mask_belongs_to_what_is_chosen_of_a_volume(tmp_path, images):
    f, g, cells = images
    small = cells[0, :, :, ::2, ::2]
    steps = ((1.0, 0.0), (1.0, 0.0), (2.0, 0.5), (2.0, 0.5))
    label(tmp_path / "a" / "labels" / "cells", [small], "czyx", steps=transformations(steps))
    words = [f"{name}.{word}" for name in ("reference", "moving") for word in ("time=1", "z=1:3")]
    valid = np.repeat(np.repeat(small[:, 1:3], 2, -2), 2, -1) != 0
    pairs.same(masked(tmp_path, "out", *words), bigncc.local_maps(f[1, :, 1:3], g[1, :, 1:3], reference_mask=valid))
    # a window in three dimensions: planes are chosen of a mask that has others
    thick = cells[0, 0, ::2, ::2, ::2]
    steps = ((2.0, 0.5), (2.0, 0.5), (2.0, 0.5))
    label(tmp_path / "b" / "labels" / "cells", [thick], "zyx", steps=transformations(steps))
    size = {"window": {"size": [1, 7, 7]}, "output": {"chunks": [4, 64, 64]}}
    found = masked(tmp_path, "volume", *words, size, mask="b/labels/cells")
    valid = seen(thick, steps, (3, 20, 26))[1:3] != 0
    pairs.same(found, bigncc.local_maps(f[1, :, 1:3], g[1, :, 1:3], (1, 7, 7), reference_mask=valid))


@pytest.mark.parametrize(
    ("scale", "units", "sentence"),
    [
        ([1.0, 2.0], None, r"cells/0 has 10 samples along y, .* from 0.0 to 19.0 of them: a mask of all of the image"),
        ([2.0, 2.0], "nanometer", "is in nanometer along y and its image in micrometer: one unit is accepted"),
    ],
)
def test_a_mask_that_is_elsewhere_is_refused(tmp_path, scale, units, sentence):
    ome(tmp_path / "a", [samples((20, 26))], "yx", units="micrometer")
    ome(tmp_path / "b", [samples((20, 26), seed=2)], "yx", units="micrometer")
    steps = [[{"type": "scale", "scale": scale}]]
    label(tmp_path / "a" / "labels" / "cells", [samples((10, 13))], "yx", steps=steps, units=units or "micrometer")
    with pytest.raises(InputError, match=sentence):
        masked(tmp_path, "out")


@pytest.mark.usefixtures("images")
def test_a_mask_that_lies_elsewhere_is_another_request(tmp_path):
    small = samples((10, 13), seed=3) % 3
    for name, shift in (("one", 0.5), ("two", 1.5)):
        label(tmp_path / name, [small], "yx", steps=transformations(((2.0, shift), (2.0, shift))))
    masked(tmp_path, "out", mask="one")
    with pytest.raises(RefusedError, match=r"reference.mask is .* asked"):
        masked(tmp_path, "out", mask="two")


def test_several_levels_of_grey_are_no_samples(tmp_path):
    f, g = samples((40, 50), seed=1) % 9, samples((40, 50), seed=2) % 9
    for name, data in (("a", f), ("b", g)):
        plain(tmp_path / name, data)
    words = ("reference.nodata=[0, 3, .nan]", "moving.nodata=8")
    whole = {"output": {"chunks": [64, 64]}}
    pipeline.run(pairs.still(str(tmp_path / "a"), str(tmp_path / "b"), tmp_path / "out", whole, *words))
    wanted = bigncc.local_maps(f, g, reference_mask=~np.isin(f, (0, 3)), moving_mask=g != 8)
    pairs.same(pairs.maps(tmp_path / "out"), wanted)
    assert (wanted["status"] == 1).mean() > 0.5


@pytest.mark.parametrize("offset", [(0.0, 0.0), (2.0, -3.0), (1.25, -0.5)])
def test_a_mask_goes_with_its_image_through_a_transform(tmp_path, offset):
    f, g = samples((41, 51), seed=1), samples((44, 50), seed=2)
    g[5:30, 5:40] = f[5:30, 5:40]
    for name, data in (("a", f), ("b", g)):
        ome(tmp_path / name, [data], "yx", chunks=(16, 16))
    (tmp_path / "t.json").write_text(json.dumps({"kind": "translation", "offset": offset}))
    steps = ((2.0, 0.5), (2.0, 0.5))
    cells = {"reference": samples((21, 26), seed=3) % 4, "moving": samples((22, 25), seed=4) % 4}
    words = ["output.chunks=[20, 20]", "window.min_valid_fraction=0.1", f"registration.transform={tmp_path / 't.json'}"]
    masks = {}
    for name, mask in cells.items():
        label(tmp_path / name, [mask], "yx", steps=transformations(steps), chunks=(8, 8))
        words.append(f"{name}.mask.url={tmp_path / name}")
        masks[f"{name}_mask"] = seen(mask, steps, {"reference": f, "moving": g}[name].shape) != 0
    words += [
        "moving.nodata=[7, 9]",
        "moving.missing_chunks=nodata",
        "maps=[ncc, gain]",
        "registration.trust_field=true",
    ]
    options = {"registration": {"model": None}}
    asked = pairs.job(str(tmp_path / "a"), str(tmp_path / "b"), tmp_path / "out", options, *words)
    if not any(offset):  # then there would be no gain
        asked = asked.model_copy(update={"maps": ("ncc",)})
    pipeline.run(asked)
    window = bigncc.Window(7, min_valid_fraction=0.1)
    how = {"transform": bigncc.Translation(offset), "nodata": (None, (7, 9)), **masks}
    wanted = bigncc.local_maps(f, g, window, ("ncc", "status", *asked.maps[1:]), **how)
    found = pairs.maps(tmp_path / "out")
    pairs.same(found, {name: wanted[name] for name in found})
    assert (wanted["status"] == 1).mean() > 0.3
    if any(offset):
        gain = zarr.open_array(str(tmp_path / "out" / "maps" / "gain" / "0"), mode="r")[...]
        pairs.same(found | {"gain": gain}, wanted)
