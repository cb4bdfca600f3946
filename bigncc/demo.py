"""The main job on a real pair: two views of a scene, and the displacement between them that was measured.

The images are the Middlebury 2014 "Motorcycle" stereo pair that scikit-image ships. Seen as they are, left and right
agree nearly nowhere; pulled through the measured disparity the right image agrees with the left one but where it
cannot see what the left one sees.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bigncc import pipeline, report, storage
from bigncc.config import Config, load

WINDOW = 9

_JOB = """\
# {title}
reference: {{url: {folder}/left.ome.zarr, channel: grey}}
moving: {{url: {folder}/right.ome.zarr, channel: grey}}
output: {{url: {folder}/{name}.ome.zarr}}
window: {{size: {window}}}
registration: {registration}
"""


def run(folder: str) -> Iterator[str]:
    """Write the pair and two jobs to `folder`, run both, draw both; yield what happens, line by line."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    _write_pair(place)
    jobs = {
        "as-is": _job(place, "as-is", "left and right as they are", "{model: none}"),
        "registered": _job(
            place,
            "registered",
            "right pulled through the measured disparity",
            f"{{displacement: {{url: {place}/displacement.npy}}}}",
        ),
    }
    yield f"left and right view of a scene, 500 x 741 pixels, in {place}; window {WINDOW} x {WINDOW}"
    for path in jobs.values():
        config = load([str(path)])
        result = pipeline.run(config)
        yield f"{path.stem:>10}: mean NCC {result.summary.mean:.2f} ({pipeline.headline(config)})"
    picture = place / "demo.png"
    report.draw([pipeline.panel(_output(load([str(path)]))) for path in jobs.values()], picture)
    yield f"picture: {picture}"
    yield f"result:  {place}/registered.ome.zarr"
    yield "next, with your own pair of Zarr images of one shape:"
    yield "  bigncc run REFERENCE.zarr MOVING.zarr OUT.ome.zarr --window 15 --as-is"
    yield f"  bigncc report {shlex.quote(str(place / 'registered.ome.zarr'))}    # the picture of one result"
    yield f"  bigncc plan {shlex.quote(str(jobs['registered']))}    # what a run takes, and how a job is written"


def _output(config: Config) -> str:
    return config.output.url


def _write_pair(place: Path) -> None:
    from skimage.data import stereo_motorcycle

    left, right, disparity = stereo_motorcycle()
    for name, image in (("left", left), ("right", right)):
        storage.write_image(str(place / f"{name}.ome.zarr"), np.moveaxis(image, -1, 0), ("c", "y", "x"), name)
    # what lies at x on the left lies at x - disparity on the right; where it is infinite nobody measured it
    field = np.stack([np.zeros_like(disparity), -disparity])
    np.save(place / "displacement.npy", field)


def _job(place: Path, name: str, title: str, registration: str) -> Path:
    path = place / f"{name}.yaml"
    text = _JOB.format(title=title, folder=place, name=name, window=WINDOW, registration=registration)
    path.write_text(text, encoding="utf-8")
    return path
