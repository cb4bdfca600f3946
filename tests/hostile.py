"""Inputs as a stranger might write them: mutated with their structure in mind, each read twice.

``python -m tests.hostile CLASS SEED COUNT FOLDER`` reads mutations of one class, one line of JSON for each. It is a
process of its own, whose memory is limited and watched, and which says what it is at before it tries it.
"""

import copy
import json
import os
import random
import resource
import shutil
import struct
import sys
import time
import traceback
import warnings
import zipfile
from pathlib import Path

import numpy as np

from tests.zarrs import ome, plain

LIMIT = 4 * 2**30
"""Bytes of address space: what would take more fails at once."""

VALUES = [
    None, True, False, 0, -1, 1, 2, 3, 7, 2**31, 2**53, 2**63, 2**70, 10**18, 1e400, -0.5, float("nan"), 1e-320, "",
    "x", "0", "..", "../b", "/etc/passwd", "s3://b/x", "a::b", "n\0", "\ud800", "\x1b[2J", "y", "<u2", "|O", ">f4",
    "float32", "blosc", "pickle", "gzip", [], {}, [[1]], [0, 0], [-1, 4], [4, 4, 4], [10**9, 10**9], {"id": "pickle"},
    {"name": "gzip", "configuration": {"level": 1}}, {"name": "crc32c"}, {"name": "numcodecs.pickle"}, "A" * 10**5,
]  # fmt: skip
"""What takes the place of a value."""


def places(document, at=()):
    """Yield the path of every value in a document."""
    yield at
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in inner:
        yield from places(value, (*at, key))


def mutated_json(rng, data):
    """Change the bytes of a JSON document, as a document or as text."""
    if rng.random() < 0.25:
        return mutated_bytes(rng, data)
    document = json.loads(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        every = [at for at in places(document) if at]
        if not every:
            break
        *way, last = rng.choice(every)
        outer = document
        for key in way:
            outer = outer[key]
        kind = rng.randrange(6)
        if kind == 0:
            del outer[last]
        elif kind == 1 and isinstance(outer, dict):
            outer[rng.choice(["extra", "id", "name", "", last + "s"])] = outer.pop(last)
        elif kind == 2 and isinstance(outer, list):
            outer.insert(last, copy.deepcopy(outer[last]))
        elif kind == 3 and type(outer[last]) is int:
            outer[last] = rng.choice(
                [outer[last] * 2, outer[last] - 1, outer[last] + 1, -outer[last], 2 ** rng.randrange(64)]
            )
        else:
            outer[last] = copy.deepcopy(rng.choice(VALUES))
    text = json.dumps(document)
    if rng.random() < 0.05:
        text = text.replace("{", '{"zarr_format": 2, ', 1)
    if rng.random() < 0.02:
        deep = rng.choice((100, 10**5))
        text = text[:-1] + ', "deep": ' + "[" * deep + "]" * deep + "}"
    return text.encode("utf-8", "surrogatepass")


def mutated_bytes(rng, data):
    """Change bytes: what a bad disk does, or somebody who knows where sizes are."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        kind, at = rng.randrange(7), rng.randrange(len(changed) or 1)
        if kind == 0 and changed:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            changed[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
        elif kind == 3:
            del changed[at : at + rng.randrange(1, 9)]
        elif kind == 4:  # a size, where headers and indices have them
            at = rng.choice((0, 4, 8, 12, max(0, len(changed) - 4), max(0, len(changed) - 20), at))
            size = rng.choice((0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1))
            form = rng.choice(("<Q", "<I"))
            changed[at : at + struct.calcsize(form)] = struct.pack(form, size % 256 ** struct.calcsize(form))
        elif kind == 5:
            changed += bytes(rng.randrange(1, 100))
        elif changed:
            other = rng.randrange(len(changed))
            changed[at : at + 8] = changed[other : other + 8]
    return bytes(changed)


def with_checksum(data):
    """Put a right checksum at the end of a shard, so that what is in its index is believed."""
    import google_crc32c

    index = data[-68:-4]
    return data[:-4] + struct.pack("<I", google_crc32c.value(index)) if len(index) == 64 else data


# --- what is mutated -------------------------------------------------------------------------------------------------


def image():
    return (np.arange(16 * 24).reshape(16, 24) * 7 % 251).astype("u2")


def v3(rng, folder):
    from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

    codecs = [GzipCodec(), ZstdCodec(), ZstdCodec(checksum=True), BloscCodec(), BloscCodec(cname="zstd"), Crc32cCodec()]
    chosen = [rng.choice(codecs)] if rng.random() < 0.7 else rng.sample(codecs, 2) if rng.random() < 0.5 else None
    shards = {"shards": (8, 24)} if rng.random() < 0.4 else {}
    plain(folder, image(), chunks=(8, 12) if not shards else (4, 12), compressors=chosen, **shards)


def v2(rng, folder):
    import numcodecs

    compressors = [numcodecs.Zlib(), numcodecs.GZip(), numcodecs.BZ2(), numcodecs.LZ4(), numcodecs.Zstd(), None]
    compressors += [numcodecs.Blosc("lz4"), numcodecs.Blosc("zlib", 5, 2)]
    filters = [
        None,
        None,
        [numcodecs.Delta("<u2")],
        [numcodecs.Shuffle(2)],
        [numcodecs.FixedScaleOffset(0, 1, "<u2", "<u2")],
    ]
    filters += [[numcodecs.Delta("<u2", "<i4"), numcodecs.Shuffle(4)], [numcodecs.CRC32C()]]
    options = {"compressors": rng.choice(compressors), "filters": rng.choice(filters), "order": rng.choice("CF")}
    plain(folder, image(), version=2, chunks=(8, 12), **options)


def groups(rng, folder):
    data = image()
    version = rng.choice(("0.4", "0.5"))
    ome(folder, [data, data[::2, ::2]], "yx", version, labels=(), units="micrometer", chunks=(8, 12))


def changed(rng, folder, names, mutate):
    """Mutate one of the files of a folder."""
    path = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file() and names(path.name)))
    path.write_bytes(mutate(rng, path.read_bytes()))


def metadata_of_v3(rng, folder):
    v3(rng, folder)
    changed(rng, folder, lambda name: name == "zarr.json", mutated_json)


def metadata_of_v2(rng, folder):
    v2(rng, folder)
    if rng.random() < 0.3:
        (folder / ".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["y", "x"], "_FillValue": 3, "scale_factor": 0.5}')
    changed(rng, folder, lambda name: name in (".zarray", ".zattrs"), mutated_json)


def ome_metadata(rng, folder):
    groups(rng, folder)
    changed(rng, folder, lambda name: name in ("zarr.json", ".zattrs", ".zgroup", ".zarray"), mutated_json)


def chunks(rng, folder):
    rng.choice((v2, v3))(rng, folder)
    changed(rng, folder, lambda name: name[0] not in "z.", mutated_bytes)


def shards(rng, folder):
    from zarr.codecs import BloscCodec, ZstdCodec

    compressors = [None, [ZstdCodec()], [BloscCodec()]]
    plain(folder, image(), chunks=(4, 12), shards=(8, 24), compressors=rng.choice(compressors))
    mend = with_checksum if rng.random() < 0.7 else bytes
    changed(rng, folder, lambda name: name[0] not in "z.", lambda rng, data: mend(mutated_bytes(rng, data)))


def zips(rng, folder):
    rng.choice((v2, v3, groups))(rng, folder / "a")
    path = folder / "a.zip"
    with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as file:
        for each in sorted((folder / "a").rglob("*")):
            if each.is_file():
                file.write(each, each.relative_to(folder / "a").as_posix())
    shutil.rmtree(folder / "a")
    path.write_bytes(mutated_bytes(rng, path.read_bytes()))


def fields(rng, folder):
    field = np.zeros((2, 16, 24), "f4")
    folder.mkdir(parents=True)
    if rng.random() < 0.5:
        np.save(folder / "f.npy", field)
    else:
        rng.choice((np.savez, np.savez_compressed))(folder / "f.npz", field=field)
    changed(rng, folder, bool, mutated_bytes)


def transforms(rng, folder):
    folder.mkdir(parents=True)
    document = rng.choice(
        (
            {"kind": "translation", "offset": [1.5, -2.0]},
            {"kind": "affine", "matrix": [[1, 0], [0, 1]], "offset": [0, 1]},
            {"kind": "displacement", "field": [[[0.0, 1.0]] * 2] * 2, "step": [9, 9], "origin": [0, 0]},
        )
    )
    (folder / "t.json").write_bytes(mutated_json(rng, json.dumps(document).encode()))


def footprints(rng, folder):
    folder.mkdir(parents=True)
    (folder / "w.csv").write_bytes(mutated_bytes(rng, b"0,1,0\n1,2,1\n0,1,0\n"))


CONFIG = """\
reference: {url: a.zarr, nodata: [0, 3], storage: &there {anonymous: true}}
moving:
  url: "b.zarr"
  storage: *there
output: {url: out, region: "0:8,0:12"}
window: {size: [7, 9], border: reflect, flat: .nan}
registration: {model: none}
cluster: {kind: slurm, workers: 2, options: {walltime: 4:00:00, cores: 1}}
engine: {memory: 1GB, threads: 2}
"""
PIECES = [
    "&a ", "*a", "*there", "<<: *there", "!!binary ", "!!python/object:os.system ", "[", "{", "}", ": ", "- ", "? ",
    "|\n", "2001-99-99", "0b_", "1" * 5000, "\t", "\0", "---\n", "%", "@", "[" * 3000, ".inf", "~", "\u2028", "'", "#",
]  # fmt: skip


def configs(rng, folder):
    folder.mkdir(parents=True)
    text = CONFIG
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(text))
        lines = text.splitlines(keepends=True)
        if rng.random() < 0.3:
            lines.insert(rng.randrange(len(lines)), rng.choice(lines))
            text = "".join(lines)
        elif rng.random() < 0.7:
            text = text[:at] + rng.choice(PIECES) + text[at + rng.choice((0, 0, 1, 5)) :]
        else:
            text = mutated_bytes(rng, text.encode()).decode("utf-8", "replace")
        text = text or " "
    (folder / "c.yaml").write_text(text, encoding="utf-8")


KINDS = {
    "zarr.json": metadata_of_v3,
    ".zarray": metadata_of_v2,
    "OME metadata": ome_metadata,
    "chunks": chunks,
    "shards": shards,
    "zip files": zips,
    "fields": fields,
    "transforms": transforms,
    "footprints": footprints,
    "configs": configs,
}


# --- how it is read --------------------------------------------------------------------------------------------------


def everything(array):
    return np.asarray(array[tuple(slice(0, n) for n in array.shape)])


def corner(array):
    """Return all of an image, or as much as anybody reads at once."""
    return np.asarray(array[tuple(slice(0, min(n, 512)) for n in array.shape)])


def read(kind, folder):
    """Return what bigncc makes of a case, or a summary of it."""
    from bigncc import aperture, config, inputs, storage
    from bigncc.field import open_field

    if kind == "fields":
        return everything(open_field(next(folder.iterdir())))
    if kind == "transforms":
        from bigncc.transform import from_dict

        return from_dict(inputs._document(str(folder / "t.json")))
    if kind == "footprints":
        return aperture.open_footprint(str(folder / "w.csv"))
    if kind == "configs":
        return repr(config.load([str(folder / "c.yaml")]))[:10]
    place = folder / "a.zip" if kind == "zip files" else folder
    return corner(storage.open_image(place).array)


def plainly(kind, folder):
    """Return what the library that made the format reads, or None."""
    import zarr

    if kind == "fields":
        found = np.load(next(folder.iterdir()), allow_pickle=False)
        return found if isinstance(found, np.ndarray) else found[found.files[0]]
    place = folder / "a.zip" if kind == "zip files" else folder
    store = zarr.storage.ZipStore(place, mode="r") if kind == "zip files" else zarr.storage.LocalStore(place)
    node = zarr.open(store, mode="r", use_consolidated=False)
    if isinstance(node, zarr.Group):
        attributes = node.attrs.asdict()
        datasets = attributes.get("ome", attributes)["multiscales"][0]["datasets"]
        node = node[datasets[0]["path"]]
    return corner(node)


SENTENCES = ("accepted", "cannot be read", "not valid", "is missing", "input should", "at least", "at most")
"""What a refusal has one of."""


def case(kind, seed, folder):
    """Make a case and return how it went: refused, right, a traceback, wrong."""
    from bigncc.errors import BignccError

    rng = random.Random(f"{kind} {seed}")
    shutil.rmtree(folder, ignore_errors=True)
    KINDS[kind](rng, folder)
    begun = time.perf_counter()
    try:
        found = read(kind, folder)
        outcome, said = "right", ""
    except BignccError as error:
        outcome, said = "refused", str(error)
        if not said.isprintable() or not any(word in said for word in SENTENCES):
            outcome = "no sentence"
    except BaseException:
        outcome, said = "traceback", traceback.format_exc()[-1500:]
    took = time.perf_counter() - begun
    if outcome == "right" and isinstance(found, np.ndarray):
        try:
            other = plainly(kind, folder)
            same = other.shape == found.shape and np.array_equal(
                other.astype(found.dtype), found, equal_nan=other.dtype.kind == "f"
            )
            outcome = "right" if same else "wrong"
        except BaseException as error:
            outcome, said = "wrong", f"only bigncc reads it: {error!r}"[:500]
    return {"kind": kind, "seed": seed, "outcome": outcome, "seconds": took, "said": said}


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def say(row):
    sys.stdout.write(f"{json.dumps(row)}\n")
    sys.stdout.flush()


def main(kind, first, count, folder):
    """Read `count` cases and say how each went."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    for seed in range(first, first + count):
        say({"begun": seed})
        row = case(kind, seed, Path(folder) / "case")
        say({**row, "peak": peak()})


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
