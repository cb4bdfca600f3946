"""Images are read as they were written, and what cannot be used is refused in a sentence."""

import json
import pickle
import re
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import zarr
from zarr.codecs import BytesCodec, GzipCodec

from bigncc.errors import InputError
from bigncc.storage import open_image
from tests.zarrs import everything, ome, plain, samples

# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", ">i4", "<f4", ">f4", ">f8", "f2", "i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_plain_arrays_come_out_native_whatever_they_are_on_disk(tmp_path, version, dtype, order):
    data = samples((3, 9, 11), dtype)
    options = (
        {"order": order} if version == 2 else {"serializer": BytesCodec(endian="big" if dtype[0] == ">" else "little")}
    )
    plain(tmp_path / "a", data, version=version, **options)
    image = open_image(tmp_path / "a")
    part = image.array[slice(1, 3), slice(2, 9), slice(5, 11)]
    assert image.array.dtype == part.dtype == data.dtype.newbyteorder("=")
    assert image.array.dtype.isnative
    assert part.flags.c_contiguous
    np.testing.assert_array_equal(part, data[1:3, 2:9, 5:11])
    assert (image.axes, image.named, image.calibrated) == (("z", "y", "x"), False, False)
    assert (image.array.shape, image.array.ndim, image.array.chunks) == ((3, 9, 11), 3, (3, 4, 4))
    assert (image.url, image.levels, image.level) == (str(tmp_path / "a"), ((3, 9, 11),), 0)


def written_v2(path, data, codec, separator):
    """Write Zarr v2 as numcodecs' users do."""
    import numcodecs

    compressors = {
        "lz4": numcodecs.LZ4(),
        "delta": numcodecs.Zlib(),
        "blosc": numcodecs.Blosc("lz4", 5, 2),
        "raw": None,
    }
    filters = [numcodecs.Delta(data.dtype.str)] if codec == "delta" else None
    options = {"compressors": compressors[codec], "filters": filters}
    return plain(path, data, version=2, chunk_key_encoding={"name": "v2", "separator": separator}, **options)


@pytest.mark.parametrize("codec", ["raw", "lz4", "delta", "blosc"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4", ">f4"])
@pytest.mark.parametrize(("order", "separator"), [("C", "."), ("F", "/")])
def test_zarr_v2_in_all_its_ways(tmp_path, codec, dtype, order, separator):
    data = samples((3, 9, 11), dtype)
    data[:, :4, :4] = 0
    array = written_v2(tmp_path / "a", np.array(data, order=order), codec, separator)
    document = json.loads((tmp_path / "a" / ".zarray").read_text())
    assert (document["dtype"], document.get("dimension_separator", ".")) == (dtype, separator)
    assert (document["compressor"] or {"id": None})["id"] == {"delta": "zlib", "raw": None}.get(codec, codec)
    assert array.nchunks > array.nchunks_initialized > 0
    image = open_image(tmp_path / "a")
    np.testing.assert_array_equal(everything(image.array), data)
    np.testing.assert_array_equal(image.array[1:2, 3:8, 2:9], data[1:2, 3:8, 2:9])
    assert image.array.dtype.isnative


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["yx", "zyx", "tyx", "cyx", "czyx", "tczyx", "tcyx", "xy", "cxy"])
def test_ome_images_with_any_axes(tmp_path, version, axes):
    shape = tuple({"t": 2, "c": 3, "z": 2, "y": 8, "x": 12}[a] for a in axes)
    data = samples(shape, ">u2")
    half = data[..., ::2, ::2]
    group = ome(tmp_path / "a.zarr", [data, half], axes, version, units="micrometer")
    for source in (tmp_path / "a.zarr", f"file://{tmp_path}/a.zarr", group, group.store):
        image = open_image(source, level=1)
        np.testing.assert_array_equal(everything(image.array), half)
        assert image.axes == tuple(axes)
        assert image.levels == (data.shape, half.shape)
        assert image.scale == (2.0,) * len(axes)
        assert image.units == tuple("micrometer" if a in "zyx" else None for a in axes)
        assert (image.named, image.calibrated, image.level) == (True, True, 1)
        assert image.url == str(tmp_path / "a.zarr")


def test_sharded_arrays_are_decoded_by_inner_chunks(tmp_path):
    data = samples((16, 24))
    plain(tmp_path / "a", data, chunks=(4, 4), shards=(8, 12))
    image = open_image(tmp_path / "a")
    assert image.array.chunks == (4, 4)
    np.testing.assert_array_equal(image.array[3:9, 5:23], data[3:9, 5:23])


def test_shards_at_the_edge_are_counted_once(tmp_path):
    array = zarr.create_array(str(tmp_path / "a"), shape=(10, 18), chunks=(4, 4), shards=(8, 8), dtype="u1")
    for written, absent in ((np.s_[0, 0], 5), (np.s_[9, 17], 4), (np.s_[:, :], 0)):
        array[written] = 1
        assert open_image(tmp_path / "a").array.absent == absent


def test_an_array_within_a_group_and_objects_in_memory(tmp_path):
    data = samples((6, 7))
    ome(tmp_path / "a.zarr", [data], "yx")
    assert open_image(tmp_path / "a.zarr" / "0").axes == ("y", "x")
    memory = zarr.create_array(zarr.storage.MemoryStore(), data=data, name="m")
    image = open_image(memory)
    assert image.url == ""
    np.testing.assert_array_equal(everything(image.array), data)


def test_transformations_of_the_level_and_of_all_levels_are_combined(tmp_path):
    def steps(scale, translation):
        return [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]

    level, shared = steps([1.0, 2.0, 4.0], [0.0, 10.0, 20.0]), steps([1.0, 0.5, 0.25], [7.0, 1.0, 2.0])
    ome(tmp_path / "a.zarr", [samples((2, 4, 4))], "cyx", steps=[level], shared=shared)
    image = open_image(tmp_path / "a.zarr", channel=1)
    assert image.scale == (1.0, 1.0)
    assert image.translation == (6.0, 7.0)


@pytest.mark.parametrize(
    ("names", "axes", "named"),
    [
        (("t", "y", "x"), ("t", "y", "x"), True),
        (("band", "y", "x"), ("z", "y", "x"), False),
        (None, ("z", "y", "x"), False),
    ],
)
@pytest.mark.parametrize("version", [2, 3])
def test_names_of_plain_arrays(tmp_path, version, names, axes, named):
    array = plain(
        tmp_path / "a", samples((2, 5, 6)), version=version, **({"dimension_names": names} if version == 3 else {})
    )
    if version == 2 and names:
        array.attrs["_ARRAY_DIMENSIONS"] = list(names)
    image = open_image(tmp_path / "a")
    assert (image.axes, image.named) == (axes, named)


def test_names_that_occur_twice_are_no_names(tmp_path):
    plain(tmp_path / "a", samples((2, 5, 6)), version=2).attrs["_ARRAY_DIMENSIONS"] = ["y", "y", "x"]
    assert open_image(tmp_path / "a").axes == ("z", "y", "x")


def test_bool_is_read_as_uint8_and_absent_chunks_as_fill(tmp_path):
    plain(tmp_path / "b", samples((5, 5)) > 100)
    assert open_image(tmp_path / "b").array[0:5, 0:5].dtype == np.uint8
    zarr.create_array(str(tmp_path / "f"), shape=(8, 8), chunks=(4, 4), dtype="u2", fill_value=7)
    assert (open_image(tmp_path / "f").array[0:8, 2:6] == 7).all()


def test_images_survive_pickling(tmp_path):
    data = samples((3, 6, 6), "u1")
    ome(tmp_path / "a.zarr", [data], "cyx")
    again = pickle.loads(pickle.dumps(open_image(tmp_path / "a.zarr", channel="grey")))
    assert again.array[0:6, 0:6].shape == (6, 6)


@pytest.mark.parametrize("channel", [None, 1])
@pytest.mark.parametrize("key", [..., 1, (..., 2), (0, ..., slice(1, 3)), slice(1, 2)])
def test_a_part_is_named_as_in_numpy(tmp_path, channel, key):
    data = samples((2, 3, 4, 5))
    ome(tmp_path / "a.zarr", [data], "tcyx")
    expected = data if channel is None else data[:, channel]
    np.testing.assert_array_equal(open_image(tmp_path / "a.zarr", channel=channel).array[key], expected[key])


def test_channels_by_number_and_by_name(tmp_path):
    data = samples((2, 3, 4, 5, 6))
    ome(tmp_path / "a.zarr", [data], "tczyx", labels=("DAPI", "488", "488"))
    for channel, index in ((2, 2), ("DAPI", 0)):
        image = open_image(tmp_path / "a.zarr", channel=channel)
        assert (image.axes, image.levels) == (("t", "z", "y", "x"), ((2, 4, 5, 6),))
        assert (image.array.shape, image.array.chunks) == ((2, 4, 5, 6), (2, 4, 4, 4))
        np.testing.assert_array_equal(image.array[0:1, 1:4, 0:5, 2:3], data[0:1, index, 1:4, 0:5, 2:3])
    for channel in (3, -1, "488", "Cy5"):
        with pytest.raises(InputError, match=r"no channel .* 0 to 2 or one of DAPI, 488, 488 is accepted"):
            open_image(tmp_path / "a.zarr", channel=channel)


@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2"])
@pytest.mark.parametrize(("count", "last"), [(3, False), (4, False), (3, True), (4, True)])
def test_grey_is_the_exact_formula(tmp_path, dtype, count, last):
    top = 255 if dtype == "u1" else 65535
    data = np.random.default_rng(1).integers(0, top, (count, 70, 90), endpoint=True).astype(dtype)
    data[:3, 0, 0] = top
    big = data.astype(object)
    wanted = (77 * big[0] + 150 * big[1] + 29 * big[2] + 128) // 256
    if last:
        plain(tmp_path / "a", np.moveaxis(data, 0, -1), version=2)
    else:
        ome(tmp_path / "a", [data], "cyx", "0.4")
    image = open_image(tmp_path / "a", channel="grey")
    assert image.array.dtype == data.dtype.newbyteorder("=")
    assert (image.axes, image.array.shape) == (("y", "x"), (70, 90))
    np.testing.assert_array_equal(image.array[0:70, 0:90], wanted.astype("u2"))
    np.testing.assert_array_equal(image.array[2:5, 3:9], wanted[2:5, 3:9].astype("u2"))


def test_a_colour_image_is_not_taken_for_a_stack(tmp_path):
    data = samples((8, 9, 3), "u1")
    plain(tmp_path / "a", data)
    with pytest.raises(
        InputError, match=r"taken for a stack: channel=grey or a channel number from 0 to 2 is accepted"
    ):
        open_image(tmp_path / "a")
    np.testing.assert_array_equal(open_image(tmp_path / "a", channel=1).array[0:8, 0:9], data[..., 1])


def test_a_narrow_stack_with_names_is_no_colour_image(tmp_path):
    plain(tmp_path / "a", samples((8, 9, 3), "u1"), dimension_names=("z", "y", "x"))
    assert open_image(tmp_path / "a").array.shape == (8, 9, 3)


def test_consolidated_metadata_that_is_out_of_date_is_not_believed(tmp_path):
    group = ome(tmp_path / "a", [samples((4, 4))], "yx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not specified for v3
        zarr.consolidate_metadata(str(tmp_path / "a"))
    shutil.rmtree(tmp_path / "a" / "0")
    plain(tmp_path / "a" / "0", samples((9, 5)))
    assert open_image(group.store_path.store.root).array.shape == (9, 5)


def test_inputs_are_opened_for_reading_only(tmp_path):
    plain(tmp_path / "a", samples((4, 4)))
    assert open_image(tmp_path / "a").array.array.read_only


def test_the_digest_names_what_was_selected(tmp_path):
    data = samples((3, 8, 8), "u1")
    for name in ("a", "b"):
        ome(tmp_path / name, [data, data[:, ::2, ::2]], "cyx", labels=("r", "g", "b"))
    ome(tmp_path / "c", [data, data[:, ::2, ::2]], "cyx", compressors=[GzipCodec()])
    digests = [open_image(tmp_path / name).digest for name in "abc"]
    assert digests[0] == digests[1] != digests[2]
    assert open_image(tmp_path / "a", channel="g").digest == open_image(tmp_path / "b", channel=1).digest
    others = {open_image(tmp_path / "a", level=i, channel=c).digest for i in (0, 1) for c in (None, 0, 1, "grey")}
    assert len(others) == 8
    steps = [[{"type": "scale", "scale": [1.0, 1.0, 0.9]}]]
    shifted = [[*steps[0], {"type": "translation", "translation": [0.0, 1.0, 0.0]}]]
    for name, axes, step in (("d", "cyx", steps), ("e", "cyx", shifted), ("f", "zyx", shifted)):
        ome(tmp_path / name, [data], axes, steps=step)
        others.add(open_image(tmp_path / name).digest)
    assert len(others) == 11
    zarr.open_array(str(tmp_path / "b" / "0"), mode="r+").attrs["note"] = "nothing is computed from this"
    assert open_image(tmp_path / "b").digest == digests[0]


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [("c8", 0), ("<M8[s]", 0), ("<m8[s]", 0), ("<U3", ""), ("S3", b""), ([("a", "u1"), ("b", "f4")], None)],
)
def test_dtypes_that_cannot_be_correlated(tmp_path, dtype, fill):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr has not specified all of them
        options = {} if fill is None else {"fill_value": np.array(fill, dtype)[()]}
        zarr.create_array(str(tmp_path / "a"), shape=(4, 4), chunks=(4, 4), dtype=dtype, zarr_format=2, **options)
        with pytest.raises(InputError, match="integers, floats and bool are accepted"):
            open_image(tmp_path / "a")


@pytest.mark.parametrize(
    ("shape", "names", "sentence"),
    [
        ((5,), None, "1 axes: 2 to 5"),
        ((2,) * 6, None, "6 axes: 2 to 5"),
        ((4, 0), None, r"shape \[4, 0\]: at least one sample"),
        ((4, 5, 6), ("y", "x", "t"), r"axes \(y, x, t\): at least two, the last of them in space"),
    ],
)
def test_shapes_that_are_no_image(tmp_path, shape, names, sentence):
    zarr.create_array(str(tmp_path / "a"), shape=shape, chunks=(2,) * len(shape), dtype="u1", dimension_names=names)
    with pytest.raises(InputError, match=sentence):
        open_image(tmp_path / "a")


def test_levels_and_channels_that_are_not_there(tmp_path):
    data = samples((8, 8))
    ome(tmp_path / "a.zarr", [data, data[::2, ::2]], "yx")
    for level in (2, -1):
        with pytest.raises(InputError, match=rf"no level {level}: 0 \(0\), 1 \(1\) is accepted"):
            open_image(tmp_path / "a.zarr", level=level)
    with pytest.raises(InputError, match=r"has no level 1: 0 is accepted"):
        open_image(tmp_path / "a.zarr" / "0", level=1)
    with pytest.raises(InputError, match=r"axes \(y, x\) and so no channel 0: an image with an axis c"):
        open_image(tmp_path / "a.zarr", channel=0)
    plain(tmp_path / "f", samples((5, 4, 4), "f4"), dimension_names=("c", "y", "x"))
    with pytest.raises(InputError, match=r"5 channels of float32: for channel=grey, 3 or 4 of uint8 or uint16"):
        open_image(tmp_path / "f", channel="grey")


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"plate": {}}, "an HCS plate"),
        ({"bioformats2raw.layout": 3}, "a bioformats2raw collection"),
        ({}, "a Zarr group without OME-Zarr image"),
        ({"multiscales": []}, "a Zarr group without OME-Zarr image"),
    ],
)
@pytest.mark.parametrize("wrapped", [True, False])
def test_groups_that_are_no_image_say_what_they_hold(tmp_path, attributes, kind, wrapped):
    group = zarr.create_group(str(tmp_path / "a"))
    for i in range(12):
        group.create_group(f"g{i:02}") if i else group.create_array("array", shape=(2, 2), dtype="u1")
    (tmp_path / "a" / "notes").mkdir()
    group.attrs.update({"ome": {"version": "0.5", **attributes}} if wrapped else attributes)
    with pytest.raises(InputError, match=rf"is {kind} that holds array, g01/, .*g09/, \.\.\.: the path of one image"):
        open_image(tmp_path / "a")


@pytest.mark.parametrize("version", ["0.1", "0.3", "0.6.dev2"])
def test_other_versions_are_refused_by_name(tmp_path, version):
    group = ome(tmp_path / "a", [samples((4, 4))], "yx", "0.5")
    group.attrs["ome"] = {**group.attrs["ome"], "version": version}
    with pytest.raises(InputError, match=rf"is OME-Zarr {version}: 0.4, 0.5 and 0.6 are accepted"):
        open_image(tmp_path / "a")


@pytest.mark.parametrize("path", ["../b", "/etc", "x/../../b", "a\\b", "s3://b/c", "a::b", "n\0ul", ""])
def test_levels_stay_inside_of_the_image(tmp_path, path):
    plain(tmp_path / "b", samples((4, 4)))
    group = ome(tmp_path / "a", [samples((4, 4))], "yx")
    document = group.attrs["ome"]
    document["multiscales"][0]["datasets"][0]["path"] = path
    group.attrs["ome"] = document
    with pytest.raises(InputError, match=r"names a level .*: a relative path inside of|is not a valid Zarr node name"):
        open_image(tmp_path / "a")


def broken_axes(document):
    document["axes"][0]["name"] = "x"


def broken_scale(document):
    document["datasets"][0]["coordinateTransformations"][0]["scale"] = [1.0]


def zero_scale(document):
    document["datasets"][0]["coordinateTransformations"][0]["scale"] = [0.0, 1.0]


def no_datasets(document):
    document["datasets"] = []


def other_name(document):
    document["axes"][0]["name"] = "row"


def no_array(document):
    document["datasets"][0]["path"] = "7"


def a_group(document):
    document["datasets"][0]["path"] = "g"


def other_ndim(document):
    document["datasets"][0]["path"] = "three"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (broken_axes, "is not valid OME-Zarr 0.5: .*unique"),
        (broken_scale, "is not valid OME-Zarr 0.5"),
        (no_datasets, "is not valid OME-Zarr 0.5"),
        (zero_scale, "scale .*: positive and finite numbers are accepted"),
        (other_name, r"axes \(row, x\): axes out of t, c, z, y, x"),
        (no_array, "a/7 cannot be opened: a readable Zarr array is accepted"),
        (a_group, "a/g is a group: an array of 2 axes is accepted"),
        (other_ndim, r"a/three is of shape \[2, 2, 2\]: an array of 2 axes is accepted"),
    ],
)
def test_metadata_that_contradicts_itself(tmp_path, change, sentence):
    group = ome(tmp_path / "a", [samples((4, 4))], "yx")
    group.create_group("g")
    group.create_array("three", shape=(2, 2, 2), dtype="u1")
    document = group.attrs["ome"]
    change(document["multiscales"][0])
    group.attrs["ome"] = document
    with pytest.raises(InputError, match=sentence):
        open_image(tmp_path / "a")


def test_paths_that_are_no_zarr(tmp_path):
    (tmp_path / "file.tif").write_bytes(b"II*\0")
    (tmp_path / "empty").mkdir()
    for source, sentence in (
        (tmp_path / "none", "does not exist: the directory of a Zarr array"),
        (tmp_path / "file.tif", "is a file: the directory of a Zarr array"),
        (tmp_path / "empty", "cannot be opened: a readable Zarr array"),
        ("ftp://host/a.zarr", "ftp://... is an address of another kind: a local path, s3://"),
        (np.zeros((3, 3)), "is a ndarray: a path, an address or a zarr object is accepted"),
        (zarr.storage.MemoryStore(), "cannot be opened"),
    ):
        with pytest.raises(InputError, match=sentence):
            open_image(source)
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize(
    "document",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"zarr_format": 9}',
        '{"zarr_format": 3, "node_type": "array", "shape": "x"}',
        "[" * 100_000,
        "\xff",
    ],
)
@pytest.mark.parametrize("name", ["zarr.json", ".zarray"])
def test_corrupt_metadata_gives_a_sentence(tmp_path, name, document):
    (tmp_path / name).write_text(document, encoding="latin-1")
    with pytest.raises(InputError, match=r"(is|are) accepted"):
        open_image(tmp_path)


def mutated(rng, text):
    """Swap, delete or double a piece of `text`: what a bad disk or a hand edit makes of metadata."""
    a, b, c = sorted(int(i) for i in rng.integers(0, len(text), 3))
    return (text[:a] + text[b:], text[:b] + text[a:], text[:a] + text[b:c] + text[a:b] + text[c:])[rng.integers(3)]


def test_mutated_metadata_gives_an_image_or_a_sentence(tmp_path):
    data = samples((3, 8, 8), "u1")
    ome(tmp_path, [data, data], "cyx", labels=("r", "g", "b"))
    values = ["0", "-1", "1e400", "null", "[]", "{}", '""', '"x"', "true", "[[1]]", str(2**70)]
    rng, sentences, images = np.random.default_rng(5), 0, 0
    for name in ("zarr.json", "0/zarr.json"):
        text = (tmp_path / name).read_text()
        tokens = [
            m.span()
            for m in re.finditer(r'(?<=: )("[^"]*"|[-\d.]+)|(?<=: )[\[{]\s*[^\[\]{}]*[\]}]|(?<=\s)[\d.]+', text)
        ]
        for i in range(200):
            start, stop = tokens[rng.integers(len(tokens))]
            change = mutated(rng, text) if i % 2 else text[:start] + values[rng.integers(len(values))] + text[stop:]
            (tmp_path / name).write_text(change)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    open_image(tmp_path, channel="g").array[0:2, 0:2]
                except InputError as error:
                    sentences += "accepted" in str(error) or "cannot be read" in str(error) or "not valid" in str(error)
                else:
                    images += 1
        (tmp_path / name).write_text(text)
    assert sentences + images == 400
    assert sentences > 200


@pytest.mark.parametrize("version", [2, 3])
def test_a_corrupt_chunk_is_named(tmp_path, version):
    plain(tmp_path / "a", samples((8, 8)), version=version)
    chunk = tmp_path / "a" / ("0.1" if version == 2 else "c/0/1")
    chunk.write_bytes(b"no such codec" * 3)
    image = open_image(tmp_path / "a")
    assert image.array[0:8, 0:4].shape == (8, 4)
    with pytest.raises(InputError, match=r"a/(0\.1|c/0/1) \(39 bytes\) cannot be read at \[0:8, 2:6\]: \w+: \w+"):
        image.array[0:8, 2:6]


def test_lack_of_memory_is_no_fault_of_the_image(tmp_path):
    class Huge:
        def __getitem__(self, key):
            raise MemoryError

    plain(tmp_path / "a", samples((8, 8)))
    with pytest.raises(MemoryError):
        replace(open_image(tmp_path / "a").array, array=Huge(), source=None)[0:8, 0:8]


# --- pairs -----------------------------------------------------------------------------------------------------------
