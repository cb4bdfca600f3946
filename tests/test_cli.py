"""The command line as a person meets it: the installed script, real files, real signals, a disk that is really full."""

import atexit
import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr

import bigncc
from bigncc import journal
from bigncc.resampling import pull
from bigncc.tiles import roi_of
from bigncc.transform import to_dict
from tests import forked, pairs, scenes, stacks, strategies, zarrs

SCRIPT = Path(sys.executable).with_name("bigncc")
CONFIGS = Path(__file__).parent.parent / "configs"
AS_IS = ("run", "a.zarr", "b.zarr", "out", "--as-is")
BAD_INPUT, REFUSED, DOES_NOT_FIT, STOPPED = 4, 3, 5, 75


def bigncc_cli(folder, *words):
    """Run the script in a folder."""
    return subprocess.run([SCRIPT, *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=300)


@functools.cache
def started():
    """Start what each command is a fork of, once; it ends with this process."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(forked.started())


def good(folder, *words):
    """Run the command line, expect success and return what it printed."""
    done = started()(folder, *words)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


def sentence(done, code):
    """Return the one line on standard error of a run that failed with `code`."""
    assert "Traceback" not in done.stdout + done.stderr
    # what a run reports while it goes on is no complaint
    progress = r"\d{4}-\d\d-\d\dT\S+ (\w+ )?tile \d.*|bigncc: (compiling|dashboard:) .*"
    lines = [line for line in done.stderr.splitlines() if not re.fullmatch(progress, line)]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("bigncc: ")
    assert done.returncode == code, done.stderr
    return lines[0]


def tree(folder):
    """Everything below a folder: bytes of files, None for directories."""
    return {str(p.relative_to(folder)): None if p.is_dir() else p.read_bytes() for p in sorted(folder.rglob("*"))}


def computed(out):
    """Tiles as often as they are recorded in the journal, whole lines only."""
    files = sorted((Path(journal.directory(str(out))) / "journal").glob("*.jsonl"))
    lines = [line for path in files for line in path.read_bytes().splitlines(keepends=True)]
    return [int(line.split(b" ")[2]) for line in lines if line.endswith(b"\n")]


@pytest.fixture
def pair(tmp_path):
    reference, moving, f, g = pairs.pair(tmp_path)
    assert (Path(reference).name, Path(moving).name) == ("a.zarr", "b.zarr")
    return tmp_path, f, g


def test_help_lists_the_verbs(tmp_path):
    text = bigncc_cli(tmp_path, "--help").stdout
    assert bigncc_cli(tmp_path, "-h").stdout == text
    listed = re.findall(r"^  (\w+) ", text.partition("Commands:\n")[2], re.MULTILINE)
    verbs = {"completion", "config", "demo", "finish", "plan", "prepare", "register", "report", "run"}
    assert set(listed) == verbs | {"script", "status", "verify", "view"}
    for verb in listed:
        assert bigncc_cli(tmp_path, verb, "--help").stdout.startswith(f"Usage: bigncc {verb} ")
    assert not tree(tmp_path)


def test_config_prints_the_default_file(tmp_path):
    assert good(tmp_path, "config") == (CONFIGS / "default.yaml").read_text()


def test_a_pair_is_correlated_by_three_words(pair):
    folder, f, g = pair
    text = good(folder, *AS_IS)
    assert text.startswith("moving image correlated as it is stored; residual shift measured y ")
    assert text.endswith(f"complete: {folder}/out\n")
    wanted = bigncc.local_maps(f, g, 7)
    pairs.same(pairs.maps(folder / "out"), wanted)
    assert f"mean NCC     {wanted['ncc'][wanted['status'] == 1].mean(dtype=float):.4f}" in text
    # names of files in any place, and options between them
    good(folder, "run", "--as-is", "a.zarr", "--window", "7", folder / "b.zarr", "my map")
    pairs.same(pairs.maps(folder / "my map"), wanted)


@pytest.mark.parametrize(
    ("words", "window"),
    [
        (("--window", "5"), 5),
        (("--window", "5,9"), (5, 9)),
        (("--radius", "3"), 7),
        (("--radius", "0,4"), (1, 9)),
        (("window.size=[3, 11]",), (3, 11)),
        (("window.size=5", "window.size=9", "window.border=mirror"), bigncc.Window(9, border="mirror")),
        (("--window", "5", "window.size=9"), 9),
    ],
)
def test_options_and_words_choose_the_window(pair, words, window):
    folder, f, g = pair
    good(folder, *AS_IS, *words)
    pairs.same(pairs.maps(folder / "out"), bigncc.local_maps(f, g, window))


def test_a_stack_is_correlated_by_two_words(tmp_path):
    image = stacks.sections(12, (40, 50), shifts={4: (3, -2)}, damaged=None)
    pairs.store(tmp_path / "stack.zarr", image)
    text = good(tmp_path, "run", "stack.zarr", "out", "--stack", "1", "--window", "11", "--missing-chunks", "error")
    assert text.startswith("each section z correlated with z + 1 of the same stack as they are stored\n")
    assert "suspect sections  4 (1 of 12)\n" in text
    wanted = bigncc.local_maps(image[:-1], image[1:], 11)
    pairs.same(pairs.maps(tmp_path / "out"), wanted)
    words = ("stack.zarr", "two", "stack.lags=[1, 2]", "output.chunks=[50, 50]")
    assert "output    2 x 11 x 40 x 50 pixels" in good(tmp_path, "plan", *words)
    assert "--stack 1,2 " in good(tmp_path, "script", "stack.zarr", "two", "--stack", "1,2", "engine.memory=1GB")
    assert good(tmp_path, "report", "out", "--threshold", "0.25").split() == [
        f"{tmp_path}/out.png",
        f"{tmp_path}/out.csv",
        f"{tmp_path}/out.html",
    ]
    assert (tmp_path / "out.csv").read_text().count("\n") == 12
    # a table names two images, or a stack twice
    (tmp_path / "pairs.csv").write_text("reference,moving,output,stack.lags\nstack.zarr,other.zarr,three,1\n")
    said = sentence(started()(tmp_path, "run", "--pairs", "pairs.csv"), BAD_INPUT)
    assert "pairs.csv, line 2: stack lags is [1] and moving is another image than reference" in said


def test_a_region_and_a_volume(tmp_path):
    f, g = (strategies.image(seed, (4, 40, 50), "uint8", "noise") for seed in (1, 2))
    pairs.store(tmp_path / "a.zarr", f)
    pairs.store(tmp_path / "b.zarr", g)
    wanted = bigncc.local_maps(f, g, (3, 5, 5))
    good(tmp_path, *AS_IS, "--radius", "1,2,2", "--region", "1:3,10:30,7:50")
    pairs.same(pairs.maps(tmp_path / "out"), {name: array[1:3, 10:30, 7:50] for name, array in wanted.items()})


@pytest.fixture
def shifted(tmp_path):
    """Write a pair of which one is shifted by y +6.4, x -3.75."""
    for name, image in zip("ab", scenes.pair(1, (230, 250), 1.0, (6.4, -3.75)), strict=True):
        pairs.store(tmp_path / f"{name}.zarr", image)
    return tmp_path


def test_run_says_first_by_how_much_the_moving_image_was_shifted(shifted):
    text = good(shifted, *AS_IS[:-1])
    assert re.match(
        r"moving image shifted by y \+6\.\d+, x -3\.\d+ pixels \(measured .*; \d+ of \d+ sites agree\)\n", text
    )
    assert float(re.search(r"mean NCC +([\d.]+)", text)[1]) > 0.8
    # what is there is told again and not estimated again
    assert good(shifted, *AS_IS[:-1]).splitlines()[0] == text.splitlines()[0]
    said = sentence(started()(shifted, *AS_IS), REFUSED)
    assert "registration.transform is 'translation' there, 'none' asked" in said


def test_register_estimates_and_writes_a_transform(shifted):
    text = good(shifted, "register", "a.zarr", "b.zarr", "-o", "t.json")
    lines = text.splitlines()
    assert lines[0].startswith("moving image shifted by y +6.")
    assert [line.split()[0] for line in lines[1:]] == ["transform", "measured", "quality", "residuals", "peaks"]
    assert sorted(p.name for p in shifted.iterdir()) == ["a.zarr", "b.zarr", "t.json"]
    given = good(shifted, "run", "a.zarr", "b.zarr", "given", "registration.transform=t.json")
    assert given.startswith("moving image shifted by y +6.")
    good(shifted, *AS_IS[:-1])
    pairs.same(pairs.maps(shifted / "given"), pairs.maps(shifted / "out"))
    before = tree(shifted)
    said = sentence(started()(shifted, "register", "a.zarr", "b.zarr", "-o", "t.json"), REFUSED)
    assert "t.json exists: a path that does not is accepted" in said
    assert tree(shifted) == before
    # a job that says where its map goes is a job still
    (shifted / "job.yaml").write_text("reference: {url: a.zarr}\nmoving: {url: b.zarr}\noutput: {url: nowhere}\n")
    assert good(shifted, "register", "job.yaml", "registration.upsample_factor=20").startswith(
        "moving image shifted by"
    )
    assert tree(shifted).keys() - before.keys() == {"job.yaml"}


@pytest.mark.soak
def test_an_affine_transform_is_applied_and_said(tmp_path):
    scene, centre = scenes.scene(4, (260, 300), 2.0), np.array([129.5, 149.5])
    c, s = 1.02 * np.cos(np.radians(5)), 1.02 * np.sin(np.radians(5))
    matrix = np.array([[c, -s], [s, c]])
    turned = bigncc.Affine(matrix.tolist(), tuple((np.add([4, -7], centre) - matrix @ centre).tolist()))
    everywhere = roi_of((0, 0), scene.shape)
    # what is seen where the transform leads to
    moving, _ = pull(turned.inverse(), scene, None, everywhere, everywhere, scene.shape, 3)
    images = [np.round(20000 + 3000 * image).astype("uint16") for image in (scene, moving)]
    for name, image in zip("ab", images, strict=True):
        pairs.store(tmp_path / f"{name}.zarr", image)
    (tmp_path / "affine.json").write_text(json.dumps(to_dict(turned)))
    words = ("a.zarr", "b.zarr", "out", "registration.transform=affine.json", "output.chunks=[64, 64]")
    decoding = r"decoding +1\.00 pixels of the reference and \d\.\d\d pixels of the moving image for each pixel"
    assert re.search(decoding, good(tmp_path, "plan", *words))
    text = good(tmp_path, "run", *words)
    assert text.startswith(
        "moving image pulled through an affine transform: turned by +5.00 degrees, scaled by 1.020 (y) and 1.020 (x), "
        "shifted by y +4, x -7 at the centre\n"
    )
    assert float(re.search(r"mean NCC +([\d.]+)", text)[1]) > 0.98
    pairs.same(pairs.maps(tmp_path / "out"), bigncc.local_maps(*images, 7, transform=turned))
    # one that leads nowhere is refused before anything is made
    (tmp_path / "affine.json").write_text(json.dumps(to_dict(turned) | {"offset": [900, 0]}))
    before = tree(tmp_path)
    said = sentence(started()(tmp_path, "run", *words[:2], "other", *words[3:]), BAD_INPUT)
    assert "maps no reference pixel (y 0 to 259, x 0 to 299) into the moving image of [260, 300] pixels" in said
    assert tree(tmp_path) == before


def test_what_and_where_are_files_and_later_words_win(pair):
    folder, f, g = pair
    (folder / "what.yaml").write_text(
        "reference: {url: a.zarr}\nmoving: {url: b.zarr}\noutput: {url: first}\n"
        "window: {size: 5, border: mirror}\nregistration: {transform: t.json}\n"
    )
    (folder / "t.json").write_text(json.dumps({"kind": "translation", "offset": [1.5, -2]}))
    (folder / "where.yml").write_text("engine: {threads: 1, memory: 2GB}\nwindow: {size: 9}\n")
    said = good(folder, "run", "what.yaml", "where.yml", "output.url=second", "output.chunks=[40, 50]")
    assert said.startswith("moving image shifted by y +1.5, x -2 pixels\n")
    assert not (folder / "first").exists()
    assert zarr.open_array(str(folder / "second" / "0"), mode="r").chunks == (40, 50)
    window, shift = bigncc.Window(9, border="mirror"), bigncc.Translation((1.5, -2))
    pairs.same(pairs.maps(folder / "second"), bigncc.local_maps(f, g, window, transform=shift))
    # a machine's file goes with paths, and what is typed wins
    good(folder, "run", "a.zarr", "b.zarr", "fourth", "what.yaml", "where.yml", "registration.transform=null")
    assert json.loads((folder / "fourth.bigncc" / "plan.json").read_text())["tiles"]
    assert not (folder / "first").exists()
    # options are later than files too
    good(folder, "run", "what.yaml", "output.url=third", "--window", "3", "--as-is", "registration.transform=null")
    pairs.same(pairs.maps(folder / "third"), bigncc.local_maps(f, g, bigncc.Window(3, border="mirror")))


def test_plan_says_what_a_run_takes_and_makes_nothing(pair):
    folder, *_ = pair
    before = tree(folder)
    text = good(folder, "plan", *AS_IS[1:], "--window", "9")
    assert "130 x 170 pixels" in text
    for word in ("tiles", "memory", "disk", "decoding", "time"):
        assert re.search(rf"^  {word} +\S", text, re.MULTILINE)
    assert tree(folder) == before


def test_run_status_report_and_run_again(pair):
    folder, *_ = pair
    first = good(folder, *AS_IS, "output.chunks=[32, 32]")
    done = json.loads(good(folder, "status", "out", "--json"))
    assert done["state"] == "complete"
    assert done["url"] == str(folder / "out")
    assert done["tiles"]["done"] == done["tiles"]["total"] >= 16
    assert done["pixels"] == {"done": 130 * 170, "total": 130 * 170}
    assert sum(done["status"].values()) == 130 * 170
    text = good(folder, "status", "out")
    assert text.startswith(f"{folder}/out: complete, tile {done['tiles']['done']} of {done['tiles']['total']}, 100.0 %")
    for name, count in done["status"].items():
        assert re.search(rf"^  {name} +{count} pixels$", text, re.MULTILINE)

    before = tree(folder)
    times = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("c/*/*")}
    assert len(times) == 2 * (5 * 6 + 3 * 3 + 2 * 2 + 1)
    assert good(folder, *AS_IS, "output.chunks=[32, 32]") == first
    assert tree(folder) == before
    assert {path: path.stat().st_mtime_ns for path in times} == times

    before = tree(folder)
    assert json.loads(good(folder, "report", "out", "--json"))["plan_id"] == done["plan_id"]
    assert tree(folder) == before
    names = ("png", "html", "regions.csv", "geojson")
    files = "".join(f"{folder}/out.{name}\n" for name in names)
    assert good(folder, "report", "out", "--csv", "--geojson", "--regions", "1") == files
    assert (folder / "out.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "out.html").read_bytes().startswith(b"<!DOCTYPE html>")
    assert len(json.loads((folder / "out.geojson").read_text())["features"]) == 1
    # of several there is an index, which says what is not complete
    (folder / "pairs.csv").write_text("reference,moving,output\na.zarr,b.zarr,out\na.zarr,b.zarr,later\n")
    missing = started()(folder, "report", "--pairs", "pairs.csv")
    assert "1 of 2 results are not complete (later)" in sentence(missing, 2)
    assert missing.stdout == f"{folder}/out.png\n{folder}/out.html\n{folder}/index.html\n"
    assert "later" in (folder / "index.html").read_text()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """All that can be given by mistake; nobody may change it."""
    folder = tmp_path_factory.mktemp("store")
    _, _, f, g = pairs.pair(folder)
    pairs.store(folder / "tall.zarr", g[:129])
    pairs.store(folder / "complex.zarr", f.astype("complex64"))
    pairs.store(folder / "colour.zarr", np.stack([f, g, f], axis=-1))
    pairs.store(folder / "empty.zarr", np.empty((0, 170), "uint8"), chunks=(1, 50))
    for names in ("zyx", "cyx"):
        pairs.store(folder / f"{names}.zarr", f[:64].reshape(2, 32, 170), names=tuple(names))
    for name, scale in (("fine", 1.0), ("coarse", 1.5)):
        zarrs.ome(folder / f"{name}.ome.zarr", [f], "yx", steps=[[{"type": "scale", "scale": [scale, scale]}]])
    pyramid = zarrs.ome(
        folder / "grows.ome.zarr", [f[:9, :9], f], "yx", steps=[[{"type": "scale", "scale": [1, 1]}]] * 2
    )
    for name, version in (("new", "0.7"), ("turned", "0.6")):
        group = zarrs.ome(folder / f"{name}.ome.zarr", [f], "yx")
        group.attrs["ome"] = {**pyramid.attrs["ome"], "version": version}
    steps = [{"type": "rotation", "input": {"path": "0"}, "output": {"name": "out"}}]
    document = {"datasets": [{"path": "0", "coordinateTransformations": steps}], "coordinateSystems": []}
    group.attrs["ome"] = {"version": "0.6", "multiscales": [document]}
    shutil.rmtree(zarrs.ome(folder / "gone.ome.zarr", [f], "yx").store.root / "0")
    raw = zarr.create_group(folder / "raw.zarr", attributes={"ome": {"version": "0.5", "bioformats2raw.layout": 3}})
    for i in range(2):
        raw.create_group(str(i))
    (folder / "broken.zip").write_bytes(b"PK")
    zarr.open_array(pairs.store(folder / "negative.zarr", f)).attrs["scale_factor"] = -1
    pairs.store(folder / "other.zarr", strategies.image(9, f.shape, "uint16", "noise"))
    pairs.store(folder / "flat.zarr", np.full(f.shape, 7, "uint16"))
    (folder / "object.zarr").mkdir()
    document = {"zarr_format": 2, "shape": [9, 9], "chunks": [9, 9], "dtype": "|O", "compressor": None}
    document |= {"fill_value": 0, "order": "C", "filters": [{"id": "pickle", "protocol": 5}]}
    (folder / "object.zarr" / ".zarray").write_text(json.dumps(document))
    (folder / "folder").mkdir()
    (folder / "folder" / "precious").write_text("data")
    (folder / "file").write_text("precious")
    (folder / "broken.yaml").write_text("reference: [1\n")
    (folder / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (folder / "folder.yaml").mkdir()
    (folder / "two.yaml").write_text("registration: {model: none, transform: t.json}\n")
    (folder / "half.yaml").write_text("reference: {url: a.zarr}\nregistration: {model: none}\n")
    (folder / "t.json").write_text(json.dumps({"kind": "rotation", "angle": 3}))
    good(folder, "run", "a.zarr", "b.zarr", "done", "--as-is")
    return folder


BAD = {
    "unequal shapes": (("run", "a.zarr", "tall.zarr", "out", "--as-is"), "axis y has length 130 in reference and 129"),
    "other axes": (("run", "zyx.zarr", "cyx.zarr", "out", "--as-is"), r"axes \(z, y, x\) and moving \(c, y, x\)"),
    "other scales": (("run", "fine.ome.zarr", "coarse.ome.zarr", "out", "--as-is"), "has scale 1, .* and 1.5"),
    "complex": (
        ("run", "a.zarr", "complex.zarr", "out", "--as-is"),
        "complex.zarr/zarr.json has dtype 'complex64': integers",
    ),
    "object": (("run", "object.zarr", "object.zarr", "out", "--as-is"), "object.zarr"),
    "a folder": (("run", "a.zarr", "folder", "out", "--as-is"), "folder cannot be opened: a readable Zarr"),
    "a file": (("run", "file", "b.zarr", "out", "--as-is"), "file is a file: the directory of a Zarr"),
    "nothing": (("run", "a.zarr", "nothing.zarr", "out", "--as-is"), "nothing.zarr does not exist: the directory"),
    "an address": (("run", "ftp://host/a.zarr", "b.zarr", "out", "--as-is"), "ftp://... is an address of another kind"),
    "no level": (("run", "fine.ome.zarr", "fine.ome.zarr", "out", "--as-is", "moving.level=7"), "has no level 7: 0"),
    "another version": (("run", "a.zarr", "new.ome.zarr", "out"), "new.ome.zarr is OME-Zarr 0.7: 0.4, 0.5 and 0.6 are"),
    "a rotation": (("run", "a.zarr", "turned.ome.zarr", "out"), "has a coordinate transformation of type rotation"),
    "levels that grow": (
        ("run", "a.zarr", "grows.ome.zarr", "out"),
        "grows.ome.zarr has level 1 .* after one of shape",
    ),
    "no array": (("run", "a.zarr", "gone.ome.zarr", "out"), "gone.ome.zarr/0 cannot be opened"),
    "several images": (("run", "raw.zarr", "b.zarr", "out"), "raw.zarr/0, .*raw.zarr/1 are accepted"),
    "a broken zip": (("run", "broken.zip/0", "b.zarr", "out"), "broken.zip cannot be read"),
    "a zip to write": (
        (*AS_IS[:3], "out.zip"),
        "config key output.url is 'out.zip': zip files are read and not written",
    ),
    "a negative factor": (("run", "a.zarr", "negative.zarr", "out"), "negative.zarr has scale_factor -1"),
    "no plane": (("run", "zyx.zarr", "zyx.zarr", "out", "moving.z=2"), "zyx.zarr has no z 2: a number from 0 to 1"),
    "no planes": (("run", "zyx.zarr", "zyx.zarr", "out", "moving.z=1:3"), "zyx.zarr has no z 1:3: a number from 0"),
    "planes in words": ((*AS_IS, "moving.z=all"), "config key moving.z is 'all': a number, or a range start:stop, is"),
    "no time": (("run", "zyx.zarr", "zyx.zarr", "out", "moving.time=0"), r"axes \(z, y, x\) and so no time 0"),
    "another mask": (
        (*AS_IS, "moving.mask.url=tall.zarr"),
        r"tall.zarr is a mask of axes \(y, x\) and shape \[129, 170\], its image",
    ),
    "no channel": ((*AS_IS, "reference.channel=1"), r"has axes \(y, x\) and so no channel 1"),
    "colour": (("run", "colour.zarr", "colour.zarr", "out", "--as-is"), "looks like a colour image taken for a stack"),
    "empty": (("run", "empty.zarr", "empty.zarr", "out", "--as-is"), r"has shape \[0, 170\]: at least one sample"),
    "window even": ((*AS_IS, "--window", "8"), r"window.size is \[8, 8\]: odd"),
    "window zero": ((*AS_IS, "--window", "0"), r"window.size is \[0, 0\]: odd"),
    "window negative": ((*AS_IS, "--window", "-7"), r"window.size is \[-7, -7\]: odd"),
    "window large": (
        (*AS_IS, "--window", "131"),
        r"window.size is \[131, 131\], larger than the image of \[130, 170\]",
    ),
    "window text": ((*AS_IS, "--window", "big"), "--window is 'big': a whole number"),
    "window of 3 axes": ((*AS_IS, "--window", "3,3,3"), "has axes y, x: z, y, x at the end are accepted"),
    "window word": ((*AS_IS, "window.size=5,7"), r"config key window\.size is '5,7'"),
    "radius text": ((*AS_IS, "--radius", "1.5"), "--radius is '1.5': a whole number"),
    "window and radius": ((*AS_IS, "--window", "7", "--radius", "3"), "--window 7 and --radius 3 are given: one of"),
    "region outside": ((*AS_IS, "--region", "0:131,0:9"), r"output.region is 0:131,0:9: 2 ranges inside of"),
    "region list": ((*AS_IS, "output.region=[[0, 9], [9]]"), r"config key output\.region"),
    "region text": ((*AS_IS, "--region", "0-9"), "'0-9' is no region: y0:y1,x0:x1 is accepted"),
    "unknown verb": (("walk", "a.zarr", "b.zarr", "out"), "No such command 'walk'"),
    "unknown option": ((*AS_IS, "--windows", "7"), "No such option '?--windows"),
    "unknown key": (
        (*AS_IS, "window.sizes=7"),
        "config key window.sizes is unknown \\(is size meant\\?\\): size, weights",
    ),
    "unknown section": ((*AS_IS, "windows.size=7"), r"config key windows.size is unknown \(is window.size meant\?\)"),
    "no words": (("run",), "Missing argument"),
    "one word": (("run", "a.zarr"), "'a.zarr' is neither REF MOV OUT nor CONFIG.yaml"),
    "four words": ((*AS_IS, "more.zarr"), "neither REF MOV OUT nor CONFIG.yaml"),
    "an image and a file": (
        ("run", "a.zarr", "two.yaml"),
        "neither REF MOV OUT nor CONFIG.yaml...: one of these, or both",
    ),
    "status of no word": (("status",), "Missing argument"),
    "status of nothing": (("status", "nothing"), "nothing does not exist"),
    "status of an image": (("status", "a.zarr"), "a.zarr is no output of bigncc"),
    "status of a file": (("status", "file"), "file is a file"),
    "status in a file": (("status", "file/out"), "file/out"),
    "report of no result": (("report",), "neither OUT nor --pairs is given"),
    "report as facts and as a file": (("report", "done", "--json", "--csv"), "--json and --csv are given: one of them"),
    "report of nothing": (("report", "nothing"), "nothing does not exist"),
    "report of an image": (("report", "fine.ome.zarr"), "fine.ome.zarr is no output of bigncc"),
    "unrelated": (
        ("run", "a.zarr", "other.zarr", "out"),
        r"agree on no translation \(of \d+ sites \d+ agree .* are needed\): another model .*--as-is .* is accepted",
    ),
    "unrelated to register": (
        ("register", "a.zarr", "other.zarr", "-o", "out"),
        "agree on no translation .*: another model",
    ),
    "no texture": (("run", "flat.zarr", "a.zarr", "out"), "no texture to be registered by in reference: another model"),
    "other scales to register": (
        ("run", "fine.ome.zarr", "coarse.ome.zarr", "out"),
        "scale 1 in reference and 1.5 in moving, which no such model brings together: scales within 1 %",
    ),
    "no metadata": ((*AS_IS[:-1], "registration.initial=metadata"), "has neither scale nor translation: null is"),
    "initial as is": ((*AS_IS, "registration.initial=metadata"), "says where to search .initial. and what no search"),
    "register as is": (
        ("register", "a.zarr", "b.zarr", "registration.model=none"),
        "affine or displacement is accepted",
    ),
    "register three": (("register", "a.zarr", "b.zarr", "c.zarr"), "neither REF MOV nor CONFIG.yaml"),
    "register to nowhere": (("register", "a.zarr", "a.zarr", "-o", "file/t.json"), "file/t.json cannot be written"),
    "pictures of nothing": (("demo", "out", "--images", "no.png", "no.png"), "no.png does not exist: a PNG, JPEG"),
    "pictures of text": (("demo", "out", "--images", "t.json", "t.json"), "t.json cannot be read .*: a PNG, JPEG"),
    "pictures of a folder": (("demo", "out", "--images", "folder", "folder"), "folder is no file: a PNG, JPEG"),
    "two registrations": ((*AS_IS, "registration.transform=t.json"), "registration says model and transform: "),
    "bad transform": ((*AS_IS, "registration={model: null, transform: t.json}"), "rotation"),
    "broken yaml": (("run", "broken.yaml"), "'broken.yaml' is no YAML"),
    "binary yaml": (("run", "binary.yaml"), "config 'binary.yaml' is no YAML"),
    "folder yaml": (("run", "folder.yaml"), "config 'folder.yaml' cannot be read: Is a directory"),
    "missing yaml": (("run", "missing.yaml"), "config 'missing.yaml' cannot be read: No such file"),
    "half a yaml": (("run", "half.yaml"), "config key moving is missing: the image that is registered"),
    "broken word": ((*AS_IS, "window.size=[1"), "is no YAML"),
    "threads": ((*AS_IS, "engine.threads=0"), "config key engine.threads is 0"),
    "output in a file": (("run", "a.zarr", "b.zarr", "file/out", "--as-is"), "file.* cannot be written"),
    "output in a file deep": (("run", "a.zarr", "b.zarr", "file/more/out", "--as-is"), "file.* cannot be written"),
    "output in an image": (("run", "a.zarr", "b.zarr", "a.zarr/map", "--as-is"), "a.zarr"),
    "output in a level": (("run", "a.zarr", "b.zarr", "fine.ome.zarr/0/map", "--as-is"), "fine.ome.zarr"),
    "output of a long name": (("run", "a.zarr", "b.zarr", "o" * 300, "--as-is"), "cannot be written"),
    "plan of an even window": (("plan", *AS_IS[1:], "--window", "8"), r"window.size is \[8, 8\]: odd"),
    "plan of unequal shapes": (("plan", "a.zarr", "tall.zarr", "out", "--as-is"), "axis y has length 130"),
    "plan in a file": (("plan", "a.zarr", "b.zarr", "file/out", "--as-is"), "file.* cannot be written"),
    "demo in a file": (("demo", "file"), "file cannot be made"),
    "part of text": ((*AS_IS, "--part", "first"), "--part is 'first': I/N is accepted, I from 0 to N - 1"),
    "part too many": ((*AS_IS, "--part", "3/3"), "--part is '3/3': I/N is accepted"),
    "part of nothing": ((*AS_IS, "--part", "0/0"), "--part is '0/0': I/N is accepted"),
    "part to repair": ((*AS_IS, "--part", "0/2", "--repair"), "--part 0/2 and --repair are given: one of them"),
    "part to overwrite": (
        (*AS_IS, "--part", "0/2", "--overwrite", "x"),
        "--part 0/2 and --overwrite are given: one of",
    ),
    "steal of nobody": ((*AS_IS, "--steal"), "--steal is given without --part: both, or neither, is accepted"),
    "steal of pairs": (("run", "--pairs", "t.csv", "--steal"), "--pairs and --steal are given: one of them"),
    "overwrite of pairs": (
        ("run", "--pairs", "t.csv", "--overwrite", "x"),
        "--pairs and --overwrite are given: one of",
    ),
    "pairs and images": (("run", "--pairs", "t.csv", *AS_IS[1:]), "'a.zarr b.zarr out.*' is no CONFIG.yaml...: one,"),
    "pairs of no table": (("run", "--pairs", "t.csv", "--part", "0/2"), "t.csv cannot be read .No such file"),
    "script of no words": (("script",), "Missing argument"),
    "script of no table": (("script", "--pairs", "t.csv"), "t.csv cannot be read .No such file"),
    "script without memory": (("script", *AS_IS[1:]), "cluster.array.memory and engine.memory are null: one of them"),
    "array of nobody": ((*AS_IS, "cluster.array.jobs=0"), "config key cluster.array.jobs is 0"),
    "array of no time": ((*AS_IS, "cluster.array.time=4"), "cluster.array.time is 4: 4 is no time: one such as 3h50m"),
    "array of little time": ((*AS_IS, "cluster.array.time=2m"), "warning is 120 s and time is 2m: a shorter warning"),
    "array of nothing known": ((*AS_IS, "cluster.array.scheduler=oar"), "cluster.array.scheduler is 'oar': input"),
    "time of text": ((*AS_IS, "--max-time", "soon"), "--max-time is 'soon': a time such as 3h50m, 90m or 45s"),
    "time of nothing": ((*AS_IS, "--max-time", ""), "--max-time is '': a time such as"),
    "missing chunks": ((*AS_IS, "--missing-chunks", "zero"), "'zero' is not one of 'fill', 'nodata', 'error'"),
    "shards": ((*AS_IS, "output.shards=[100, 100]", "output.chunks=[64, 64]"), "multiples of these are accepted"),
    "shards of one axis": ((*AS_IS, "output.shards=[64]"), r"output.shards is \[64\]: 2 numbers are accepted"),
    "finish of nothing": (("finish", "nothing"), "nothing.bigncc/plan.json is absent: an output with its journal"),
    "verify of nothing": (("verify", "nothing"), "nothing.bigncc/plan.json is absent: an output with its journal"),
    "stack of one image": (("run", "a.zarr", "out", "--stack", "1"), r"a.zarr has axes \(y, x\) and stack.lags is 1"),
    "stack of two images": (("run", "a.zarr", "b.zarr", "out", "--stack", "1"), "is neither STACK OUT nor CONFIG.yaml"),
    "stack by words": (("plan", "a.zarr", "b.zarr", "out", "stack.lags=1"), "is neither STACK OUT nor CONFIG.yaml"),
    "stack without a lag": (
        ("run", "a.zarr", "out", "--stack", "x"),
        "--stack is 'x': a whole number, or two or three",
    ),
    "stack of no lag": (
        ("run", "a.zarr", "out", "--stack", "0"),
        "config key stack.lags is 0: input should be greater",
    ),
    "verify of an image": (("verify", "a.zarr"), "a.zarr.bigncc/plan.json is absent"),
    "verify in a file": (("verify", "file/out"), "file/out.bigncc/plan.json is absent"),
    "recompute less": (("verify", "done", "--recompute", "-1"), "-1 is not in the range x>=0"),
    "verify part": (("verify", "done", "--part", "1"), "--part is '1': I/N is accepted"),
}
UNFIT = {
    "run": ((*AS_IS, "engine.memory=100MB"), "raise engine.memory or lower output.chunks"),
    "plan": (("plan", *AS_IS[1:], "engine.memory=100MB"), "raise engine.memory or lower output.chunks"),
}
REFUSALS = {
    "a file": (("run", "a.zarr", "b.zarr", "file", "--as-is"), "file exists: a path that does not exist"),
    "a file to register": (("register", "a.zarr", "a.zarr", "-o", "file"), "file exists: a path that does not"),
    "a folder": (("run", "a.zarr", "b.zarr", "folder", "--as-is"), "folder exists: a path that does not exist"),
    "an image": (("run", "a.zarr", "b.zarr", "fine.ome.zarr", "--as-is"), "fine.ome.zarr exists: a path that does"),
    "an input": (("run", "a.zarr", "b.zarr", "b.zarr", "--as-is"), "b.zarr exists: a path that does not exist"),
    "another window": (
        ("run", "a.zarr", "b.zarr", "done", "--as-is", "--window", "9"),
        r"done is the output of another request \(window.size is \[7, 7\] there, \[9, 9\] asked\)",
    ),
    "another image": (("run", "a.zarr", "a.zarr", "done", "--as-is"), "moving.samples is '.*' there, '.*' asked"),
    "a part of nothing prepared": (
        (*AS_IS, "--part", "0/2"),
        "is not prepared: bigncc prepare with the same words, once before all parts",
    ),
    "another id": (
        ("run", "a.zarr", "b.zarr", "done", "--as-is", "--overwrite", "0" * 32),
        "done belongs to plan [0-9a-f]{32} and not to 0{32}: the id of the plan there is accepted",
    ),
    "an image by id": (
        ("run", "a.zarr", "b.zarr", "fine.ome.zarr", "--as-is", "--overwrite", "0" * 32),
        "fine.ome.zarr exists and is no output of bigncc",
    ),
}
CASES = {"bad": BAD, "refused": REFUSALS, "unfit": UNFIT}
CODES = {"bad": BAD_INPUT, "refused": REFUSED, "unfit": DOES_NOT_FIT}


@pytest.fixture(scope="module")
def answers(store):
    """Return what each command answered, and the names of what they changed."""
    before = tree(store)
    cases = [(kind, case, words) for kind, listed in CASES.items() for case, (words, _) in listed.items()]
    # an output of its own for each, so that its name tells who made it
    named = [[f"out of {kind} {case}" if word == "out" else word for word in words] for kind, case, words in cases]
    found = [started()(store, *words) for words in named]
    after = tree(store)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name, b"") != after.get(name, b""))
    return {(kind, case): done for (kind, case, _), done in zip(cases, found, strict=True)}, changed


def test_no_bad_input_makes_or_changes_anything(answers):
    _, changed = answers
    assert changed == []


@pytest.mark.parametrize(("kind", "case"), [(kind, case) for kind, listed in CASES.items() for case in listed])
def test_bad_input_is_one_sentence_and_its_exit_code(answers, kind, case):
    said = sentence(answers[0][kind, case], CODES[kind])
    assert re.search(CASES[kind][case][1], said), said


@pytest.mark.parametrize("fault", ["plan torn", "plan of nothing", "record empty", "pixels"])
def test_a_result_that_was_damaged_is_one_sentence(store, tmp_path, fault):
    for name in ("done", "done.bigncc"):
        shutil.copytree(store / name, tmp_path / name)
    if fault == "pixels":
        path = next(p for p in sorted((tmp_path / "done" / "0" / "c").rglob("*")) if p.is_file())
        path.write_bytes(b"x" + path.read_bytes()[1:])
        words, place = ("report", "done"), "done/0"
    else:
        name = "COMPLETE.json" if fault == "record empty" else "plan.json"
        path = tmp_path / "done.bigncc" / name
        path.write_text({"plan torn": "{", "plan of nothing": "{}", "record empty": ""}[fault])
        words, place = ("status", "done"), f"done.bigncc/{name}"
    before = tree(tmp_path)
    done = started()(tmp_path, *words)
    assert f"{tmp_path}/{place}" in sentence(done, done.returncode)
    assert done.returncode in (2, REFUSED, BAD_INPUT)
    assert tree(tmp_path) == before


def test_a_result_whose_pixels_are_gone_is_not_complete(store, tmp_path):
    shutil.copytree(store / "done.bigncc", tmp_path / "done.bigncc")
    done = started()(tmp_path, "status", "done", "--json")
    assert done.returncode != 0 or json.loads(done.stdout)["state"] != "complete"


@pytest.mark.parametrize("jobs", [3])
@pytest.mark.soak
def test_runs_at_once_make_one_result(tmp_path, jobs):
    pairs.pair(tmp_path, (300, 300))
    words = ("--as-is", "output.chunks=[32, 32]", "engine.threads=1")
    with ThreadPoolExecutor(jobs) as pool:
        all_of_them = pool.map(lambda _: bigncc_cli(tmp_path, "run", "a.zarr", "b.zarr", "out", *words), range(jobs))
        ended = list(all_of_them)
    assert [done.returncode for done in ended] == [0] * jobs, [done.stderr for done in ended]
    good(tmp_path, "run", "a.zarr", "b.zarr", "alone", *words)
    pairs.same(pairs.maps(tmp_path / "out"), pairs.maps(tmp_path / "alone"))
    records = [journal.read_complete(str(tmp_path / name)) for name in ("out", "alone")]
    assert records[0]["digest"] == records[1]["digest"]


def mount(*words):
    """Mount or unmount, as root or by way of sudo."""
    words = [str(word) for word in words]
    return subprocess.run(words if os.geteuid() == 0 else ["sudo", "-n", *words], capture_output=True, text=True)


@pytest.fixture
def disk():
    """Make small file systems: `disk(place, size)`."""
    places = []

    def make(place, size):
        place.mkdir(exist_ok=True)
        done = mount("mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "tmpfs", place)
        assert done.returncode == 0, f"this test needs a small disk (root or sudo): {done.stderr}"
        places.append(place)
        return place

    yield make
    for place in places:
        assert mount("umount", "-l", place).returncode == 0


def remount(place, option):
    """Change a small file system while it is in use."""
    done = mount("mount", "-o", f"remount,{option}", place)
    assert done.returncode == 0, done.stderr


def fill(path):
    """Fill the disk that `path` is on."""
    while shutil.disk_usage(path.parent).free:
        with path.open("ab", buffering=0) as file:
            file.write(bytes(4096))


# small objects take whole pages: the output is larger on disk than its pixels are
PAGES = ("--as-is", "output.chunks=[16, 16]", "engine.threads=2")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Write a pair and its map in `whole`; return the words for another map of it, but for the output."""
    folder = tmp_path_factory.mktemp("paged")
    pairs.pair(folder, (300, 300))
    words = ("run", folder / "a.zarr", folder / "b.zarr")
    good(folder, *words, "whole", *PAGES)
    return words


@pytest.mark.parametrize("kind", [pytest.param("pixels", marks=pytest.mark.soak), "journal"])
def test_a_full_disk_stops_a_run_that_goes_on_when_there_is_space(tmp_path, disk, words, kind):
    if kind == "pixels":
        place = disk(tmp_path / "disk", "2m")
        out = place / "out"
    else:  # the plan fits, not all rows do
        out = tmp_path / "out"
        place = disk(tmp_path / "out.bigncc", "12k")
    said = sentence(started()(tmp_path, *words, out, *PAGES), DOES_NOT_FIT)
    assert "cannot be written (No space left on device): run again when there is space" in said
    found = json.loads(good(tmp_path, "status", out, "--json"))
    assert found["state"] == "in-progress"
    assert 0 < found["tiles"]["done"] < found["tiles"]["total"]
    # the same again: still full, still one sentence
    sentence(started()(tmp_path, *words, out, *PAGES), DOES_NOT_FIT)
    remount(place, "size=50m")
    good(tmp_path, *words, out, *PAGES)
    pairs.same(pairs.maps(out), pairs.maps(words[1].with_name("whole")))
    assert sorted(computed(out)) == list(range(found["tiles"]["total"]))


@pytest.mark.soak
def test_a_disk_that_is_full_at_any_point_loses_nothing(tmp_path, disk, words):
    rng = np.random.default_rng(0)
    stopped = set()
    for trial in range(20):
        place = disk(tmp_path / f"disk{trial}", f"{int(rng.integers(40, 1700))}k")
        out = place / "out"
        # too small a disk is noticed before; this one fills up behind the back of a run that has begun
        size = shutil.disk_usage(place).free
        remount(place, "size=50m")
        good(tmp_path, "prepare", *words[1:], out, *PAGES)
        used = 50 * 2**20 - shutil.disk_usage(place).free
        remount(place, f"size={used + size}")
        sentence(started()(tmp_path, *words, out, *PAGES), DOES_NOT_FIT)
        found = json.loads(good(tmp_path, "status", out, "--json"))["tiles"]
        stopped.add(found["done"])
        assert found["done"] < found["total"]
        remount(place, "size=50m")
        good(tmp_path, *words, out, *PAGES)
        pairs.same(pairs.maps(out), pairs.maps(words[1].with_name("whole")))
        assert "right: " in good(tmp_path, "verify", out)
    assert len(stopped) > 3


def test_a_disk_that_is_full_from_the_start_is_one_sentence(tmp_path, disk, words):
    place = disk(tmp_path / "disk", "2m")
    fill(place / "ballast")
    said = sentence(started()(tmp_path, *words, place / "out", *PAGES), DOES_NOT_FIT)
    assert str(place) in said
    assert "0.0 GB" not in said  # which would explain nothing
    assert list(tree(place)) == ["ballast"]


def test_a_disk_without_room_for_files_is_one_sentence(tmp_path, disk, words):
    place = disk(tmp_path / "disk", "50m")
    remount(place, "nr_inodes=200")
    said = sentence(started()(tmp_path, *words, place / "out", *PAGES), DOES_NOT_FIT)
    assert re.search(r"has room for \d+ files: 1000, what the output takes, fit; larger output\.chunks", said)
    assert not tree(place)


def test_a_plan_that_does_not_fit_its_disk_is_one_sentence(tmp_path, disk, words):
    place = disk(tmp_path / "out.bigncc", "8k")
    fill(place / "ballast")
    said = sentence(started()(tmp_path, *words, tmp_path / "out", *PAGES), DOES_NOT_FIT)
    assert "out.bigncc" in said
    assert "No space left on device" in said
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_read_only_is_one_sentence(tmp_path, disk, words):
    place = disk(tmp_path / "disk", "50m")
    out = place / "out"
    remount(place, "ro")
    said = sentence(started()(tmp_path, *words, out, *PAGES), BAD_INPUT)
    assert f"{place}/out" in said
    assert "cannot be written (Read-only file system)" in said
    remount(place, "rw")
    good(tmp_path, *words, out, *PAGES)
    before = tree(place)
    remount(place, "ro")
    # a result that is complete can be read where nothing can be written
    assert json.loads(good(tmp_path, "status", out, "--json"))["state"] == "complete"
    assert "cannot be written (Read-only file system)" in sentence(started()(tmp_path, "report", out), BAD_INPUT)
    assert "complete: " in good(tmp_path, *words, out, *PAGES)
    assert tree(place) == before


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """Write a pair and its map in `whole`; return the words of a run that takes seconds and many tiles."""
    folder = tmp_path_factory.mktemp("long")
    pairs.pair(folder, (1500, 1500), chunks=(128, 128))
    words = ("--as-is", "--window", "31", "output.chunks=[128, 128]", "engine.threads=1", "engine.memory=362MB")
    good(folder, "run", "a.zarr", "b.zarr", "whole", *words)
    return folder, words


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [
        (signal.SIGINT, STOPPED, "bigncc: stopped by SIGINT; the same command continues"),
        (signal.SIGKILL, -9, ""),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else "",
)
def test_a_run_that_is_stopped_goes_on_where_it_was(long_run, number, code, text):
    folder, words = long_run
    out = folder / number.name
    command = [SCRIPT, "run", "a.zarr", "b.zarr", number.name, *words]
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child inherits it where it is ignored
    try:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, kept)
    with process:
        deadline = time.monotonic() + 120
        while len(computed(out)) < 3 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.poll() is None, process.communicate()
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    done = subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
    if text:
        assert sentence(done, code) == text
    assert process.returncode == code
    assert "complete" not in stdout

    found = json.loads(good(folder, "status", number.name, "--json"))
    before = computed(out)
    assert found["state"] == "in-progress"
    assert 0 < len(before) == found["tiles"]["done"] < found["tiles"]["total"]
    assert found["tiles"]["total"] >= 16
    said = sentence(started()(folder, "report", number.name), 2)
    assert f"has {len(before)} of {found['tiles']['total']} tiles: run the same command again" in said

    good(folder, *command[1:])
    pairs.same(pairs.maps(out), pairs.maps(folder / "whole"))
    after = computed(out)
    assert sorted(after) == list(range(found["tiles"]["total"]))  # each once: nothing was computed again
    assert set(before) < set(after)
    assert journal.read_complete(str(out))["digest"] == journal.read_complete(str(folder / "whole"))["digest"]


def test_a_run_that_reaches_its_time_goes_on_where_it_was(long_run):
    folder, words = long_run
    command = ("run", "a.zarr", "b.zarr", "timed", *words)
    said = sentence(started()(folder, *command, "--max-time", "1s"), STOPPED)
    assert said == "bigncc: stopped by --max-time; the same command continues"
    good(folder, *command, "--max-time", "1h0m1s")
    pairs.same(pairs.maps(folder / "timed"), pairs.maps(folder / "whole"))


@pytest.mark.soak
def test_parts_by_several_jobs_make_the_whole(tmp_path):
    pairs.pair(tmp_path, (300, 300))
    words = ("a.zarr", "b.zarr", "out", "--as-is", "output.chunks=[16, 16]", "output.shards=[32, 32]")
    assert "prepared: " in good(tmp_path, "prepare", *words)
    said = sentence(bigncc_cli(tmp_path, "finish", "out"), 2)
    assert re.search("out has 0 of [0-9]+ tiles: run the same command again to complete it", said)
    with ThreadPoolExecutor(3) as pool:
        parts = [("run", *words, "--part", f"{i}/3") for i in range(3)]
        done = list(pool.map(lambda part: bigncc_cli(tmp_path, *part), parts))
    assert [each.returncode for each in done] == [0, 0, 0], [each.stderr for each in done]
    assert "part 2/3 is done, bigncc finish after all parts: " in done[2].stdout
    assert "complete: " in good(tmp_path, "finish", "out")
    assert sorted(computed(tmp_path / "out")) == list(range(len(computed(tmp_path / "out"))))
    assert "right: " in good(tmp_path, "verify", "out", "--recompute", "2")
    good(tmp_path, "run", *words[:2], "alone", *words[3:])
    pairs.same(pairs.maps(tmp_path / "out"), pairs.maps(tmp_path / "alone"))


def test_what_is_not_what_was_computed_is_named_and_repaired(tmp_path):
    pairs.pair(tmp_path)
    good(tmp_path, *AS_IS)
    whole = pairs.maps(tmp_path / "out")
    victim = tmp_path / "out" / "0" / "c" / "0" / "0"
    victim.write_bytes(victim.read_bytes()[:-1])
    done = started()(tmp_path, "verify", "out")
    assert "is not what was computed: bigncc run --repair" in sentence(done, 2)
    assert re.search(rf"^{victim} \(\d+ bytes\) differs from its checksum$", done.stdout, re.MULTILINE)
    good(tmp_path, *AS_IS, "--repair")
    assert "right: " in good(tmp_path, "verify", "out")
    pairs.same(whole, pairs.maps(tmp_path / "out"))


def test_an_output_is_overwritten_by_its_name_only(tmp_path):
    pairs.pair(tmp_path)
    good(tmp_path, *AS_IS)
    old = json.loads(good(tmp_path, "status", "out", "--json"))["plan_id"]
    words = (*AS_IS, "--window", "9", "--overwrite", old)
    for _ in range(2):  # again, and it is not removed again
        good(tmp_path, *words)
        assert sorted(computed(tmp_path / "out")) == list(range(len(computed(tmp_path / "out"))))
    assert json.loads(good(tmp_path, "status", "out", "--json"))["plan_id"] != old
    good(tmp_path, *AS_IS[:3], "nine", "--as-is", "--window", "9")
    pairs.same(pairs.maps(tmp_path / "out"), pairs.maps(tmp_path / "nine"))
