"""Small pairs on disk and the configs that name them."""

import json
from pathlib import Path

import numpy as np
import zarr

from bigncc import config
from bigncc.summary import Summary
from tests import strategies

_IMAGE = {"url": "a", "z": None}
SAID = {
    "state": "in-progress",
    "plan_id": "p1",
    "config": {"reference": _IMAGE, "moving": _IMAGE, "window": {"size": 5, "flat": 0.0}},
    "registration": {"estimate": None, "order": 1, "unknown": ""},
    "headline": "as is",
    "versions": {},
    "request": {"window": {}},
}
"""The least that an output says of itself, and its plan but for the state."""

DONE = json.loads(
    json.dumps({**SAID, "state": "complete", "tiles": 0, "digest": "", "absent": {}, "summary": Summary().to_dict()})
)
"""The least that one says which is complete."""


def store(path, image, chunks=None, names=None, **options):
    """Write a plain Zarr array."""
    chunks = chunks or tuple(min(n, 50) for n in image.shape)
    array = zarr.create_array(
        str(path), shape=image.shape, dtype=image.dtype, chunks=chunks, dimension_names=names, **options
    )
    array[...] = image
    return str(path)


def pair(folder, shape=(130, 170), dtype="uint16", chunks=None):
    """Write a pair that agrees in one half and not in the other; return paths and arrays."""
    f = strategies.image(1, shape, dtype, "noise")
    g = strategies.image(2, shape, dtype, "noise")
    g[..., : shape[-1] // 2] = f[..., : shape[-1] // 2] // 2
    g[..., 20:40, 20:40] = 7
    return store(folder / "a.zarr", f, chunks), store(folder / "b.zarr", g, chunks), f, g


def job(reference, moving, output, *words):
    """A checked config of small chunks, so that there are many tiles."""
    sections = {"reference": {"url": reference}, "moving": {"url": moving}, "output": {"url": str(output)}}
    small = {"output": {"chunks": [32, 32]}, "registration": {"model": "none"}, "engine": {"threads": 2}}
    return config.load([sections, small, *words])


def unmoved(folder, axes=2):
    """Words that say that the images lie on each other: no shift is measured, which takes longer than all tiles."""
    path = Path(folder) / "still.json"
    path.write_text(json.dumps({"kind": "translation", "offset": [0] * axes}))
    return "registration.model=null", f"registration.transform={path}", "registration.trust_field=true"


def still(reference, moving, output, *words, axes=2):
    """The config of a pair that is not moved."""
    return job(reference, moving, output, *unmoved(Path(output).parent, axes), *words)


def maps(url):
    """Both maps of an output."""
    group = zarr.open_group(str(url), mode="r")
    return {"ncc": group["0"][...], "status": group["labels/status/0"][...]}


def same(one, two):
    """Assert that maps agree to the bit."""
    assert {"ncc", "status"} <= one.keys() == two.keys()
    for name in one:
        a, b = one[name], two[name]
        np.testing.assert_array_equal(a.view(f"u{a.itemsize}"), b.view(f"u{b.itemsize}"), err_msg=name)


def files(folder):
    """All files below a folder with their bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
