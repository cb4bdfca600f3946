"""An image in a zip file is the image; a zip that is broken is a sentence."""

import pickle
import zipfile

import numpy as np
import pytest

import bigncc
from bigncc import pipeline
from bigncc.errors import BignccError, InputError
from bigncc.storage import open_image
from tests import pairs
from tests.zarrs import everything, ome, plain, samples


def zipped(folder, path, top="", compression=zipfile.ZIP_STORED):
    """Pack a folder, below the folder `top` of the zip."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for each in sorted(folder.rglob("*")):
            if each.is_file():
                file.write(each, f"{top}{each.relative_to(folder).as_posix()}")
    return path


@pytest.mark.parametrize(
    ("name", "top"), [("a.ome.zarr.zip", ""), ("a.ozx", "a.zarr/"), ("a.ZIP", "0/"), ("a.bin", "")]
)
@pytest.mark.parametrize(("version", "shards"), [("0.4", None), ("0.5", None), ("0.5", (3, 8, 8))])
def test_an_image_in_a_zip_is_the_image(tmp_path, name, top, version, shards):
    data = samples((3, 16, 24))
    options = {"shards": shards, "chunks": (1, 4, 4)} if shards else {}
    ome(tmp_path / "a", [data, data[:, ::2, ::2]], "cyx", version, labels="rgb", **options)
    path = zipped(tmp_path / "a", tmp_path / name, top, zipfile.ZIP_DEFLATED)
    for source in (path, str(path), f"file://{path}"):
        image = open_image(source, channel="g", level=0)
        np.testing.assert_array_equal(everything(image.array), data[1])
        np.testing.assert_array_equal(everything(image.coarser[0]), data[1, ::2, ::2])
        assert image.url == str(path) + f"/{top}".rstrip("/")
        assert open_image(image.url, channel="g").digest == image.digest
    assert open_image(tmp_path / "a", channel="g").digest == image.digest
    np.testing.assert_array_equal(everything(pickle.loads(pickle.dumps(image)).array), data[1])
    if top != "0/":
        np.testing.assert_array_equal(everything(open_image(path / "1", z=2).array), data[2, ::2, ::2])


def test_a_path_leads_into_a_zip(tmp_path):
    data = samples((9, 8))
    ome(tmp_path / "p" / "A" / "1", [data], "yx")
    ome(tmp_path / "p" / "B" / "1", [data.T], "yx")
    path = zipped(tmp_path / "p", tmp_path / "p.zip")
    np.testing.assert_array_equal(everything(open_image(path / "B" / "1").array), data.T)
    with pytest.raises(InputError, match=r"p.zip/C cannot be opened: a readable Zarr array or OME-Zarr image"):
        open_image(path / "C")


def test_a_folder_that_is_called_a_zip_is_a_folder(tmp_path):
    data = samples((9, 8))
    plain(tmp_path / "a.zip", data)
    np.testing.assert_array_equal(everything(open_image(tmp_path / "a.zip").array), data)


def test_a_run_from_zips_is_the_run_from_folders_and_can_be_verified(tmp_path):
    _, _, f, g = pairs.pair(tmp_path)
    zips = [str(zipped(tmp_path / f"{name}.zarr", tmp_path / f"{name}.zip", f"{name}.zarr/")) for name in "ab"]
    pipeline.run(pairs.job(*zips, tmp_path / "out"))
    pairs.same(pairs.maps(tmp_path / "out"), bigncc.local_maps(f, g))
    assert pipeline.verify(str(tmp_path / "out"), recompute=2).faults == ()


def test_chunks_that_are_not_in_the_zip_are_fill(tmp_path):
    data = samples((8, 8))
    data[:4, :4] = 0
    plain(tmp_path / "a", data)
    (tmp_path / "a" / "c" / "0" / "0").unlink(missing_ok=True)
    image = open_image(zipped(tmp_path / "a", tmp_path / "a.zip"))
    np.testing.assert_array_equal(everything(image.array), data)
    assert image.array.absent == 1
    with pytest.raises(InputError, match=r"a.zip/c/0/0 is absent"):
        everything(open_image(tmp_path / "a.zip", missing_chunks="error").array)


def test_a_broken_zip_is_one_sentence(tmp_path):
    plain(tmp_path / "a", samples((64, 64), "u1"), chunks=(32, 32), compressors=None)
    whole = zipped(tmp_path / "a", tmp_path / "a.zip").read_bytes()
    broken = [b"", b"PK", whole[: len(whole) // 2], whole[100:], whole[:-1]]
    rng = np.random.default_rng(0)
    for _ in range(60):
        flipped = bytearray(whole)
        flipped[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        broken.append(bytes(flipped))
    sentences = []
    for i, content in enumerate(broken):
        path = tmp_path / f"{i}.zip"
        path.write_bytes(content)
        try:
            everything(open_image(path).array)
        except InputError as error:
            sentences.append(f"{i}.zip" in str(error) and "\n" not in str(error))
    assert all(sentences)
    assert len(sentences) > 40
    with pytest.raises(
        InputError, match=r"0.zip cannot be read \(BadZipFile: .*\): a zip file that is whole is accepted"
    ):
        open_image(tmp_path / "0.zip")


@pytest.mark.parametrize("name", ["out.zip", "out.ozx", "out.ome.zarr.ZIP"])
def test_a_zip_is_no_output(tmp_path, name):
    with pytest.raises(InputError, match="config key output.url is .* zip files are read and not written"):
        pairs.job("a", "b", tmp_path / name)
    (tmp_path / "in.zip").write_bytes(zipped(tmp_path, tmp_path / "e.zip").read_bytes())
    reference, moving, _, _ = pairs.pair(tmp_path)
    with pytest.raises(BignccError, match=r"in.zip"):
        pipeline.run(pairs.job(reference, moving, tmp_path / "in.zip" / "out"))


@pytest.mark.parametrize("name", ["../a/zarr.json", "/etc/zarr.json", "a/../../zarr.json", "a//zarr.json"])
def test_a_zip_that_leads_out_of_itself_is_refused(tmp_path, name):
    plain(tmp_path / "a", samples((8, 8)))
    path = zipped(tmp_path / "a", tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, "{}")
    with pytest.raises(InputError, match=rf"a.zip holds '{name}': a zip file of paths within it is accepted"):
        open_image(path)


def test_an_object_that_a_zip_makes_large_is_not_read(tmp_path):
    plain(tmp_path / "a", samples((8, 8)))
    (tmp_path / "a" / "c" / "0" / "0").write_bytes(bytes(2**24))
    path = zipped(tmp_path / "a", tmp_path / "a.zip", compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**16
    with pytest.raises(InputError, match="a.zip/c/0/0 has 16777216 bytes: at most [0-9]+, as its array says, are"):
        everything(open_image(path).array)
