"""The main job on a real pair: two views of a scene, and the displacement between them that was measured.

The images are the Middlebury 2014 "Motorcycle" stereo pair that scikit-image ships. Seen as they are, left and right
agree nearly nowhere; pulled through the measured disparity the right image agrees with the left one but where it
cannot see what the left one sees.
"""

import io
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bigncc import pipeline, report, storage, store
from bigncc.config import load
from bigncc.errors import InputError, RefusedError
from bigncc.inputs import headline
from bigncc.output import write_image

WINDOW = 9

_JOB = """\
# {title}

reference: {{url: {folder}/left.ome.zarr, channel: grey}}
moving: {{url: {folder}/right.ome.zarr, channel: grey}}
output: {{url: {folder}/{name}.ome.zarr}}

window:
  size: {window}

registration:
  {registration}
"""

_JOBS = {
    "as-is": ("left and right view as they are", "model: none"),
    "registered": (
        "the right view pulled through the measured disparity",
        "displacement: {{url: {folder}/displacement.npy}}",
    ),
}

_OTHER = "{path} is not what an earlier demo left there: a folder without it is accepted"


def run(folder: str) -> Iterator[str]:
    """Write the pair and two jobs to `folder`, run both, draw both; yield what happens, line by line."""
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{place} cannot be made ({error.strerror}): a folder in a place that can be written is accepted"
        raise InputError(message) from None
    _write_pair(place)
    jobs = {name: place / f"{name}.yaml" for name in _JOBS}
    for name, path in jobs.items():
        _put(path, job(name, folder).encode())
    yield f"left and right view of a scene, 500 x 741 pixels, in {place}; window {WINDOW} x {WINDOW}"
    for path in jobs.values():
        config = load([str(path)])
        result = pipeline.run(config)
        yield f"{path.stem:>10}: mean NCC {result.summary.mean:.2f} ({headline(config)})"
    picture = place / "demo.png"
    report.draw([pipeline.panel(str(place / f"{name}.ome.zarr")) for name in jobs], picture)
    yield f"picture: {picture}"
    yield f"result:  {place}/registered.ome.zarr"
    yield "next, with your own pair of Zarr images of one shape:"
    yield "  bigncc run REFERENCE.zarr MOVING.zarr OUT.ome.zarr --window 15 --as-is"
    yield f"  bigncc report {shlex.quote(str(place / 'registered.ome.zarr'))}    # the picture of one result"
    yield f"  bigncc plan {shlex.quote(str(jobs['registered']))}    # what a run takes, and how a job is written"


def _write_pair(place: Path) -> None:
    from skimage.data import stereo_motorcycle

    left, right, disparity = stereo_motorcycle()
    for name, image in (("left", left), ("right", right)):
        path, samples = place / f"{name}.ome.zarr", np.moveaxis(image, -1, 0)
        if not path.exists():
            write_image(str(path), samples, ("c", "y", "x"), name)
        elif not np.array_equal(storage.open_image(path).array[tuple(slice(0, n) for n in samples.shape)], samples):
            raise RefusedError(_OTHER.format(path=path))
    # what lies at x on the left lies at x - disparity on the right; where it is infinite nobody measured it
    field = io.BytesIO()
    np.save(field, np.stack([np.zeros_like(disparity), -disparity]))
    _put(place / "displacement.npy", field.getvalue())


def job(name: str, folder: str) -> str:
    """Return the YAML of the job "as-is" or "registered" on the pair in `folder`."""
    title, registration = _JOBS[name]
    way = registration.format(folder=folder)
    return _JOB.format(title=title, folder=folder, name=name, window=WINDOW, registration=way)


def _put(path: Path, data: bytes) -> None:
    """Write a file of the demo, unless it is there already."""
    if not store.put_if_absent(path, data) and path.read_bytes() != data:
        raise RefusedError(_OTHER.format(path=path))
