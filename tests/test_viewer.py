"""The viewer in a real browser: colours are where they belong, nothing leaves the machine, and nobody else comes in."""

import functools
import json
import re
import signal
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import numpy as np
import pytest
import zarr
from matplotlib.image import imread
from scipy import ndimage

from bigncc import display, pipeline, scene, viewer
from bigncc.errors import InputError
from bigncc.layout import COLOURS
from bigncc.report import UNDEFINED
from tests import pairs, zarrs
from tests.browser import browsing
from tests.test_cli import SCRIPT, STOPPED, good, sentence, started

SHAPE, REGION = (3, 280, 380), ((40, 260), (30, 370))
SCALE = (2.0, 0.5, 0.5)
OFFSET = (4, -6)
GREYS = {"top left": 40, "top right": 200, "bottom left": 120, "bottom right": 80}
LOW, HIGH = min(GREYS.values()), max(GREYS.values())
COEFFICIENTS = {(20, 20): -1.0, (20, 180): 0.0, (120, 20): 0.5, (120, 180): 1.0}
"""What is planted in patches of 60 x 60 pixels of the result, by where they begin."""

REASONS = {(20, 100): 6, (120, 100): 3}


def quarters(shape):
    """Four grey levels, the brightest at the top and to the right."""
    image = np.empty(shape, np.uint8)
    y, x = shape[-2] // 2, shape[-1] // 2
    image[..., :y, :x], image[..., :y, x:] = GREYS["top left"], GREYS["top right"]
    image[..., y:, :x], image[..., y:, x:] = GREYS["bottom left"], GREYS["bottom right"]
    return image


def planted(folder):
    """Make a result of a region of a stack, and plant a known coefficient or reason in its patches."""
    image = quarters(SHAPE)
    halves = image[:, ::2, ::2]
    steps = [[{"type": "scale", "scale": [SCALE[0], SCALE[1] * f, SCALE[2] * f]}] for f in (1, 2)]
    for name in "ab":
        levels = [image, halves] if name == "a" else [image]
        zarrs.ome(
            folder / f"{name}.zarr", levels, "zyx", steps=steps[: len(levels)], units="micrometer", chunks=(1, 64, 64)
        )
    (folder / "t.json").write_text(json.dumps({"kind": "translation", "offset": OFFSET}))
    how = {"registration": {"model": None, "transform": str(folder / "t.json")}, "window": {"size": 5}}
    region = "output.region=" + ",".join(f"{a}:{b}" for a, b in REGION)
    out = folder / "out.ome.zarr"
    pipeline.run(pairs.job(str(folder / "a.zarr"), str(folder / "b.zarr"), out, how, region, "output.pyramid=false"))
    group = zarr.open_group(str(out), mode="r+")
    ncc, status = group["0"], group["labels/status/0"]
    ncc[...], status[...] = np.nan, 1
    for (y, x), value in COEFFICIENTS.items():
        ncc[1, y : y + 60, x : x + 60] = value
    for (y, x), code in REASONS.items():
        status[1, y : y + 60, x : x + 60] = code
    return out


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A result that is looked at, its page and what is seen of it."""
    folder = tmp_path_factory.mktemp("viewer")
    out = planted(folder)
    with viewer.serving(out) as place, browsing(viewport={"width": 1500, "height": 700}) as (page, seen):
        assert place.notes == ()
        page.goto(place.address)
        page.wait_for_function("window.viewer?.isReady()")
        yield out, place, page, seen


def looked(page):
    """Return the colours of the screen, and where its panels are."""
    page.wait_for_function("viewer.isReady()")
    page.wait_for_timeout(300)  # until it has been drawn
    boxes = [each.bounding_box() for each in page.query_selector_all(".neuroglancer-rendered-data-panel")]
    return np.round(255 * imread(BytesIO(page.screenshot()))[..., :3]), boxes


def at(screen, box, y, x):
    """Return the colour of a place that is so many pixels of the result from its first one, in a panel."""
    shape = [b - a for a, b in REGION]
    zoom = max(shape) / scene.PANEL
    down, right = (box[start] + box[extent] / 2 for start, extent in (("y", "height"), ("x", "width")))
    place = down + (y - (shape[0] - 1) / 2) / zoom, right + (x - (shape[1] - 1) / 2) / zoom
    return screen[round(place[0]), round(place[1])]


def within(box):
    """Return what a panel shows, without what is written at its edges."""
    return tuple(slice(int(box[a]) + 60, int(box[a] + box[b]) - 60) for a, b in (("y", "height"), ("x", "width")))


def grey(level):
    return 255 * (level - LOW) / (HIGH - LOW)


def inside(name, y, x):
    """Return a place of the result that is so far from the middle of the images, in one of their quarters."""
    down, right = (-1 if "top" in name else 1), (-1 if "left" in name else 1)
    return SHAPE[1] // 2 - REGION[0][0] + down * y, SHAPE[2] // 2 - REGION[1][0] + right * x


def test_reference_lies_with_y_down_and_x_to_the_right(served):
    screen, boxes = looked(served[2])
    for name, level in GREYS.items():
        np.testing.assert_allclose(at(screen, boxes[0], *inside(name, 50, 50)), grey(level), atol=2)
        np.testing.assert_allclose(at(screen, boxes[0], *inside(name, 3, 3)), grey(level), atol=2)


def test_moving_lies_where_its_transform_says(served):
    screen, boxes = looked(served[2])
    dy, dx = OFFSET
    for name, level in GREYS.items():
        y, x = inside(name, 3, 3)
        np.testing.assert_allclose(at(screen, boxes[1], y - dy, x - dx), grey(level), atol=2)


def test_coefficients_and_reasons_have_their_colours(served):
    screen, boxes = looked(served[2])
    for (y, x), value in COEFFICIENTS.items():
        wanted = tuple(bytes.fromhex(scene.DIVERGING[round(5 * (value + 1))])) if value != 0.5 else None
        wanted = wanted or np.mean([tuple(bytes.fromhex(scene.DIVERGING[i])) for i in (7, 8)], axis=0)
        for place in ((y + 30, x + 30), (y + 3, x + 3), (y + 56, x + 56)):
            np.testing.assert_allclose(at(screen, boxes[2], *place), wanted, atol=2)
    for (y, x), code in REASONS.items():
        for place in ((y + 30, x + 30), (y + 3, x + 56)):
            np.testing.assert_allclose(at(screen, boxes[2], *place), COLOURS[code][:3], atol=2)
    nothing = bytes.fromhex(UNDEFINED.lstrip("#"))
    np.testing.assert_allclose(at(screen, boxes[2], 100, 30), tuple(nothing), atol=2)
    # what surrounds the result is the reference, which goes on
    np.testing.assert_allclose(at(screen, boxes[2], -20, 30), grey(GREYS["top left"]), atol=2)


def test_an_edge_lies_where_it_is_to_a_quarter_of_a_pixel(served):
    page, dy, dx = served[2], *OFFSET
    middle = inside("bottom right", 0, 0)
    corners = [middle, (middle[0] - dy, middle[1] - dx), (120, 180)]
    colours = [grey(GREYS["bottom right"]), grey(GREYS["bottom right"]), tuple(bytes.fromhex(scene.DIVERGING[10]))]
    for panel, (y, x) in enumerate(corners):
        # the first pixel with a colour begins half a pixel before its centre
        place = x + REGION[1][0] - 0.5, y + REGION[0][0] - 0.5, 1
        before = page.evaluate(
            """([place, scale]) => {
                const kept = JSON.parse(JSON.stringify(viewer.state.toJSON()));
                viewer.state.restoreState({...kept, position: place, crossSectionScale: scale});
                return kept;
            }""",
            [place, 0.02],
        )
        try:
            screen, boxes = looked(page)
            row, column = (int(boxes[panel][a] + boxes[panel][b] / 2) for a, b in (("y", "height"), ("x", "width")))
            quarter = round(0.25 / 0.02)
            inner = screen[row + quarter, column + quarter]
            np.testing.assert_allclose(inner, colours[panel], atol=2)
            for a, b in ((-1, 1), (1, -1), (-1, -1)):
                assert np.abs(screen[row + a * quarter, column + b * quarter] - inner).max() > 20
        finally:
            page.evaluate("kept => viewer.state.restoreState(kept)", before)


def test_the_threshold_lets_the_reference_through(served):
    page = served[2]
    slider = page.locator(".neuroglancer-tool-palette-tool-content input[type=number]")
    slider.fill("0.2")
    slider.press("Enter")
    try:
        screen, boxes = looked(page)
        np.testing.assert_allclose(at(screen, boxes[2], 150, 50), grey(GREYS["bottom left"]), atol=2)
        np.testing.assert_allclose(at(screen, boxes[2], 50, 50), tuple(bytes.fromhex(scene.DIVERGING[0])), atol=2)
    finally:
        slider.fill("1")
        slider.press("Enter")


def test_panels_move_together_and_units_are_physical(served):
    page = served[2]
    fields = page.query_selector_all(".neuroglancer-position-dimension-scale")
    assert [field.input_value() for field in fields[:3]] == ["500nm", "500nm", "2µm"]
    text = page.inner_text("body")
    for words in ("reference flat", "both flat", "not computed"):
        assert words in text
    kept = page.evaluate("JSON.stringify(viewer.state.toJSON())")
    before, boxes = looked(page)
    y, x = (int(boxes[0][a] + boxes[0][b] / 2) for a, b in (("y", "height"), ("x", "width")))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 40, y - 30, steps=4)
    page.mouse.up()
    page.mouse.move(5, 5)
    after, _ = looked(page)
    page.evaluate("state => viewer.state.restoreState(JSON.parse(state))", kept)
    for box in boxes:
        here = [slice(int(box["y"]) + 150, int(box["y"]) + 450), slice(int(box["x"]) + 60, int(box["x"]) + 280)]
        moved = [slice(here[0].start - 30, here[0].stop - 30), slice(here[1].start - 40, here[1].stop - 40)]
        # but for the lines that mark the middle
        assert (np.abs(before[tuple(here)] - after[tuple(moved)]).max(axis=-1) <= 2).mean() > 0.97
        assert (np.abs(before[tuple(here)] - after[tuple(here)]).max(axis=-1) <= 2).mean() < 0.95


def alike(one, other):
    """Say whether two pictures differ by no more than where an edge falls between two pixels."""
    low, high = (rank(one, (3, 3, 1)) for rank in (ndimage.minimum_filter, ndimage.maximum_filter))
    return bool(((low - 2 <= other) & (other <= high + 2)).all())


class Hosting(SimpleHTTPRequestHandler):
    """A plain web server that lets pages from elsewhere read."""

    def end_headers(self):
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.soak
def test_hosted_files_look_the_same(served):
    out, _, page, seen = served
    kept = page.evaluate("JSON.stringify(viewer.state.toJSON())")
    # near by: an edge may be off by a pixel of the screen, which is a third of a pixel
    near = {"position": [199.37, 149.41, 1], "crossSectionScale": 0.31}
    page.evaluate("state => viewer.state.restoreState(state)", json.loads(kept) | near)
    before, boxes = looked(page)
    found, notes = display.hosted(out)
    assert notes == ()
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Hosting, directory=out.parent)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            hosted = scene.state(found, f"http://127.0.0.1:{server.server_port}/") | near
            page.evaluate("state => viewer.state.restoreState(state)", hosted)
            for _ in range(20):  # a viewer without a source yet calls itself ready
                after, _ = looked(page)
                if all(alike(before[here], after[here]) for here in map(within, boxes)):
                    break
        finally:
            page.evaluate("state => viewer.state.restoreState(JSON.parse(state))", kept)
            page.wait_for_function("viewer.isReady()")
            server.shutdown()
    for here in map(within, boxes):
        assert len(np.unique(before[here].reshape(-1, 3), axis=0)) >= 4
        assert alike(before[here], after[here])
    assert any(f":{server.server_port}/out.ome.zarr/0/c/" in url for url in seen.requests)


def test_nothing_leaves_the_machine_and_no_script_complains(served):
    _, _, page, seen = served
    page.wait_for_function("viewer.isReady()")
    assert len(seen.requests) > 20
    assert seen.abroad == []
    assert seen.errors == []


def test_only_who_knows_the_address_gets_anything_and_nothing_but_chunks(served):
    out, place, page, _ = served
    root, _, rest = place.address.partition("/v/")
    token = rest.strip("/")

    def answer(path):
        return page.request.get(f"{root}{path}", max_redirects=0).status

    assert answer(f"/data/{token}/reference/0/c/0/0/0") == 200
    assert answer(f"/data/{token}/legend/info") == 200
    for path in (
        f"/data/{'A' * len(token)}/reference/0/c/0/0/0", "/data//reference/zarr.json", "/v/guess/",
        f"/data/{token}/reference/../../../etc/passwd", f"/data/{token}/reference/%2e%2e/%2e%2e/etc/passwd",
        f"/data/{token}/reference//etc/passwd", f"/data/{token}/{out}/zarr.json", f"/data/{token}/other/zarr.json",
        f"/data/{token}/reference/0/c/0/9/0", f"/data/{token}/legend/", "/events/guess?c=", "/etc/passwd", "/",
    ):  # fmt: skip
        assert answer(path) == 404, path


@pytest.mark.parametrize(
    ("bind", "token", "said"),
    [
        ("0.0.0.0", None, "--bind 0.0.0.0 can be reached from other machines: with --token"),
        ("0.0.0.0:0", None, "--bind 0.0.0.0:0 can be reached"),
        ("192.0.2.7:8000", None, "cannot be listened at (Cannot assign requested address)"),
        ("127.0.0.1:x", None, "HOST or HOST:PORT"),
        ("127.0.0.1:70000", None, "HOST or HOST:PORT"),
        ("", None, "HOST or HOST:PORT"),
        ("no.such.host.invalid", None, "cannot be listened at (Name or service not known)"),
        ("0.0.0.0", "short", "--token has 5 characters: 16 to 128"),
        ("127.0.0.1", "a/../../../../../etc", "--token has 20 characters"),
    ],
)
def test_what_would_let_everybody_in_is_refused(bind, token, said):
    with pytest.raises(InputError, match=re.escape(said)), viewer.serving("nothing is opened before", bind, token):
        pass


def test_without_neuroglancer_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "neuroglancer", None)  # as Python says it of what is not there
    said = r"neuroglancer is not installed: pip install 'bigncc\[view\]'"
    with pytest.raises(InputError, match=said), viewer.serving("nothing is opened before"):
        pass


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.soak), signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end(served, number):
    words = [SCRIPT, "view", served[0], "--token", "known-to-everybody", "--bind", "localhost"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().strip()
        try:
            assert re.fullmatch(r"http://localhost:\d+/v/known-to-everybody/", address)
            assert served[2].request.get(address).status == 200
        finally:
            process.send_signal(number)
        stdout, stderr = process.communicate(timeout=20)
    assert stdout == ""
    done = subprocess.CompletedProcess([], process.returncode, stdout, stderr)
    assert sentence(done, STOPPED) == f"bigncc: stopped by {number.name}; the same command continues"


def test_a_link_is_printed_and_nothing_is_served(served):
    folder = served[0].parent
    text = good(folder, "view", "out.ome.zarr", "--link", "https://data.example.org/pair")
    assert text.count("\n") == 1
    assert text.startswith(f"{scene.VIEWER}#!")
    for path in ("a.zarr", "b.zarr", "out.ome.zarr", "out.ome.zarr/labels/status"):
        assert f"https://data.example.org/pair/{path}/%7Czarr3:" in text


def test_what_cannot_be_shown_is_refused_in_a_sentence(tmp_path):
    assert "does not exist" in sentence(started()(tmp_path, "view", "out"), 4)
    reference, moving, *_ = pairs.pair(tmp_path, (30, 40))
    good(tmp_path, "prepare", reference, moving, "out", "--as-is")
    assert "has no tile yet" in sentence(started()(tmp_path, "view", "out"), 4)
    assert "is no output of bigncc" in sentence(started()(tmp_path, "view", reference), 4)
