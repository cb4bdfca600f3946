"""The main job on a real pair: two views of a scene and the displacement between them, or two photographs.

The images of the demo are the Middlebury 2014 "Motorcycle" stereo pair that scikit-image ships. Seen as they are, left
and right agree nearly nowhere; pulled through the measured disparity the right image agrees with the left one but where
it cannot see what the left one sees.
"""

import io
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc import pipeline, report, storage, store
from bigncc.arrays import register
from bigncc.config import load
from bigncc.errors import InputError, RefusedError, RegistrationError
from bigncc.metadata import in_one_line
from bigncc.output import write_image

WINDOW = 9

JOB = """\
# {title}

reference: {{url: {folder}/{reference}.ome.zarr{channel}}}
moving: {{url: {folder}/{moving}.ome.zarr{channel}}}
output: {{url: {folder}/{name}.ome.zarr}}

window:
  size: {window}

registration:
  {registration}
"""

_AS_IS = "model: none"
_FIELD = "displacement: {{url: {folder}/displacement.npy}}"
_OTHER = "{path} is not what an earlier demo left there: a folder without it is accepted"


def run(folder: str) -> Iterator[str]:
    """Write the stereo pair and two jobs to `folder`, run both, draw both; yield what happens, line by line.

    Raises
    ------
    BignccError
        If the folder cannot be written, or holds something else by one of these names.
    """
    from skimage.data import stereo_motorcycle

    place = _made(folder)
    left, right, disparity = stereo_motorcycle()
    for name, image in (("left", left), ("right", right)):
        _put_image(place / f"{name}.ome.zarr", np.moveaxis(image, -1, 0), ("c", "y", "x"), name)
    # what lies at x on the left lies at x - disparity on the right; where it is infinite nobody measured it
    _put_field(place, np.stack([np.zeros_like(disparity), -disparity]))
    yield f"left and right view of a scene, 500 x 741 pixels, in {place}; window {WINDOW} x {WINDOW}"
    yield from _results(folder, {name: stereo_job(name, folder) for name in ("as-is", "registered")})
    yield "next, with your own pair of Zarr images:"
    yield "  bigncc run REFERENCE.zarr MOVING.zarr OUT.ome.zarr --window 15"
    yield f"  bigncc report {shlex.quote(f'{place}/registered.ome.zarr')}    # the picture of one result"
    yield f"  bigncc plan {shlex.quote(f'{place}/registered.yaml')}    # what a run takes, and how a job is written"


def run_photos(folder: str, reference: str, moving: str) -> Iterator[str]:
    """Do with two pictures (PNG, JPEG, TIFF) what `run` does with the stereo pair.

    Both are made grey and cropped to a common size. They are registered by a translation where they agree on one, else
    by the optical flow of scikit-image, which says for each pixel where the moving image has it.

    Raises
    ------
    BignccError
        If a picture cannot be read, or as for `run`.
    """
    from skimage.registration import optical_flow_ilk

    pictures = [_grey(path) for path in (reference, moving)]
    shape = tuple(map(min, *(picture.shape for picture in pictures)))
    first, second = (picture[: shape[0], : shape[1]] for picture in pictures)
    if min(shape) < WINDOW:
        message = (
            f"{reference} and {moving} have {shape[0]} x {shape[1]} pixels in common: {WINDOW} x {WINDOW} are accepted"
        )
        raise InputError(message)
    place = _made(folder)
    for name, image in (("reference", first), ("moving", second)):
        _put_image(place / f"{name}.ome.zarr", image, ("y", "x"), name)
    sizes = " and ".join(" x ".join(map(str, picture.shape)) for picture in pictures)
    cropped = "" if all(p.shape == shape for p in pictures) else f", of {sizes} pixels, cropped to their common size"
    yield f"{reference} and {moving} in grey{cropped}: {shape[0]} x {shape[1]} pixels; window {WINDOW} x {WINDOW}"
    way = "model: translation"
    try:
        register(first, second)
    except RegistrationError as error:
        way = _FIELD
        yield f"{error.reason}: the optical flow of scikit-image instead"
        _put_field(place, optical_flow_ilk(first, second, dtype=np.float32))
    pair = {"reference": "reference", "moving": "moving", "channel": ""}
    yield from _results(
        folder,
        {
            "as-is": _job("as-is", folder, "two pictures as they are", _AS_IS, **pair),
            "registered": _job("registered", folder, "the moving picture registered", way, **pair),
        },
    )


def stereo_job(name: str, folder: str) -> str:
    """Return the YAML of the job "as-is" or "registered" on the stereo pair in `folder`."""
    title, way = {
        "as-is": ("left and right view as they are", _AS_IS),
        "registered": ("the right view pulled through the measured disparity", _FIELD),
    }[name]
    return _job(name, folder, title, way, reference="left", moving="right", channel=", channel: grey")


def _job(name: str, folder: str, title: str, way: str, **pair: str) -> str:
    registration = way.format(folder=folder)
    return JOB.format(title=title, folder=folder, name=name, window=WINDOW, registration=registration, **pair)


def _results(folder: str, jobs: dict[str, str]) -> Iterator[str]:
    """Run jobs, draw them."""
    place = Path(folder)
    report.check_ours(picture := place / "demo.png")  # before anything is computed for it
    paths = {name: place / f"{name}.yaml" for name in jobs}
    for name, path in paths.items():
        _put(path, jobs[name].encode())
    for name, path in paths.items():
        result = pipeline.run(load([str(path)]))
        yield f"{name:>10}: mean NCC {result.summary.mean:.2f} ({result.headline})"
    report.draw([pipeline.panel(str(place / f"{name}.ome.zarr")) for name in jobs], picture)
    yield f"picture: {picture}"
    yield f"result:  {place}/registered.ome.zarr"


def _made(folder: str) -> Path:
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{place} cannot be made ({error.strerror}): a folder in a place that can be written is accepted"
        raise InputError(message) from None
    return place


def _grey(path: str) -> NDArray[Any]:
    """Read a picture as grey levels, ``[y, x]``."""
    from skimage.io import imread

    if not Path(path).is_file():
        what = "is no file" if Path(path).exists() else "does not exist"
        message = f"{path} {what}: a PNG, JPEG or TIFF is accepted"
        raise InputError(message)
    try:
        picture = np.asarray(imread(path))
    except Exception as error:  # each format has its own exceptions
        message = f"{path} cannot be read ({in_one_line(error)}): a PNG, JPEG or TIFF is accepted"
        raise InputError(message) from error
    if picture.ndim == 3 and picture.shape[-1] == 2:  # grey and opacity
        picture = picture[..., 0]
    if picture.ndim == 3 and picture.shape[-1] in (3, 4):
        picture = storage.grey(np.moveaxis(picture[..., :3], -1, 0))
    if picture.ndim != 2 or picture.dtype.kind not in "buif" or 0 in picture.shape:
        message = f"{path} has shape {list(picture.shape)} and dtype {picture.dtype}: a grey or RGB picture is accepted"
        raise InputError(message)
    return picture.astype(np.uint8) * np.uint8(255) if picture.dtype.kind == "b" else picture


def _put_image(path: Path, samples: NDArray[Any], axes: tuple[str, ...], name: str) -> None:
    """Write an image of the demo, unless it is there already."""
    if not path.exists():
        write_image(str(path), samples, axes, name)
        return
    there = storage.open_image(path).array
    if there.shape != samples.shape or not np.array_equal(there[tuple(slice(0, n) for n in there.shape)], samples):
        raise RefusedError(_OTHER.format(path=path))


def _put_field(place: Path, field: NDArray[Any]) -> None:
    file = io.BytesIO()
    np.save(file, field)
    _put(place / "displacement.npy", file.getvalue())


def _put(path: Path, data: bytes) -> None:
    """Write a file of the demo, unless it is there already."""
    if not store.put_if_absent(path, data) and path.read_bytes() != data:
        raise RefusedError(_OTHER.format(path=path))
