"""Displacement fields from every file, in both orders of components."""

import pickle

import numpy as np
import pytest

from bigncc.errors import InputError
from bigncc.field import open_field
from tests.zarrs import ome, plain


@pytest.mark.parametrize("kind", ["npy", "npz", "npz-named", "array", "group"])
def test_fields_from_every_file(tmp_path, kind):
    data = np.random.default_rng(2).normal(size=(2, 6, 4)).astype(">f4")
    path = tmp_path / f"f.{kind[:3]}"
    if kind == "npy":
        np.save(path, data)
    elif kind == "npz":
        np.savez(path, whatever=data)
    elif kind == "npz-named":
        np.savez(path, other=data[0], displacement=data)
    elif kind == "array":
        plain(path, data)
    else:
        ome(path, [data, data[:, ::2, ::2]], "cyx")
    for components, wanted in (("forward", data), ("reversed", data[::-1])):
        field = pickle.loads(pickle.dumps(open_field(path, components=components)))
        assert (field.shape, field.ndim, field.dtype) == ((2, 6, 4), 3, np.dtype("f4"))
        assert len(field.chunks) == 3
        for key in (np.s_[0:2, 0:6, 0:4], np.s_[0:1, 2:5, 1:3], np.s_[1:2, 0:1, 3:4], np.s_[:, 1:2, 0:4]):
            assert field[key].dtype.isnative
            np.testing.assert_array_equal(field[key], wanted[key])


def test_a_mapped_field_is_pickled_without_its_contents(tmp_path):
    np.save(tmp_path / "f.npy", np.zeros((2, 300, 300)))
    assert len(pickle.dumps(open_field(tmp_path / "f.npy"))) < 2000


def test_fields_that_cannot_be_used(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object))
    (tmp_path / "torn.npy").write_bytes(b"\x93NUMPY\x01")
    for i, data in enumerate(
        [np.zeros((2, 4)), np.zeros((3, 4, 4)), np.zeros((4, 4, 2)), np.zeros((2, 0, 4)), np.zeros((2, 4, 4), bool)]
    ):
        np.save(tmp_path / f"{i}.npy", data)
        with pytest.raises(InputError, match=r"real numbers \[2, y, x\] or \[3, z, y, x\] are accepted"):
            open_field(tmp_path / f"{i}.npy")
    for name, sentence in (
        ("two.npz", "holds a, b: one array, or one named field or displacement"),
        ("object.npy", "cannot be read: a .npy or .npz file of plain numbers is accepted"),
        ("torn.npy", "cannot be read"),
        ("none.npy", "cannot be read"),
        ("none.zarr", "does not exist"),
    ):
        with pytest.raises(InputError, match=sentence):
            open_field(tmp_path / name)
    with pytest.raises(InputError, match="components is 'xy': forward or reversed is accepted"):
        open_field(tmp_path / "0.npy", components="xy")


def test_fields_that_stand_for_more_than_they_are(tmp_path):
    import zipfile

    np.savez_compressed(tmp_path / "bomb.npz", field=np.zeros((2, 3000, 3000)))
    with pytest.raises(InputError, match="bomb.npz holds field of 144000128 bytes in [0-9]+: at most 2147483648, and"):
        open_field(tmp_path / "bomb.npz")
    np.savez_compressed(tmp_path / "small.npz", field=np.zeros((2, 300, 300)))
    assert open_field(tmp_path / "small.npz").shape == (2, 300, 300)
    # a header that promises what is not there
    header = str({"descr": "<f8", "fortran_order": False, "shape": (2, 10**5, 10**5)}).ljust(117) + "\n"
    text = b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header.encode() + bytes(64)
    with zipfile.ZipFile(tmp_path / "empty.npz", "w") as file:
        file.writestr("field.npy", text)
    (tmp_path / "empty.npy").write_bytes(text)
    with pytest.raises(InputError, match=r"field of shape \[2, 100000, 100000\] and dtype float64 in 192 bytes: all"):
        open_field(tmp_path / "empty.npz")
    with pytest.raises(InputError, match="empty.npy cannot be read"):
        open_field(tmp_path / "empty.npy")
