"""Arrays and images on disk, as other programs write them."""

from pathlib import Path

import numpy as np
import zarr

TYPES = {"t": "time", "c": "channel"}


def samples(shape, dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape).astype(dtype)


def plain(path, data, *, version=3, **options):
    options = {"chunks": tuple(min(4, n) for n in data.shape), "zarr_format": version} | options
    array = zarr.create_array(str(path), shape=data.shape, dtype=data.dtype, **options)
    array[...] = data
    return array


def ome(path, levels, axes, version="0.5", *, steps=None, shared=None, labels=(), units=None, **options):
    group = zarr.create_group(str(path), zarr_format=3 if version == "0.5" else 2)
    steps = steps or [[{"type": "scale", "scale": [2.0**i] * len(axes)}] for i in range(len(levels))]
    for i, data in enumerate(levels):
        plain(Path(path) / str(i), data, version=group.metadata.zarr_format, **options)
    multiscale = {
        "axes": [
            {"name": a, "type": TYPES.get(a, "space")} | ({"unit": units} if units and a in "zyx" else {}) for a in axes
        ],
        "datasets": [{"path": str(i), "coordinateTransformations": s} for i, s in enumerate(steps)],
    }
    if shared:
        multiscale["coordinateTransformations"] = shared
    document = {"multiscales": [multiscale]}
    if labels:
        window = {"start": 0, "min": 0, "end": 1, "max": 1}
        document["omero"] = {"channels": [{"label": n, "color": "FFFFFF", "window": window} for n in labels]}
    if version == "0.5":
        group.attrs["ome"] = {"version": version, **document}
    else:
        multiscale["version"] = version
        group.attrs.update(document)
    return group


def everything(array):
    return array[tuple(slice(0, n) for n in array.shape)]


def tree(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(Path(path).rglob("*")) if p.is_file()}
