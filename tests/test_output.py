"""Maps are valid OME-Zarr, what is not ours stays untouched, and faults on disk are found."""

import errno
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from bigncc.errors import DoesNotFitError, InputError, RefusedError, StoppedError
from bigncc.layout import Layout
from bigncc.output import (
    altered,
    check_removable,
    check_vacant,
    create_output,
    open_output,
    remove_output,
    surplus,
    update_attributes,
    write_image,
)
from bigncc.storage import open_image
from tests import pairs
from tests.strategies import cover
from tests.test_objects import write
from tests.zarrs import everything, ome, plain, samples, tree

LAYOUT = Layout(
    (2, 10, 13), (1, 4, 5), ("c", "y", "x"), (1.0, 0.5, 0.25), (0.0, 3.0, -1.0), (None, "micrometer", None), "a"
)
PLAN = pairs.SAID
WHOLE = tuple(slice(0, n) for n in LAYOUT.shape)


PYRAMIDS = {
    f"{version} {axes}": Layout(
        (2, 3, 2, 20, 33)[5 - len(axes) :], (1, 1, 1, 4, 5)[5 - len(axes) :], tuple(axes), (0.5,) * len(axes),
        (3.0,) * len(axes), (*(None,) * (len(axes) - 2), "micrometer", "micrometer"), "a", None, 2, (0, 1, 2), version,
    )
    for version in ("0.4", "0.5")
    for axes in ("yx", "cyx", "tczyx")
}  # fmt: skip


@pytest.fixture
def output(tmp_path):
    create_output(tmp_path / "new" / "out.zarr", LAYOUT, PLAN)
    return open_output(tmp_path / "new" / "out.zarr")


def fill(output, seed=0):
    rng = np.random.default_rng(seed)
    ncc = rng.uniform(-1, 1, LAYOUT.shape).astype("f4")
    status = rng.integers(0, 9, LAYOUT.shape).astype("u1")
    for roi in cover(LAYOUT.shape, (1, 8, 5)):
        write(output.maps["ncc"], roi, ncc[roi])
        write(output.maps["status"], roi, status[roi])
    return ncc, status


def test_the_output_is_what_was_asked_for_and_valid_ome_zarr(output):
    import yaozarrs

    assert output.layout == LAYOUT
    assert output.attributes == PLAN
    ncc, status = fill(output)
    np.testing.assert_array_equal(everything(open_image(output.url).array), ncc)
    np.testing.assert_array_equal(everything(open_image(Path(output.url) / "labels" / "status").array), status)
    group = zarr.open_group(output.url, mode="r")
    yaozarrs.v05.Image.model_validate(group.attrs["ome"])
    label = yaozarrs.v05.LabelImage.model_validate(group["labels/status"].attrs["ome"])
    assert len(label.image_label.colors) == len(label.image_label.properties) == 9
    assert group["labels/status"].attrs["ome"]["image-label"]["properties"][3] == {
        "label-value": 3,
        "name": "reference flat",
    }
    yaozarrs.validate_zarr_store(output.url)


@pytest.mark.parametrize("name", PYRAMIDS)
def test_both_versions_are_valid_for_libraries_that_know_nothing_of_each_other(tmp_path, name):
    import yaozarrs
    from ngff_zarr import validate

    layout = PYRAMIDS[name]
    create_output(tmp_path / "out", layout, PLAN)
    models = yaozarrs.v04 if layout.version == "0.4" else yaozarrs.v05
    for place, model, schema in (("", "Image", "image"), ("labels/status", "LabelImage", "label")):
        attributes = zarr.open_group(str(tmp_path / "out" / place), mode="r").attrs.asdict()
        found = getattr(models, model).model_validate(attributes.get("ome", attributes))
        validate(attributes, version=layout.version, model=schema)
        validate(attributes, version=layout.version, model="image", strict=True)
        assert [dataset.path for dataset in found.multiscales[0].datasets] == ["0", "1", "2"]
    yaozarrs.validate_zarr_store(str(tmp_path / "out"))


@pytest.mark.parametrize("name", PYRAMIDS)
def test_other_readers_see_every_level(tmp_path, name):
    from ngff_zarr import from_ngff_zarr
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    layout = PYRAMIDS[name]
    create_output(tmp_path / "out", layout, PLAN)
    out, rng = open_output(tmp_path / "out"), np.random.default_rng(0)
    for level in layout.levels:
        here = layout.at(level)
        whole = tuple(slice(0, n) for n in here.shape)
        for map_name, array in out.level(level).items():
            values = rng.integers(0, 9, here.shape).astype(array.dtype)
            write(array, whole, values / np.float32(9) if map_name == "ncc" else values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # theirs
        image, *_ = Reader(parse_url(str(tmp_path / "out")))()
        theirs = from_ngff_zarr(str(tmp_path / "out"), version=layout.version)
    for level, (one, two) in enumerate(zip(image.data, theirs.images, strict=True)):
        mine = out.level(level)["ncc"][...]
        np.testing.assert_array_equal(one, mine)
        np.testing.assert_array_equal(two.data, mine)
        centre = 3.0 + 0.5 * (2**level - 1) / 2
        assert (two.scale["x"], two.translation["x"]) == (0.5 * 2**level, centre)
        found = open_image(tmp_path / "out" / "labels" / "status", level=level)
        np.testing.assert_array_equal(everything(found.array), out.level(level)["status"][...])
        assert (found.scale[-1], found.translation[-1]) == (0.5 * 2**level, centre)
    assert image.metadata["contrast_limits"][0] == [-1.0, 1.0]
    assert [channel.label for channel in theirs.metadata.omero.channels] == (
        ["ncc"] if name[4:] == "yx" else ["ncc 0", "ncc 1"] if name[4:] == "cyx" else ["ncc 0", "ncc 1", "ncc 2"]
    )


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("shards", [None, (1, 8, 10)])
def test_a_level_is_cut_to_what_is_there(tmp_path, version, shards):
    if version == "0.4" and shards:
        return
    layout = replace(LAYOUT, shards=shards, halved=2, levels=(0, 1, 2), version=version)
    create_output(tmp_path / "out", layout, PLAN)
    arrays = [zarr.open_array(f"{tmp_path}/out/{level}", mode="r") for level in layout.levels]
    assert [array.shape for array in arrays] == [(2, 10, 13), (2, 5, 7), (2, 3, 4)]
    assert [array.chunks for array in arrays] == [(1, 4, 5), (1, 4, 5), (1, 3, 4)]
    assert [array.shards for array in arrays] == ([None] * 3 if shards is None else [(1, 8, 10), (1, 4, 5), (1, 3, 4)])


def test_an_output_of_version_0_4_has_its_files_and_no_filter(tmp_path):
    layout = replace(LAYOUT, version="0.4")
    create_output(tmp_path / "out", layout, PLAN)
    out = open_output(tmp_path / "out")
    assert out.layout == layout
    assert out.attributes == PLAN
    assert sorted(tree(tmp_path / "out")) == sorted(layout.metadata)
    for name, dtype, fill_value in (("0", "<f4", "NaN"), ("labels/status/0", "|u1", 0)):
        document = json.loads((tmp_path / "out" / name / ".zarray").read_text())
        assert (document["dtype"], document["fill_value"], document["filters"]) == (dtype, fill_value, None)
        assert (document["dimension_separator"], document["zarr_format"]) == ("/", 2)
        assert document["compressor"] == {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 2, "blocksize": 0}
    write(out.maps["ncc"], WHOLE, np.ones(LAYOUT.shape, "f4"))
    assert (tmp_path / "out" / "0" / "1" / "2" / "2").is_file()
    update_attributes(tmp_path / "out", pairs.DONE)
    assert open_output(tmp_path / "out").attributes["state"] == "complete"
    assert sorted(set(tree(tmp_path / "out")) - set(layout.metadata)) == sorted(
        f"0/{c}/{y}/{x}" for c in range(2) for y in range(3) for x in range(3)
    )
    assert not surplus(tmp_path / "out", layout)
    assert altered(tmp_path / "out", layout, pairs.DONE) == []
    check_removable(tmp_path / "out", "p1", layout)
    remove_output(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("puts", range(8))
def test_a_kill_between_two_files_of_version_0_4_is_not_fatal(tmp_path, puts):
    layout = replace(LAYOUT, version="0.4")
    create_output(tmp_path / "whole", layout, PLAN)
    for name in layout.metadata[:puts]:
        (tmp_path / "torn" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "whole" / name, tmp_path / "torn" / name)
    if puts:
        with pytest.raises(RefusedError, match="belongs to plan p1 and not to plan p2"):
            create_output(tmp_path / "torn", layout, {**PLAN, "plan_id": "p2"})
    create_output(tmp_path / "torn", layout, PLAN)
    assert tree(tmp_path / "torn") == tree(tmp_path / "whole")


def test_what_may_be_removed_is_known_without_a_plan(tmp_path):
    for name, layout in PYRAMIDS.items():
        create_output(tmp_path / name, layout, PLAN)
        check_removable(tmp_path / name, "p1", None)
        for stranger in ("notes", "1/notes", "labels/mine/zarr.json", "labels/status/1/c/x", "01/0/0", "c/0/0"):
            path = tmp_path / name / stranger
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("mine")
            with pytest.raises(RefusedError, match=f"{stranger} was not made by bigncc"):
                check_removable(tmp_path / name, "p1", None)
            path.unlink()


def test_the_checksum_is_the_last_codec_and_nan_the_fill(output):
    for name, fill_value, dtype in (("0", "NaN", "float32"), ("labels/status/0", 0, "uint8")):
        document = json.loads((Path(output.url) / name / "zarr.json").read_text())
        assert [codec["name"] for codec in document["codecs"]] == ["bytes", "blosc", "crc32c"]
        settings = document["codecs"][1]["configuration"]
        assert (settings["cname"], settings["clevel"], settings["shuffle"]) == ("lz4", 5, "bitshuffle")
        assert (document["fill_value"], document["data_type"]) == (fill_value, dtype)
        assert document["dimension_names"] == list(LAYOUT.axes)
        assert document["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}


def test_creating_again_changes_nothing_and_adds_what_is_missing(output, tmp_path):
    fresh = tree(output.url)
    fill(output)
    update_attributes(output.url, {**PLAN, "state": "complete"})
    before = tree(output.url)
    create_output(output.url, LAYOUT, PLAN)
    assert tree(output.url) == before
    for name in [name for name in fresh if name != "zarr.json"]:
        (Path(output.url) / name).unlink()
        create_output(output.url, LAYOUT, PLAN)
        assert tree(output.url) == before
    create_output(tmp_path / "other", LAYOUT, dict(reversed(PLAN.items())))
    assert tree(tmp_path / "other") == fresh


@pytest.mark.parametrize("puts", range(5))
def test_a_kill_between_two_files_is_not_fatal(tmp_path, puts):
    create_output(tmp_path / "whole", LAYOUT, PLAN)
    names = ["zarr.json", "labels/zarr.json", "labels/status/zarr.json", "0/zarr.json", "labels/status/0/zarr.json"]
    assert sorted(names) == sorted(tree(tmp_path / "whole"))
    torn = tmp_path / "torn"
    torn.mkdir()
    partial = f"zarr.{'0' * 32}.partial"
    (torn / partial).write_bytes(b'{"att')
    for name in names[:puts]:
        (torn / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "whole" / name, torn / name)
    create_output(torn, LAYOUT, PLAN)
    assert tree(torn) == tree(tmp_path / "whole") | {partial: b'{"att'}


def test_many_may_create_the_same_output_at_once(tmp_path):
    create_output(tmp_path / "alone", LAYOUT, PLAN)
    for i in range(5):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _, i=i: create_output(tmp_path / str(i), LAYOUT, PLAN), range(8)))
        assert tree(tmp_path / str(i)) == tree(tmp_path / "alone")


def test_an_empty_directory_and_missing_parents_are_accepted(tmp_path):
    (tmp_path / "empty").mkdir()
    create_output(tmp_path / "empty", LAYOUT, PLAN)
    create_output(f"file://{tmp_path}/a/b/c.zarr", LAYOUT, PLAN)
    assert tree(tmp_path / "empty") == tree(tmp_path / "a" / "b" / "c.zarr")


def a_file(path):
    path.write_text("mine")


def a_directory(path):
    path.mkdir()
    (path / "thesis.tex").write_text("mine")


def a_zarr(path):
    plain(path, samples((4, 4)))


def an_ome_image(path):
    ome(path, [samples((4, 4))], "yx", "0.4")


def a_broken_zarr(path):
    path.mkdir()
    (path / "zarr.json").write_text("{")


def another_plan(path):
    create_output(path, LAYOUT, {**PLAN, "plan_id": "p0"})


def no_plan(path):
    zarr.create_group(str(path), attributes={"bigncc": {"state": "complete"}})


@pytest.mark.parametrize("foreign", [a_file, a_directory, a_zarr, an_ome_image, a_broken_zarr, another_plan, no_plan])
def test_what_is_not_ours_is_refused_and_left_alone(tmp_path, foreign):
    foreign(tmp_path / "out")
    before = tree(tmp_path)
    sentence = "belongs to plan p0 and not to plan p1" if foreign is another_plan else "is no output of bigncc"
    with pytest.raises(RefusedError, match=rf"out .*({sentence}).*: a path that does not exist, an empty directory"):
        create_output(tmp_path / "out", LAYOUT, PLAN)
    for attempt in (
        lambda: check_vacant(tmp_path / "out"),
        lambda: write_image(tmp_path / "out", samples((4, 4)), ("y", "x"), "a"),
    ):
        with pytest.raises(
            RefusedError, match="out exists: a path that does not exist or an empty directory is accepted"
        ):
            attempt()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("axes", ["yx", "cyx", "tczyx"])
def test_an_image_that_is_written_is_read_again(tmp_path, axes):
    import yaozarrs

    data = samples((2, 3, 4, 600, 520)[5 - len(axes) :], "u1")
    (tmp_path / "a").mkdir()
    check_vacant(tmp_path / "a")
    check_vacant(tmp_path / "none")
    write_image(tmp_path / "a", data, tuple(axes), "left")
    image = open_image(tmp_path / "a")
    np.testing.assert_array_equal(everything(image.array), data)
    assert (image.axes, image.array.chunks[-3:]) == (tuple(axes), (1, 512, 512)[-min(3, len(axes)) :])
    yaozarrs.validate_zarr_store(tmp_path / "a")


def test_a_file_in_the_way_of_a_directory_is_refused(tmp_path):
    create_output(tmp_path / "out", LAYOUT, PLAN)
    shutil.rmtree(tmp_path / "out" / "labels")
    (tmp_path / "out" / "labels").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises((RefusedError, InputError), match=r"labels|out cannot be"):
        create_output(tmp_path / "out", LAYOUT, PLAN)
    assert tree(tmp_path) == before


def test_a_layout_that_ome_zarr_cannot_say_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match=r"is not valid OME-Zarr 0.5: .*order"):
        create_output(tmp_path / "out", replace(LAYOUT, axes=("y", "c", "x")), PLAN)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, DoesNotFitError),
        (errno.EDQUOT, DoesNotFitError),
        (errno.EACCES, InputError),
        (errno.EROFS, InputError),
        (errno.EIO, StoppedError),
    ],
)
def test_faults_of_the_disk_while_creating(tmp_path, monkeypatch, number, error):
    def put(*_, **__):
        raise OSError(number, "as planned")

    monkeypatch.setattr("zarr.storage._local._put", put)
    monkeypatch.setattr("bigncc.store.PAUSES", (0.0, 0.0))
    with pytest.raises(error, match="as planned"):
        create_output(tmp_path / "out", LAYOUT, PLAN)


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot be written"):
        create_output(tmp_path / "file" / "out", LAYOUT, PLAN)


def test_only_outputs_are_opened_as_outputs(tmp_path):
    an_ome_image(tmp_path / "image")
    a_zarr(tmp_path / "array")
    create_output(tmp_path / "out", LAYOUT, PLAN)
    (tmp_path / "out" / "labels" / "status" / "0" / "zarr.json").unlink()
    for name, sentence in (
        ("image", "is no output of bigncc"),
        ("array", "is no output of bigncc"),
        ("none", "does not exist"),
        ("out", "labels/status/0 cannot be opened"),
    ):
        with pytest.raises(InputError, match=sentence):
            open_output(tmp_path / name)
    assert not (tmp_path / "none").exists()


def test_attributes_are_replaced_and_others_kept(output):
    group = zarr.open_group(output.url, mode="r+")
    group.attrs["mine"] = 1
    update_attributes(output.url, pairs.DONE)
    after = zarr.open_group(output.url, mode="r").attrs
    assert open_output(output.url).attributes == pairs.DONE
    assert after["mine"] == 1
    assert after["ome"] == group.attrs["ome"]
