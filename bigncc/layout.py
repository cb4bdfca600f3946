"""What an output looks like on disk: levels, chunks, names, and what its metadata says, in OME-Zarr 0.4 or 0.5."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from bigncc.encoding import EXACT, DType, Encoding, for_bounds
from bigncc.maps import PIXELS, WINDOW_MAP, described, of_pixels
from bigncc.metadata import validated
from bigncc.nodes import components, first_node, node_counts
from bigncc.summary import STATUS
from bigncc.tiles import Shape, coarse

# RGBA per status: a viewer shows only the pixels that have no value
COLOURS = (
    (0, 0, 0, 255),
    (0, 0, 0, 0),
    (128, 128, 128, 255),
    (86, 180, 233, 255),
    (230, 159, 0, 255),
    (0, 114, 178, 255),
    (204, 121, 167, 255),
    (64, 64, 64, 255),
    (213, 94, 0, 255),
)
FURTHER = "|".join((*PIXELS, WINDOW_MAP, *components("zyx")))
"""What further maps are called in an output, as a pattern; a shift map has an image for each component.

OME-Zarr has one axis for channels, which those of the image may have taken; and a viewer shows images side by side,
each with a contrast of its own.
"""

OBJECT = re.compile(
    rf"(labels/status/|maps/(?:{FURTHER})/)?"
    r"(0|[1-9][0-9]*)/(c/)?((0|[1-9][0-9]*)(/(0|[1-9][0-9]*))*)"
)
"""Names of stored objects: map, level, and place in the grid of its objects."""

GROUPS = ("", "labels/", "labels/status/")
"""Groups of an output without further maps, the one that says whose it is first."""

RENDERED = {
    "active": True,
    "coefficient": 1,
    "color": "FFFFFF",
    "family": "linear",
    "inverted": False,
    "window": {"min": -1.0, "max": 1.0, "start": -1.0, "end": 1.0},
}
"""How a viewer shows a map at first."""


def folders_of(maps: tuple[str, ...], nodes: tuple[str, ...]) -> dict[str, str]:
    """Return where the levels of maps are, of pixels and of nodes, in an output that was asked for some `maps`."""
    return {"ncc": "", "status": "labels/status/"} | {name: f"maps/{name}/" for name in (*of_pixels(maps), *nodes)}


def encodings_of(maps: tuple[str, ...], dtype: DType, keepbits: int | None) -> dict[str, Encoding]:
    """Return how the maps of pixels are stored, but the status, of an output that was asked for some `maps`."""
    bounds = {"ncc": 1.0, **{name: described(name).bound for name in of_pixels(maps)}}
    return for_bounds(bounds, dtype, keepbits)


@dataclass(frozen=True)
class Layout:
    """What the maps look like on disk.

    Parameters
    ----------
    shape, chunks : tuple of int
        Per axis, pixels.
    axes : tuple of str
        Names out of t, c, z, y, x.
    scale, translation : tuple of float
        Per axis, in `units`.
    units : tuple of str or None
        Per axis.
    name : str
        What a viewer shows.
    shards : tuple of int or None
        Pixels per axis of a stored object, if that holds several chunks.
    halved : int
        How many trailing axes a level of the pyramid halves.
    levels : tuple of int
        The stored levels, finest first; `shape`, `scale` and `translation` are those of level 0.
    version : str
        Of OME-Zarr, 0.4 or 0.5.
    labels : tuple of str
        What the channels are called, if they have names.
    maps : tuple of str
        What was asked for: ncc, and further maps.
    step, nodes, reach : tuple of int
        Of a shift map, along the windowed axes: pixels between nodes, nodes of a stored object, pixels searched.
    encoding, keepbits : str, int or None
        How values are stored, where their largest is known: dtype, and of float32 how much of the mantissa.
    """

    shape: Shape
    chunks: Shape
    axes: tuple[str, ...]
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    units: tuple[str | None, ...]
    name: str
    shards: Shape | None = None
    halved: int = 0
    levels: Shape = (0,)
    version: str = "0.5"
    labels: tuple[str, ...] = ()
    maps: tuple[str, ...] = ("ncc",)
    step: Shape = ()
    nodes: Shape = ()
    reach: Shape = ()
    encoding: DType = "float32"
    keepbits: int | None = None

    @property
    def encodings(self) -> dict[str, Encoding]:
        """How the maps of pixels are stored that are no status."""
        return encodings_of(self.maps, self.encoding, self.keepbits)

    def attributes_of(self, name: str) -> dict[str, Any]:
        """Return what a stored array says of itself; of Zarr's version 2 xarray needs the names of its axes."""
        how = self.encodings.get(name.partition("/")[0])
        if how is None or how.exact:
            return {}
        return how.attributes | ({"_ARRAY_DIMENSIONS": list(self.axes)} if self.version == "0.4" else {})

    @property
    def folders(self) -> dict[str, str]:
        """Where the levels of the maps are, by the name of the map: first of pixels, then of nodes."""
        return folders_of(self.maps, self.components)

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the maps whose pixels are nodes."""
        return components(self.axes[-len(self.step) :]) if self.step else ()

    @property
    def node_grid(self) -> Layout:
        """What a map of nodes is by itself: its pixels lie in the middle of cells of `step` pixels of the image."""
        batch = (1,) * (len(self.shape) - len(self.step))
        step = batch + self.step
        shape = node_counts(self.shape, step)
        axes = zip(self.translation, self.scale, first_node(step), strict=True)
        return replace(
            self, shape=shape, chunks=tuple(map(min, zip(batch + self.nodes, shape, strict=True))),
            scale=tuple(s * n for s, n in zip(self.scale, step, strict=True)),
            translation=tuple(t + s * n for t, s, n in axes), shards=None, halved=0, levels=(0,), **PLAIN,
        )  # fmt: skip

    @property
    def objects(self) -> Shape:
        """Pixels per axis of a stored object."""
        return self.shards or self.chunks

    @property
    def coarser(self) -> Shape:
        """Pixels per axis of an object of the levels after the finest.

        Shards have half the side there, as far as they hold whole chunks: then what a tile makes of the second level
        is whole objects too, and need not be read again for it.
        """
        fixed = len(self.shape) - self.halved
        axes = enumerate(zip(self.objects, self.chunks, strict=True))
        return tuple(o // 2 if i >= fixed and o % (2 * c) == 0 else o for i, (o, c) in axes)

    def at(self, level: int) -> Layout:
        """Return what a level is by itself: its pixels cover those of the finest level, so their centres move."""
        if level == 0:
            return replace(self, halved=0, levels=(0,), **PLAIN)
        shape = coarse(self.shape, level, self.halved)
        chunks = tuple(map(min, zip(self.chunks, shape, strict=True)))
        sizes = self.coarser if level > self.levels[0] else self.objects
        shards = self.shards and tuple(min(s, -(-n // c) * c) for s, n, c in zip(sizes, shape, chunks, strict=True))
        fixed = len(shape) - self.halved
        growth = tuple(2**level if i >= fixed else 1 for i in range(len(shape)))
        scale = tuple(s * g for s, g in zip(self.scale, growth, strict=True))
        axes = zip(self.translation, self.scale, growth, strict=True)
        return replace(
            self, shape=shape, chunks=chunks, scale=scale, translation=tuple(t + s * (g - 1) / 2 for t, s, g in axes),
            shards=shards, halved=0, levels=(0,), **PLAIN,
        )  # fmt: skip

    def of(self, name: str) -> Layout:
        """Return what a stored array is by itself, by its name."""
        return self.node_grid if name in self.components else self.at(int(name.partition("/")[2] or 0))

    @property
    def arrays(self) -> dict[str, tuple[str, int]]:
        """Path and level of each stored array, by its name."""
        own, folders = self.components, self.folders
        pixels = {map_name(m, k): (f"{folders[m]}{k}", k) for k in self.levels for m in folders if m not in own}
        return pixels | {name: (f"{folders[name]}0", 0) for name in own}

    @property
    def metadata(self) -> tuple[str, ...]:
        """Every file of an output that is not an object of its maps, the one that says whose it is first."""
        further = list(self.folders.values())[2:]
        groups = (*GROUPS, *(("maps/", *further) if further else ()))
        arrays = [f"{path}/" for path, _ in self.arrays.values()]
        if self.version == "0.4":
            said = [f"{path}/.zattrs" for name, (path, _) in self.arrays.items() if self.attributes_of(name)]
            files = (f"{group}{name}" for group in groups for name in V2)
            return (*files, *(f"{array}.zarray" for array in arrays), *said)
        return tuple(f"{place}zarr.json" for place in (*groups, *arrays))

    def holds(self, name: str) -> bool:
        """Say whether a file of this name is one of the stored objects."""
        found = OBJECT.fullmatch(name)
        if found is None or bool(found[3]) != (self.version == "0.5"):
            return False
        arrays = {path: name for name, (path, _) in self.arrays.items()}
        array = arrays.get(f"{found[1] or ''}{found[2]}")
        if array is None:
            return False
        level = self.of(array)
        place = tuple(map(int, found[4].split("/")))
        return len(place) == len(level.shape) and all(
            i < -(-n // o) for i, n, o in zip(place, level.shape, level.objects, strict=True)
        )


PLAIN: dict[str, Any] = {
    "maps": ("ncc",), "step": (), "nodes": (), "reach": (), "encoding": "float32", "keepbits": None,
}  # fmt: skip
"""Fields of a layout without further maps whose values are stored as they are; then they are not written down."""


def to_dict(layout: Layout) -> dict[str, Any]:
    """Return what a plan says of a layout."""
    values = asdict(layout)
    return {name: value for name, value in values.items() if PLAIN.get(name) != value or name not in PLAIN}


MEAN = {"type": "mean", "metadata": {"description": "mean of the pixels of status 1 among 2 along each halved axis"}}
MODE = {"type": "mode", "metadata": {"description": "1 where at least half of the pixels have it, else the commonest"}}
"""How the levels were made, as OME-Zarr says it."""

V2 = (".zattrs", ".zgroup")
"""Files of a group of Zarr's version 2: what it says of itself, and that it is one."""


def map_name(name: str, level: int) -> str:
    """Return what a map of a level is called in an output and in its journal."""
    return f"{name}/{level}" if level else name


FINITE = {"type": "mean", "metadata": {"description": "mean of the finite pixels among 2 along each halved axis"}}
"""How the levels of a further map were made."""


def metadata_of(layout: Layout) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the attributes that OME-Zarr wants of a map and of its status."""
    multiscale = _multiscale(layout)
    label = {
        "colors": [{"label-value": code, "rgba": list(rgba)} for code, rgba in enumerate(COLOURS)],
        "properties": [{"label-value": code, "name": name} for code, name in enumerate(STATUS)],
        "source": {"image": "../../"},
    }
    image = {"multiscales": [{**multiscale, **(MEAN if layout.halved else {})}]}
    status = {
        "multiscales": [{**multiscale, "name": "status", **(MODE if layout.halved else {})}],
        "image-label": label,
    }
    return _versioned(image, layout.version), _versioned(status, layout.version)


def _multiscale(layout: Layout) -> dict[str, Any]:
    kinds = {"t": "time", "c": "channel"}
    axes: list[dict[str, str]] = [
        {"name": axis, "type": kinds.get(axis, "space")} | ({"unit": unit} if unit else {})
        for axis, unit in zip(layout.axes, layout.units, strict=True)
    ]
    return {"name": layout.name, "axes": axes, "datasets": [_dataset(layout, level) for level in layout.levels]}


def _further(layout: Layout, name: str) -> dict[str, Any]:
    """Return the attributes that OME-Zarr wants of a further map."""
    if name in layout.components:
        ends = {"shift_peak": (-1.0, 1.0), "shift_ratio": (0.0, 1.0), "shift_uncertainty": (0.0, 1.0)}
        far = float(max(layout.reach))
        multiscale = _multiscale(layout.node_grid)
        shown: tuple[float, float] | None = ends.get(name, (-far, far))
    else:
        multiscale, shown = _multiscale(layout) | (FINITE if layout.halved else {}), described(name).ends
    image = _versioned({"multiscales": [{**multiscale, "name": name}]}, layout.version)
    if shown is not None:  # or a viewer looks for itself
        image.get("ome", image)["omero"] = _rendering(layout, name, *shown)
    return image


def _dataset(layout: Layout, level: int) -> dict[str, Any]:
    here = layout.at(level)
    steps = [
        {"type": "scale", "scale": list(here.scale)},
        {"type": "translation", "translation": list(here.translation)},
    ]
    return {"path": str(level), "coordinateTransformations": steps}


def _versioned(document: dict[str, Any], version: str) -> dict[str, Any]:
    """Return a group's attributes, which say their version in one place, or in 0.4 in each part."""
    if version == "0.5":
        return {"ome": {"version": version, **document}}
    if "multiscales" in document:
        document = {**document, "multiscales": [{"version": version, **each} for each in document["multiscales"]]}
    if "image-label" in document:
        document = {**document, "image-label": {"version": version, **document["image-label"]}}
    return document


def _rendering(layout: Layout, name: str = "ncc", low: float = -1.0, high: float = 1.0) -> dict[str, Any]:
    """Return how viewers are to show a map: grey from low to high, each channel alike."""
    count = layout.shape[layout.axes.index("c")] if "c" in layout.axes else 1
    labels = layout.labels or ([name] if count == 1 else [f"{name} {i}" for i in range(count)])
    if (how := layout.encodings.get(name)) is not None:  # a viewer shows what is stored
        low, high = how.stored(low), how.stored(high)
    rendered = {**RENDERED, "window": {"min": low, "max": high, "start": low, "end": high}}
    return {"channels": [{"label": label, **rendered} for label in labels], "rdefs": {"model": "greyscale"}}


def documents_of(layout: Layout, attributes: dict[str, Any], place: str) -> dict[str, Any]:
    """Return every metadata file by its key, made in memory so that creating it is a plain put."""
    import zarr
    from zarr.storage import MemoryStore

    image, status = metadata_of(layout)
    version, own = layout.version, json.loads(json.dumps(attributes, sort_keys=True))
    (image["ome"] if version == "0.5" else image)["omero"] = _rendering(layout)
    validated("Image", image.get("ome", image), version, place)
    validated("LabelImage", status.get("ome", status), version, place)
    documents: dict[str, Any] = {}
    zarr_format: Literal[2, 3] = 3 if version == "0.5" else 2
    root = zarr.create_group(MemoryStore(documents), attributes={**image, "bigncc": own}, zarr_format=zarr_format)
    root.create_group("labels", attributes=_versioned({"labels": ["status"]}, version))
    root.create_group("labels/status", attributes=status)
    further = list(layout.folders)[2:]
    if further:
        root.create_group("maps")
    for name in further:
        image = _further(layout, name)
        validated("Image", image.get("ome", image), version, place)
        root.create_group(f"maps/{name}", attributes=image)
    for name, (path, _) in layout.arrays.items():
        how = layout.encodings.get(name.partition("/")[0], EXACT)
        dtype, fill = ("uint8", 0) if name.startswith("status") else (how.dtype, how.fill)
        here = layout.of(name)
        root.create_array(
            path, shape=here.shape, chunks=here.chunks, shards=here.shards, dtype=dtype, fill_value=fill,
            attributes=layout.attributes_of(name), **_codecs(layout),
        )  # fmt: skip
    return {key: documents[key] for key in layout.metadata}


def _codecs(layout: Layout) -> dict[str, Any]:
    """Return how chunks are encoded: half as dear as zarr's default; a checksum goes last where the format has one."""
    if layout.version == "0.4":
        from numcodecs import Blosc

        # a checksum would be a filter there, and tensorstore opens no array that has one
        lz4 = Blosc("lz4", 5, Blosc.BITSHUFFLE)
        return {"compressors": lz4, "filters": None, "chunk_key_encoding": {"name": "v2", "separator": "/"}}
    from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec

    compressors = [BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"), Crc32cCodec()]
    return {"serializer": BytesCodec(), "compressors": compressors, "dimension_names": layout.axes}
