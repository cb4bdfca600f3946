"""OME-Zarr 0.6 says what 0.5 says, or is refused by the name of what it says more."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigncc.coordinates import combined
from bigncc.errors import InputError
from bigncc.storage import open_image
from tests.zarrs import everything, ome, samples

OTHERS = (
    "mapAxis", "projectAxis", "affine", "rotation", "bijection", "byDimension", "displacements", "coordinates", "new",
)  # fmt: skip
numbers = st.lists(st.integers(-8, 8).map(lambda n: n / 4), min_size=2, max_size=2)


@given(st.lists(st.tuples(st.sampled_from(["scale", "translation"]), numbers), max_size=5), numbers)
def test_combined_steps_are_the_steps_one_after_the_other(steps, point):
    scale, translation = combined(steps, 2)
    wanted = point
    for kind, values in steps:
        wanted = [p * v if kind == "scale" else p + v for p, v in zip(wanted, values, strict=True)]
    assert [p * s + t for p, s, t in zip(point, scale, translation, strict=True)] == wanted


def scale(*values):
    return {"type": "scale", "scale": list(values)}


def translation(*values):
    return {"type": "translation", "translation": list(values)}


def sequence(*steps):
    return {"type": "sequence", "transformations": list(steps)}


def image(path, transformations, *, version="0.6", extra=(), change=None):
    """Write an image whose level i is brought into the system "intrinsic" by ``transformations[i]``."""
    data = samples((3, 16, 24))
    levels = [data[:, :: 2**i, :: 2**i] for i in range(len(transformations))]
    group = ome(path, levels, "cyx")
    axes = [{"name": "c", "type": "channel", "discrete": True}]
    axes += [{"name": name, "type": "space", "unit": "micrometer", "longName": "long"} for name in "yx"]
    other = [{**axis, "unit": "nanometer"} for axis in axes[1:]]
    document = {
        "name": "a",
        "coordinateSystems": [{"name": "world", "axes": [axes[0], *other]}, {"name": "intrinsic", "axes": axes}],
        "datasets": [
            {
                "path": str(i),
                "coordinateTransformations": [{**step, "input": {"path": str(i)}, "output": {"name": "intrinsic"}}],
            }
            for i, step in enumerate(transformations)
        ],
    }
    if extra:
        ends = {"input": {"name": "intrinsic"}, "output": {"name": "world"}}
        document["coordinateTransformations"] = [{**step, **ends} for step in extra]
    if change:
        change(document)
    group.attrs["ome"] = {"version": version, "multiscales": [document]}
    return levels


@pytest.mark.parametrize("version", ["0.6", "0.6rc0", "0.6rc1"])
@pytest.mark.parametrize(
    ("level", "found"),
    [
        ({"type": "identity"}, ((1, 1, 1), (0, 0, 0))),
        (scale(1, 0.5, 0.25), ((1, 0.5, 0.25), (0, 0, 0))),
        (sequence(scale(1, 0.5, 0.25), translation(0, 3, -4)), ((1, 0.5, 0.25), (0, 3, -4))),
        (sequence(translation(0, 3, -4), scale(1, 0.5, 0.25)), ((1, 0.5, 0.25), (0, 1.5, -1))),
        (sequence(sequence(scale(1, 2, 2), {"type": "identity"}), translation(0, 1, 1)), ((1, 2, 2), (0, 1, 1))),
    ],
)
def test_names_units_scales_and_translations(tmp_path, version, level, found):
    levels = image(tmp_path / "a", [scale(1, 0.125, 0.125), level], version=version, extra=[scale(1, 1000, 1000)])
    opened = open_image(tmp_path / "a", level=1)
    assert (opened.scale, opened.translation) == found
    assert (opened.axes, opened.units) == (("c", "y", "x"), (None, "micrometer", "micrometer"))
    assert opened.calibrated
    np.testing.assert_array_equal(everything(opened.array), levels[1])
    assert open_image(tmp_path / "a").scale == (1, 0.125, 0.125)


@pytest.mark.parametrize("kind", OTHERS)
def test_other_transformations_are_refused_by_name(tmp_path, kind):
    other = {"type": kind, kind: [[1]]}
    sentence = rf"has a coordinate transformation of type {kind}: identity, scale, translation and sequences of these"
    cases = ([other], ()), ([sequence(scale(1, 1, 1), other)], ()), ([scale(1, 1, 1)], [other])
    for i, (levels, extra) in enumerate(cases):
        image(tmp_path / str(i), levels, extra=extra)
        with pytest.raises(InputError, match=sentence):
            open_image(tmp_path / str(i))


def two_systems(document):
    document["datasets"][0]["coordinateTransformations"][0]["output"] = {"name": "world"}


def unknown_system(document):
    for dataset in document["datasets"]:
        dataset["coordinateTransformations"][0]["output"] = {"name": "moon"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (two_systems, "has levels in the coordinate systems intrinsic, world: one for all"),
        (unknown_system, "in the coordinate systems moon: one for all of them, out of world, intrinsic, is accepted"),
        (lambda d: d.pop("coordinateSystems"), "is not valid OME-Zarr 0.6: KeyError: 'coordinateSystems'"),
        (lambda d: d.pop("datasets"), "is not valid OME-Zarr 0.6: KeyError: 'datasets'"),
        (lambda d: d["datasets"].clear(), "in the coordinate systems none: one for all"),
        (lambda d: d["datasets"][0].update(coordinateTransformations=[]), "is not valid OME-Zarr 0.6: ValueError"),
        (lambda d: d["coordinateSystems"][1]["axes"].pop(), "is not valid OME-Zarr 0.6: ValueError"),
        (lambda d: d["coordinateSystems"][1]["axes"][1].update(name="x"), "is not valid OME-Zarr 0.6: .*unique"),
        (lambda d: d["datasets"][1].update(path="7"), "a/7 cannot be opened"),
    ],
)
def test_documents_that_contradict_themselves(tmp_path, change, sentence):
    image(tmp_path / "a", [scale(1, 1, 1), scale(1, 2, 2)], change=change)
    with pytest.raises(InputError, match=sentence) as caught:
        open_image(tmp_path / "a")
    assert "\n" not in str(caught.value)
