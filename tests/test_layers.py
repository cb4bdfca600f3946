"""Imports only look down, and each guest library has named hosts."""

import ast
import re
import sys
from pathlib import Path

import pytest

FLOORS = (
    ("errors", "compiled", "allocator", "shell"),
    (
        "remote",
        "nodes",
        "conventions",
        "prefilter",
        "discoveries",
        "autocorrelation",
        "weights",
        "arithmetic",
        "lines",
        "documents",
        "yamls",
        "bounds",
    ),
    (
        "encoding",
        "tiles",
        "window",
        "summary",
        "coefficients",
        "moments",
        "ranking",
        "halving",
        "store",
        "address",
        "progress",
        "archive",
        "choice",
        "coordinates",
        "gate",
        "tails",
        "terms",
    ),
    (
        "metadata",
        "fingerprint",
        "sums",
        "ranks",
        "convolution",
        "matching",
        "watch",
        "pyramid",
        "inline",
        "stealing",
        "notation",
        "crew",
        "interpolation",
        "capacity",
        "planning",
        "regions",
        "maps",
        "gaussian",
        "shaped",
    ),
    ("kernel", "warping", "transform", "storage", "journal", "objects", "layout", "stopping", "machine"),
    (
        "significance",
        "shift",
        "scales",
        "resampling",
        "attempts",
        "output",
        "science",
        "wording",
        "field",
        "reading",
        "grids",
        "sections",
        "lattice",
        "filtering",
        "confidence",
    ),
    ("config", "aperture"),
    ("options", "pair", "report", "export", "evidence", "script", "cluster", "tasks"),
    ("sites", "masks", "search", "scene", "streamed", "pulled"),
    ("fit", "deformation", "variants"),
    ("registration", "raster"),
    ("lazy", "stack", "chart"),
    ("vectors", "result"),
    ("engine", "inputs", "xarray"),
    ("footprint", "arrays", "placement", "decoding", "coverage"),
    ("budget",),
    ("decision",),
    ("proof",),
    ("finished", "worker", "lookout", "display"),
    ("picture", "dispatch"),
    ("dossier",),
    ("page",),
    ("publication",),
    ("pipeline", "viewer"),
    ("demo", "table", "typed", "events"),
    ("shared",),
    ("cli",),
)
HOSTS = {
    "numba": {"compiled"},
    "dask": {"pair", "masks", "lazy", "vectors", "registration", "search", "placement", "cluster", "stack", "coverage"},
    "zarr": {
        "archive",
        "metadata",
        "storage",
        "layout",
        "output",
        "field",
        "watch",
        "objects",
        "inline",
        "address",
        "bounds",
        "evidence",
        "gate",
    },
    "distributed": {"cluster", "tasks"},
    "dask_jobqueue": {"cluster"},
    "numcodecs": {"bounds", "layout", "encoding"},
    "obstore": {"remote", "address"},
    "yaozarrs": {"metadata"},
    "google_crc32c": {"objects"},
    "xxhash": {"store"},
    "pydantic": {"config", "decision", "machine", "science", "options"},
    "yaml": {"config", "yamls"},
    "rich": {"progress"},
    "matplotlib": {"report", "raster"},
    "skimage": {"search", "sites", "fit", "demo"},
    "threadpoolctl": {"pair"},
    "scipy": {"search", "sites", "deformation", "significance", "regions"},
    "xarray": {"xarray", "result"},
    "click": {"cli", "shared", "shell"},
    "jinja2": {"page"},
    "PIL": {"raster"},
    "neuroglancer": {"viewer"},
    "tornado": {"viewer"},
    "numpy": None,
}
ROOMS = Path(__file__).parent.parent / "bigncc"
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imports(path):
    """Names of all modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            if node.module == "bigncc":
                yield from (f"bigncc.{alias.name}" for alias in node.names)
            else:
                yield node.module


def faults(room, names):
    """What a room imports that it may not."""
    for name in names:
        package, _, rest = name.partition(".")
        if package == "bigncc":
            other = rest.partition(".")[0]
            if other not in FLOOR or FLOOR[other] >= FLOOR[room]:
                yield f"{room} imports {name}, which is not below it"
        elif package not in sys.stdlib_module_names:
            if package not in HOSTS:
                yield f"{room} imports {package}, which has no host"
            elif HOSTS[package] is not None and room not in HOSTS[package]:
                yield f"{room} imports {package}, which only {HOSTS[package]} may"


def test_every_room_has_one_floor_and_a_place_in_readme():
    assert {path.stem for path in ROOMS.glob("*.py")} == {*FLOOR, "__init__"}
    assert len(FLOOR) == sum(map(len, FLOORS))
    readme = (ROOMS.parent / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ((?:`\w+`(?:, )?)+) \|", readme, re.MULTILINE)
    assert {room: int(floor) for floor, rooms in rows for room in re.findall(r"\w+", rooms)} == FLOOR


@pytest.mark.parametrize("room", sorted(FLOOR))
def test_imports_only_look_down_and_guests_have_hosts(room):
    assert not list(faults(room, imports(ROOMS / f"{room}.py")))


@pytest.mark.parametrize(
    ("room", "name"),
    [("storage", "bigncc.lazy"), ("kernel", "bigncc.storage"), ("tiles", "dask.array"), ("cli", "requests")],
)
def test_a_planted_import_is_found(room, name):
    assert list(faults(room, [name]))


def test_the_door_promises_what_it_has():
    import bigncc

    assert sorted(bigncc.__all__) == dir(bigncc)
    for name in bigncc.__all__:
        assert getattr(bigncc, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bigncc.nothing


def test_the_door_is_light():
    import subprocess

    code = "import sys, bigncc, bigncc.cli; print(*{m.partition('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "zarr", "dask", "distributed", "numba", "pydantic", "matplotlib", "skimage"} & set(loaded)
