"""What strangers wrote is refused in a sentence or read as it is, quickly and in little memory."""

import json
import os
import pickle
import shutil
import time
import tracemalloc

import google_crc32c
import numpy as np
import pytest
import zarr

from bigncc import gate, pipeline, result
from bigncc.errors import InputError
from bigncc.output import open_output
from bigncc.storage import open_image
from tests import bombs, hostile, pairs
from tests.bombs import LITTLE, SIZE, codec, linked, shard, sharded, sparse, v2, v3
from tests.zarrs import everything, ome, plain, samples, tree


@pytest.mark.parametrize("kind", list(hostile.KINDS))
@pytest.mark.filterwarnings("ignore")
def test_mutated_inputs_are_refused_or_read_right(tmp_path, kind):
    rows = [hostile.case(kind, seed, tmp_path / "case") for seed in range(1000, 1020)]
    bad = [row for row in rows if row["outcome"] not in ("refused", "right")]
    assert not bad
    assert {row["outcome"] for row in rows} >= {"refused"}
    assert max(row["seconds"] for row in rows) < 5


def refused(path, sentence):
    """Read an image that is refused; in little time and memory."""
    tracemalloc.start()
    begun = time.perf_counter()
    try:
        with pytest.raises(InputError, match=sentence) as caught:
            everything(open_image(path).array)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - begun < 1
    assert "\n" not in str(caught.value)


# --- metadata --------------------------------------------------------------------------------------------------------


def document(folder, **changes):
    """Write metadata with a change."""
    v3(folder, [LITTLE], bytes(SIZE))
    text = json.loads((folder / "zarr.json").read_text())
    (folder / "zarr.json").write_text(json.dumps({**text, **changes}))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"shape": [10**20, 4]}, r"has shape \[1.*0, 4\]: a list of whole numbers from 0 to 2.40 is accepted"),
        ({"shape": [64.0, 64]}, "a list of whole numbers"),
        ({"shape": [True, 64]}, "a list of whole numbers"),
        ({"shape": [-1, 64]}, "a list of whole numbers"),
        ({"shape": 64}, "a list of whole numbers"),
        ({"shape": [64]}, r"has shape \[64\] and chunks \[64, 64\]: as many extents are accepted"),
        ({"data_type": "string"}, "has dtype 'string': integers, floats and bool are accepted"),
        ({"data_type": "r800000000"}, "integers, floats and bool"),
        ({"data_type": {"name": "fixed_length_utf32", "configuration": {"length_bytes": 4e9}}}, "integers, floats"),
        ({"codecs": [LITTLE, {"name": "numcodecs.pickle"}]}, "has codec 'numcodecs.pickle': bytes, transpose, zstd"),
        ({"codecs": [{"name": "vlen-utf8"}]}, "has codec 'vlen-utf8'"),
        ({"codecs": []}, "a list of 1 to 8 is accepted"),
        ({"codecs": [LITTLE] * 9}, "a list of 1 to 8 is accepted"),
        ({"codecs": 7}, "a list of 1 to 8 is accepted"),
        ({"storage_transformers": [{"name": "x"}]}, "has storage_transformers: none is accepted"),
        ({"chunk_grid": {"name": "rectilinear"}}, "regular is accepted"),
        (
            {"codecs": sharded(), "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [48, 48]}}},
            "multiples",
        ),
        *(
            ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}}}, sentence)
            for chunks, sentence in [
                ([0, 4], "chunk_shape .* whole numbers from 1"),
                ([-4, 4], "whole numbers from 1"),
                ([2**16, 2**16], "has chunks .* of 8589934592 bytes each: at most 2147483648 bytes are accepted"),
            ]
        ),
    ],
)
def test_arrays_that_cannot_be_read_safely(tmp_path, changes, sentence):
    document(tmp_path / "a", **changes)
    refused(tmp_path / "a", sentence)


def test_shards_of_too_many_chunks(tmp_path):
    codecs = sharded()
    codecs[0]["configuration"]["chunk_shape"] = [1, 1]
    v3(tmp_path / "a", codecs, b"", shape=(2**20, 2**20), chunks=(2**20, 2**20))
    refused(tmp_path / "a", "has shards of 1099511627776 chunks: at most 1048576 are accepted")
    codecs[0]["configuration"]["index_codecs"] = [LITTLE, codec("gzip")]
    v3(tmp_path / "b", codecs, b"")
    refused(tmp_path / "b", "has index codec 'gzip': bytes and crc32c are accepted")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dtype": "|O", "filters": [{"id": "vlen-utf8"}, {"id": "pickle"}]}, "dtype '.O': integers, floats and bool"),
        ({"filters": [{"id": "pickle"}]}, "has codec 'pickle': zlib, gzip, blosc"),
        ({"compressor": {"id": "lzma"}}, "has codec 'lzma'"),
        ({"dtype": "|V2147483647"}, "integers, floats and bool"),
        ({"filters": [{"id": "delta", "dtype": "|V2147483647"}]}, "has dtype '.V2147483647'"),
        ({"filters": [{"id": "shuffle"}] * 8}, "has 9 codecs: at most 8 are accepted"),
    ],
)
def test_arrays_of_version_2_that_cannot_be_read_safely(tmp_path, changes, sentence):
    v2(tmp_path / "a", bytes(SIZE), **changes)
    refused(tmp_path / "a", sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"zarr_format": 3, "zarr_format": 3}', "the key 'zarr_format' is there 2 times"),
        ('{"a":' * 10**5, "is nested more than 64 levels deep"),
        ('{"a": ' + "[" * 500 + "]" * 500 + "}", "is nested more than 64 levels deep"),
        ('{"a": ' + "9" * 5000 + "}", "ValueError: Exceeds the limit"),
        ("[1]", "holds a list: a mapping is accepted"),
        ('{"a": [' + "[]," * 2**22 + "[]]}", "has more than 4194304 values"),
    ],
)
@pytest.mark.parametrize("name", ["zarr.json", ".zattrs"])
def test_documents_that_are_none(tmp_path, text, sentence, name):
    document(tmp_path / "a")
    if name == ".zattrs":
        (tmp_path / "a" / "zarr.json").unlink()
        v2(tmp_path / "b", bytes(SIZE))
        shutil.copytree(tmp_path / "b", tmp_path / "a", dirs_exist_ok=True)
    (tmp_path / "a" / name).write_text(text)
    with pytest.raises(InputError, match=sentence):
        open_image(tmp_path / "a")


def test_a_document_that_is_large_is_not_read(tmp_path):
    document(tmp_path / "a")
    sparse(tmp_path / "a" / "zarr.json", 2**40)
    refused(tmp_path / "a", "zarr.json has 1099511627776 bytes: at most 67108864")


# --- places ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["chunk", "folder", "metadata", "level"])
def test_links_out_of_an_image_are_refused_and_those_within_are_followed(tmp_path, what):
    data = samples((16, 16))
    for name in "ab":
        ome(tmp_path / name, [data], "yx")
    at = {"chunk": "0/c/0/0", "folder": "0/c/0", "metadata": "0/zarr.json", "level": "0"}[what]
    here, other = tmp_path / "a" / at, tmp_path / "b" / at
    if here.is_dir():
        shutil.move(here, tmp_path / "a" / "kept")
    else:
        here.rename(tmp_path / "a" / "kept")
    linked(here, os.path.relpath(tmp_path / "a" / "kept", here.parent))
    np.testing.assert_array_equal(everything(open_image(tmp_path / "a").array), data)
    linked(here, other)
    refused(tmp_path / "a", rf"a/{at}\S* is a link that leads out of the image, to {tmp_path}/b/")
    linked(tmp_path / "c", tmp_path / "b")
    np.testing.assert_array_equal(everything(open_image(tmp_path / "c").array), data)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    document(tmp_path / "a")
    (tmp_path / "a" / "c" / "0" / "0").unlink()
    os.mkfifo(tmp_path / "a" / "c" / "0" / "0")
    refused(tmp_path / "a", "c/0/0 is a pipe, a socket or a device: a file is accepted")


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "a\\b", "a\0", "a//b", "."])
def test_no_key_leads_elsewhere(tmp_path, key):
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    store = gate.Gated(zarr.storage.LocalStore(tmp_path))
    if key != ".":
        with pytest.raises(InputError, match="a relative path inside of the image is accepted"):
            sync(store.get(key, default_buffer_prototype()))


# --- objects ---------------------------------------------------------------------------------------------------------


WHERE = [("v2", name) for name in bombs.PACKED]
WHERE += [
    (where, name) for where in ("v3", "shard") for name in bombs.PACKED if name.split()[0] in ("gzip", "zstd", "blosc")
]


@pytest.mark.parametrize(("where", "name"), WHERE)
def test_chunks_decode_to_no_more_than_their_array_says(tmp_path, where, name):
    chunk, kind = bombs.PACKED[name](), name.partition(" ")[0]
    assert len(chunk) < 2**17
    if where == "v2":
        v2(tmp_path / "a", chunk, compressor={"id": kind})
    elif where == "v3":
        v3(tmp_path / "a", [LITTLE, codec(kind)], chunk)
    else:
        v3(tmp_path / "a", sharded(codec(kind)), shard(chunk, [0, len(chunk)]))
    refused(tmp_path / "a", "where at most [0-9]+ bytes can be|at most [0-9]+, as its array says|buffer is too small")


@pytest.mark.parametrize(
    "first", [[0, 2**40], [0, 2**63], [0, ABSENT := 2**64 - 1], [5, ABSENT], [2**63, 2048], [10**9, 2048]]
)
@pytest.mark.parametrize("all_of_it", [True, False])
def test_the_index_of_a_shard_leads_to_no_more_than_a_chunk(tmp_path, first, all_of_it):
    v3(tmp_path / "a", sharded(), shard(bytes(2048), first))
    image = open_image(tmp_path / "a").array
    with pytest.raises(InputError, match="its index leads to a larger chunk|cannot be read"):
        _ = everything(image) if all_of_it else image[0:4, 0:4]


@pytest.mark.parametrize("codecs", [[LITTLE], sharded()])
def test_an_object_that_is_larger_than_its_array_says_is_not_read(tmp_path, codecs):
    v3(tmp_path / "a", codecs, b"")
    sparse(tmp_path / "a" / "c" / "0" / "0", 2**40)
    refused(tmp_path / "a", "c/0/0 has 1099511627776 bytes: at most [0-9]+, as its array says, are accepted")


@pytest.mark.parametrize(("version", "shards"), [(2, None), (3, None), (3, (8, 16))])
def test_what_is_bounded_survives_pickling_and_is_bounded_still(tmp_path, version, shards):
    data = samples((16, 16))
    options = {} if shards is None else {"shards": shards}
    plain(tmp_path / "a", data, version=version, **options)
    image = pickle.loads(pickle.dumps(open_image(tmp_path / "a").array))
    np.testing.assert_array_equal(everything(image), data)
    codecs = repr(image.array.metadata)
    assert ("Kept" if version == 2 else "Bounded") in codecs
    assert "most=0" not in codecs


# --- outputs ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Make a finished run, whose output somebody may have sent to somebody else."""
    folder = tmp_path_factory.mktemp("made")
    reference, moving, *_ = pairs.pair(folder, (60, 70))
    job = pairs.job(reference, moving, folder / "out")
    pipeline.run(job)
    return folder, job


@pytest.fixture
def sent(made):
    """Return that run and its output; afterwards all is as it was."""
    folder, job = made
    for name in ("out", "out.bigncc"):
        shutil.copytree(folder / name, folder / f"{name}.kept")
    yield job, folder / "out"
    for name in ("out", "out.bigncc"):
        shutil.rmtree(folder / name)
        (folder / f"{name}.kept").rename(folder / name)


def changed(path, **words):
    path.write_text(json.dumps({**json.loads(path.read_text()), **words}))


@pytest.mark.parametrize(
    "words",
    [
        {"codecs": [LITTLE, {"name": "numcodecs.pickle"}]},
        {"codecs": [{"name": "vlen-utf8"}]},
        {"shape": [10**20, 4]},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**20, 2**20]}}},
    ],
)
def test_no_verb_reads_an_output_that_is_no_safe_image(sent, words):
    job, out = sent
    changed(out / "0" / "zarr.json", **words)
    for verb in (pipeline.panel, result.open_result):
        with pytest.raises(InputError, match="is accepted|are accepted"):
            verb(str(out))
    assert any("is not what was written there" in fault for fault in pipeline.verify(str(out)).faults)
    with pytest.raises(InputError, match="is accepted|are accepted"):
        pipeline.run(job)


@pytest.mark.parametrize("name", ["0/c", "0/c/1", "labels", "labels/status/0/c/0"])
def test_nothing_is_written_where_a_link_leads_out_of_an_output(sent, tmp_path, name):
    job, out = sent
    shutil.move(out / name, tmp_path / "elsewhere")
    (out / name).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    for path in sorted((tmp_path / "elsewhere").rglob("*")):  # so that all of it would be written again
        if path.is_file():
            path.unlink()
    before = tree(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link that leads out of the image"):
        pipeline.run(job)
    assert tree(tmp_path / "elsewhere") == before


def test_an_object_that_is_larger_than_it_can_be_is_a_fault_and_is_computed_again(sent):
    job, out = sent
    path = out / "0" / "c" / "1" / "1"
    before = path.read_bytes()
    sparse(path, 2**40)
    faults = pipeline.verify(str(out)).faults
    assert [fault for fault in faults if f"{path} has 1099511627776 bytes: at most" in fault]
    pipeline.run(job)
    assert path.read_bytes() == before


def test_a_chunk_of_an_output_decodes_to_no_more_than_it_can_hold(sent):
    job, out = sent
    path = out / "0" / "c" / "0" / "0"
    bomb = bombs.PACKED["blosc"]()
    path.write_bytes(bomb + google_crc32c.value(bomb).to_bytes(4, "little"))
    with pytest.raises(InputError, match="where at most [0-9]+ bytes can be"):
        pipeline.panel(str(out))
    with pytest.raises(ValueError, match="where at most [0-9]+ bytes can be"):
        _ = open_output(out).maps["ncc"][...]
    assert [fault for fault in pipeline.verify(str(out), recompute=4).faults if str(path) in fault]
    pipeline.run(job)
    assert path.read_bytes()[:12] != bomb[:12]


@pytest.mark.soak
def test_ten_thousand_inputs():
    from tests.benchmarks.hostile import table

    lines, bad = table(10_000)
    assert not bad
    assert max(each["seconds"] for each in lines) < 5
    assert max(each["peak"] for each in lines) < 10**9
