"""Which two images can be compared pixel by pixel."""

from dataclasses import replace

import pytest

from bigncc.errors import InputError
from bigncc.grids import check_pair
from bigncc.storage import Image


def pair(shape=(2, 100, 80), **changes):
    class Shaped:
        def __init__(self, shape):
            self.shape = shape

    one, zero = (1.0,) * len(shape), (0.0,) * len(shape)
    units = (None,) * len(shape)
    image = Image(Shaped(shape), ("c", "y", "x"), True, one, zero, units, (shape,), (), "", 0, "")
    if "shape2" in changes:
        changes["array"] = Shaped(changes.pop("shape2"))
    return image, replace(image, **changes)


def test_equal_images_are_a_pair():
    assert check_pair(*pair(), same_grid=True) == []


def test_differences_below_a_tenth_of_a_pixel_are_notes():
    (note,) = check_pair(*pair(scale=(1.0, 1.0005, 1.0)), same_grid=True)
    assert "axis y" in note
    assert "0.0495 px" in note
    (note,) = check_pair(*pair(translation=(0.0, 0.0, -0.05)), same_grid=True)
    assert "0.05 px" in note
    assert check_pair(*pair(scale=(9.0, 1.0, 1.0), translation=(5.0, 0.0, 0.0)), same_grid=True) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"scale": (1.0, 1.0, 1.002)},
            r"axis x .* 1.002, 0 in moving, which differ by up to 0.158 px: .*or a registration",
        ),
        ({"translation": (0.0, 0.1, 0.0)}, "differ by up to 0.1 px"),
        ({"translation": (0.0, 0.06, 0.0), "scale": (1.0, 1.001, 1.0)}, "0.159 px"),
        ({"shape2": (2, 100, 81)}, "axis x has length 80 in reference and 81 in moving: .*or a registration"),
    ],
)
def test_other_grids_need_a_transform(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        check_pair(*pair(**changes), same_grid=True)
    assert check_pair(*pair(**changes), same_grid=False) == []


def test_units_must_be_one_where_both_are_given():
    reference, moving = pair(units=(None, "micrometer", "micrometer"))
    assert check_pair(reference, moving, same_grid=True) == []
    with pytest.raises(InputError, match="axis y is in nanometer in reference and in micrometer in moving"):
        check_pair(replace(reference, units=(None, "nanometer", None)), moving, same_grid=True)


def test_an_array_without_pixel_size_is_taken_as_it_is():
    (note,) = check_pair(*pair(scale=(1.0, 7.0, 7.0), calibrated=False), same_grid=True)
    assert note.startswith("moving gives no pixel size")
    reference, moving = pair(scale=(1.0, 7.0, 7.0), calibrated=False)
    (note,) = check_pair(moving, reference, same_grid=True)
    assert note.startswith("reference gives no pixel size")
    assert check_pair(moving, moving, same_grid=True) == []


@pytest.mark.parametrize("same_grid", [True, False])
def test_batches_and_axes_must_agree_always(same_grid):
    with pytest.raises(
        InputError, match="axis c has length 2 in reference and 1 in moving: equal lengths are accepted"
    ):
        check_pair(*pair(shape2=(1, 100, 80)), same_grid=same_grid)
    for axes in (("y", "c", "x"), ("z", "y", "x")):
        with pytest.raises(InputError, match=rf"axes \(c, y, x\) and moving \({', '.join(axes)}\): the same axes"):
            check_pair(*pair(axes=axes), same_grid=same_grid)
    (note,) = check_pair(*pair(axes=("z", "y", "x"), named=False), same_grid=same_grid)
    assert "taken for the same in this order" in note
    reference, moving = pair()
    with pytest.raises(InputError, match="the same axes in the same order"):
        check_pair(reference, replace(moving, axes=("y", "x"), named=False), same_grid=same_grid)
