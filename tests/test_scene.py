"""Where layers lie, how they are coloured, and links: what neuroglancer is told."""

import json
import re
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import colormaps

from bigncc import report, scene
from bigncc.encoding import Encoding
from bigncc.errors import InputError
from bigncc.layout import Layout
from bigncc.scene import Layer, Scene, frame_of, link, placed, state

OUT = Layout(
    (3, 200, 300), (1, 64, 64), ("z", "y", "x"), (2.0, 0.5, 0.25), (4.0, 10.0, -5.0), ("micrometer",) * 3, "out"
)


def example(layout=OUT, **words):
    own = placed(layout, layout.scale, layout.translation)
    return Scene(frame_of(layout), tuple(Layer(kind, kind, kind, own, **words) for kind in ("confidence", "status")))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_a_pixel_is_placed_where_it_is(seed, own):
    rng = np.random.default_rng(seed)
    # of an image on a grid of its own, which is turned against that of the result
    scale, translation = rng.uniform(0.1, 9, 3), rng.normal(0, 50, 3)
    matrix, offset = np.linalg.qr(rng.normal(0, 1, (2, 2)))[0], rng.normal(0, 30, 2)
    first = rng.normal(0, 9, 3) if own else 0.0
    rows = np.array(placed(OUT, scale, translation, pixels=(matrix, offset), first=first))
    pixel = rng.uniform(0, 100, 3)
    on_grid = np.array((pixel[0], *(matrix @ pixel[1:] + offset)))
    physical = translation + scale * on_grid
    found = rows @ (*(pixel + first), 1)
    np.testing.assert_allclose(found * OUT.scale, physical, atol=1e-9)


def test_a_whole_result_is_looked_at_in_its_middle_in_physical_units():
    found = state(example(), "http://here/")
    # x to the right, y down
    assert list(found["dimensions"]) == ["x", "y", "z"]
    assert found["dimensions"]["x"] == [pytest.approx(0.25e-6), "m"]
    x, y, z = found["position"]
    assert (x, y, z) == (-5 / 0.25 + 299 / 2, 10 / 0.5 + 199 / 2, 4 / 2 + 1)
    # 100 micrometres down are more than 75 to the right, in pixels of a quarter
    assert found["crossSectionScale"] == 400 / scene.PANEL
    assert [layer["name"] for layer in found["layers"]] == ["confidence", "status"]
    assert found["layers"][0]["source"]["url"] == "http://here/confidence/|zarr3:"
    one = state(example(), "", (0, 10, 20), (1, 30, 72))
    assert one["position"] == [0.0, 30.0, 2.0]
    assert one["crossSectionScale"] == pytest.approx(72 / scene.PANEL)


def test_a_channel_and_what_has_no_unit():
    layout = Layout(
        (2, 5, 9, 9),
        (1, 1, 9, 9),
        ("t", "c", "y", "x"),
        (5.0, 1, 1, 1),
        (0.0,) * 4,
        ("second", None, None, "pixel"),
        "out",
    )
    found = state(example(layout), "")
    assert found["dimensions"] == {"x": [1.0, ""], "y": [1.0, ""], "c": [1.0, ""], "t": [5.0, "s"]}
    assert found["displayDimensions"] == ["x", "y"]
    assert found["position"] == [4.0, 4.0, 0.0, 0.0]


def test_the_colours_are_those_of_the_picture():
    wanted = colormaps[report.COLOURS](np.linspace(0, 1, 11))[:, :3]
    found = [tuple(bytes.fromhex(code)) for code in scene.DIVERGING]
    np.testing.assert_allclose(found, 255 * wanted, atol=1.5)  # which has 256 steps


@pytest.mark.parametrize("encoding", [Encoding("int16"), Encoding("uint8")])
def test_what_is_stored_is_decoded_by_the_shader(encoding):
    text = scene.confidence_shader(encoding)
    code, fill, zero, step = re.search(
        r"float r = (.+) == ([\d.-]+) \? 2\.0 : \(\1 - ([\d.]+)\) \* ([\d.e-]+);", text
    ).groups()
    assert code == "float(toRaw(getDataValue()))"
    values = np.array((-1.0, 0.0, 0.25, 1.0), np.float32)
    stored = encoding.encoded(values).astype(float)
    np.testing.assert_allclose((stored - float(zero)) * float(step), values, atol=0.005)
    assert encoding.encoded(np.array([np.nan], np.float32))[0] == float(fill)


def test_half_floats_are_refused():
    with pytest.raises(InputError, match="float16, which neuroglancer does not read"):
        link(example(encoding=Encoding("float16")), "https://x.org/y")


def test_a_link_holds_the_whole_state():
    found = link(example(), "https://data.example.org/a%20b/", (1, 100, 250))
    place, _, rest = found.partition("#!")
    assert place == scene.VIEWER
    assert not set(rest) & set(" <>\"'|\\^`{}[]")  # of what a table, a page or a mail would stop at
    assert json.loads(unquote(rest)) == state(example(), "https://data.example.org/a%20b/", (1, 100, 250))
    from neuroglancer import parse_url

    parsed = parse_url(found)
    assert parsed.layers["confidence"].source[0].url == "https://data.example.org/a%20b/confidence/|zarr3:"
    assert dict(zip(parsed.dimensions.names, parsed.position, strict=True))["x"] == -20 + 250


@pytest.mark.parametrize(
    "base", ["", "out", "/data", "ftp://x/y", "file:///x", "https://x/y z", "https://x/y|zip:", "https://x#y"]
)
def test_what_is_no_address_of_hosted_files_is_refused(base):
    with pytest.raises(InputError, match="the address of a hosted folder"):
        link(example(), base)
