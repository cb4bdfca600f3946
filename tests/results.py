"""A small finished result whose images agree but in one box, and whose pixels have a size."""

import zarr

from bigncc import config, pipeline
from bigncc.output import write_image
from tests import strategies

SHAPE = (200, 260)
BOX = (slice(64, 128), slice(96, 176))
"""Where the images have nothing in common."""

SCALE, UNIT = 0.25, "micrometer"


def image(path, samples):
    """Write an image with the size of its pixels."""
    write_image(str(path), samples, ("c", "z", "y", "x")[-samples.ndim :], path.name)
    group = zarr.open_group(str(path))
    said = group.attrs.asdict()["ome"]
    (multiscale,) = said["multiscales"]
    for axis in multiscale["axes"][-2:]:
        axis["unit"] = UNIT
    steps = multiscale["datasets"][0]["coordinateTransformations"]
    steps[0]["scale"][-2:] = [SCALE, SCALE]
    group.attrs["ome"] = said


def pair(folder, names=("a.zarr", "b.zarr"), shape=SHAPE):
    """Write both images; return their paths and samples."""
    f, other = (strategies.image(seed, shape, "uint8", "noise") for seed in (1, 2))
    g = f.copy()
    g[..., BOX[0], BOX[1]] = other[..., BOX[0], BOX[1]]
    g[..., 150:190, 10:60] = 7
    paths = [folder / name for name in names]
    for path, samples in zip(paths, (f, g), strict=True):
        image(path, samples)
    return paths, f, g


def run(paths, out, *words):
    """Correlate two images; return where the result is."""
    reference, moving = map(str, paths)
    sections = {"reference": {"url": reference}, "moving": {"url": moving}, "output": {"url": str(out)}}
    small = {"window": {"size": 9}, "output": {"chunks": [64, 64]}, "registration": {"model": "none"}}
    pipeline.run(config.load([sections, small, {"engine": {"threads": 2}}, *words]))
    return str(out)
