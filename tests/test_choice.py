"""What is chosen on the axes of an array is what numpy would give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bigncc
from bigncc.choice import GREY, in_file
from bigncc.errors import InputError
from bigncc.storage import grey, open_image
from tests import pairs
from tests.zarrs import everything, ome, plain, samples


@st.composite
def choices(draw):
    """A shape, a pick on each axis, and a key of slices and numbers on what is left."""
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    picks, key = [], []
    for n in shape:
        start = draw(st.integers(0, n - 1))
        if draw(st.booleans()):
            picks.append(start)
            continue
        picks.append(slice(start, draw(st.integers(start + 1, n))))
        left = picks[-1].stop - start
        a = draw(st.integers(0, left - 1))
        key.append(draw(st.sampled_from([a, slice(a, left), slice(None), slice(a, left + 3)])))
    return tuple(shape), tuple(picks), tuple(key)


@given(choices())
def test_the_region_in_the_file_is_what_numpy_would_take(case):
    shape, picks, key = case
    array = np.arange(np.prod(shape)).reshape(shape)
    region, dropped = in_file(picks, key)
    np.testing.assert_array_equal(array[region].squeeze(dropped), array[picks][key])


@pytest.mark.parametrize("chunks", [(1, 2, 4, 4, 4), (4, 1, 3, 8, 5)])
@pytest.mark.parametrize("time", [None, 1, (1, 3), [2, 4]])
@pytest.mark.parametrize("z", [None, 0, 6, (3, 7), (0, 1)])
@pytest.mark.parametrize("channel", [None, 2, GREY])
def test_an_index_drops_its_axis_and_a_range_keeps_it(tmp_path, chunks, time, z, channel):
    data = samples((4, 3, 7, 9, 8), "u2")
    step = [{"type": "scale", "scale": [2.0, 1.0, 0.5, 0.25, 0.25]}]
    step.append({"type": "translation", "translation": [10.0, 0.0, 1.0, 2.0, 3.0]})
    ome(tmp_path / "a", [data], "tczyx", steps=[step], chunks=chunks)
    image = open_image(tmp_path / "a", time=time, z=z, channel=channel)
    wanted, axes, starts = data, "tczyx", {"t": 0, "z": 0}
    for name, choice in (("t", time), ("z", z), ("c", channel)):
        axis = axes.index(name)
        if choice == GREY:
            wanted, axes = grey(np.moveaxis(wanted, axis, 0)), axes.replace(name, "")
        elif isinstance(choice, int):
            wanted, axes = wanted.take(choice, axis), axes.replace(name, "")
        elif choice is not None:
            wanted = wanted.take(range(*choice), axis)
            starts[name] = choice[0]
    np.testing.assert_array_equal(everything(image.array), wanted)
    assert (image.axes, image.array.shape) == (tuple(axes), wanted.shape)
    assert len(image.array.chunks) == len(image.scale) == len(image.units) == len(axes)
    origin = {"t": 10 + 2 * starts["t"], "c": 0, "z": 1 + 0.5 * starts["z"], "y": 2, "x": 3}
    assert image.translation == tuple(origin[name] for name in axes)
    assert image.array.absent == 0
    assert image.array.stored(tuple(slice(0, n) for n in wanted.shape)).all()
    assert image.array.stored((0, *(slice(0, n) for n in wanted.shape[1:]))).shape == wanted.shape[1:]


def test_the_digest_tells_choices_apart(tmp_path):
    ome(tmp_path / "a", [samples((4, 4, 8, 8))], "tzyx")
    choices = (None, 0, 1, (0, 1), (1, 2), (0, 4))
    digests = {open_image(tmp_path / "a", time=t, z=z).digest for t in choices for z in choices}
    assert len(digests) == len(choices) ** 2


def test_coarser_levels_have_the_same_choice_or_are_left_out(tmp_path):
    data = samples((6, 16, 24))
    ome(tmp_path / "a", [data, data[:, ::2, ::2], data[::2, ::4, ::4]], "zyx")
    image = open_image(tmp_path / "a", z=4)
    assert image.levels == ((16, 24), (8, 12), (4, 6))
    (coarser,) = image.coarser
    np.testing.assert_array_equal(everything(coarser), data[4, ::2, ::2])
    (coarser,) = open_image(tmp_path / "a", z=(1, 3)).coarser
    np.testing.assert_array_equal(everything(coarser), data[1:3, ::2, ::2])
    assert len(open_image(tmp_path / "a").coarser) == 2


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"z": 3}, r"has no z 3: a number from 0 to 2, or a range within 0:3, is accepted"),
        ({"z": -1}, r"has no z -1: a number"),
        ({"z": (1, 4)}, r"has no z 1:4: a number"),
        ({"z": (2, 2)}, r"has no z 2:2: a number"),
        ({"z": (0, 1, 2)}, r"has no z 0:1:2: a number"),
        ({"z": 1.5}, r"has no z 1.5: a number"),
        ({"time": 0}, r"has axes \(z, y, x\) and so no time 0: an image with an axis t is accepted"),
        ({"time": (0, 1)}, r"has axes \(z, y, x\) and so no time 0:1: an image with an axis t"),
    ],
)
def test_what_is_not_there_is_refused(tmp_path, choice, sentence):
    ome(tmp_path / "a", [samples((3, 8, 8))], "zyx")
    with pytest.raises(InputError, match=sentence):
        open_image(tmp_path / "a", **choice)


def test_a_plane_of_a_stack_and_a_range_are_correlated_alone(tmp_path):
    f, g = samples((7, 60, 70), seed=1), samples((7, 60, 70), seed=2)
    g[:, :30] = f[:, :30]
    for name, data in (("a", f), ("b", g)):
        plain(tmp_path / name, data, chunks=(4, 32, 32), dimension_names=("z", "y", "x"))
    job = (str(tmp_path / "a"), str(tmp_path / "b"))
    cases = (("2", "3", f[2], g[3], 7), ("3:6", "3:6", f[3:6], g[3:6], 7), ("1:6", "1:6", f[1:6], g[1:6], [3, 5, 5]))
    for k, (first, second, one, other, size) in enumerate(cases):
        chunks = [32, 32] if size == 7 else [2, 32, 32]
        words = (f"reference.z={first}", f"moving.z={second}", {"window": {"size": size}, "output": {"chunks": chunks}})
        out = tmp_path / f"out{k}"
        bigncc.run(pairs.job(*job, out, *words))
        window = size if isinstance(size, int) else tuple(size)
        pairs.same(pairs.maps(out), bigncc.local_maps(one, other, window))
    with pytest.raises(bigncc.errors.RefusedError, match=r"out0 is the output of another request \(moving.metadata is"):
        bigncc.run(pairs.job(*job, tmp_path / "out0", "reference.z=2", "moving.z=4"))
