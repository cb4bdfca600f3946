"""The layers of a result, opened: both images, confidence and status, none of them read before somebody looks at it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bigncc import proof, store
from bigncc.decision import reopened
from bigncc.encoding import of_array, values_of
from bigncc.errors import InputError
from bigncc.inputs import ROLES, Inputs, pair_of
from bigncc.metadata import place_of
from bigncc.output import Output, open_output
from bigncc.pair import Pair
from bigncc.pulled import Pulled, inverse
from bigncc.reading import Decoded
from bigncc.scene import Kind, Layer, Rows, Scene, frame_of, metric, placed
from bigncc.storage import Image, readable
from bigncc.streamed import EMPTY, KEPT, MOST, Streamed, factors, streamed
from bigncc.transform import Affine, Translation

SERVED = ("http://", "https://", "s3://", "gs://")
"""Addresses that a viewer in a browser opens."""

SAMPLED = 1024
"""Side of the part of an image whose grey levels say what is black and white."""

LEGEND = "legend"
"""Where the words of the status are."""


@dataclass(frozen=True)
class Display:
    """What is looked at: the scene, its layers by their paths, and what cannot be shown."""

    scene: Scene
    streams: dict[str, Streamed]
    notes: tuple[str, ...] = ()


def displayed(url: str | os.PathLike[str]) -> Display:
    """Open the layers of a result, finished or not.

    Raises
    ------
    InputError
        If there is no output of bigncc, or nothing of it has been computed.
    """
    output = _begun(url)
    layout, notes = output.layout, []
    found: list[tuple[Layer, Streamed]] = []
    try:
        inputs = reopened(output.attributes)
    except InputError as error:
        notes.append(f"the images are not shown: {error}")
    else:
        found += [_reference(output, inputs), _moving(output, inputs)]
    kinds: dict[str, Kind] = {"ncc": "confidence", "status": "status"}
    for name, kind in kinds.items():
        arrays = [values_of(array, readable(array)) for array in (output.level(k)[name] for k in _levels(output))]
        matrix = placed(layout, layout.scale, layout.translation)
        layer = Layer(kind, kind, kind, matrix, legend=LEGEND if kind == "status" else "")
        found.append((layer, streamed(layout.axes, arrays)))
    notes += [_unseen(stream, layer.name) for layer, stream in found if stream.blank]
    scene = Scene(frame_of(layout), tuple(layer for layer, _ in found))
    return Display(scene, {layer.path: stream for layer, stream in found}, tuple(notes))


def hosted(url: str | os.PathLike[str]) -> tuple[Scene, tuple[str, ...]]:
    """Return a result as it is looked at where its folder is hosted, and what cannot be shown there.

    The images are shown if they lie beside or below the result's own folder, or at a web address, and as they are
    stored there: whole, and moved by no more than a transform that has a matrix.
    """
    output = _begun(url)
    layout, notes = output.layout, []
    folder, _, name = output.url.rpartition("/")
    zarr = 3 if layout.version == "0.5" else 2
    layers: list[Layer] = []
    try:
        inputs = reopened(output.attributes)
    except InputError as error:
        notes.append(f"the images are not shown: {error}")
    else:
        for role in ("reference", "moving"):
            layer = _hosted(output, inputs, role, folder)
            if isinstance(layer, str):
                notes.append(f"{role} is not shown: {layer}")
            else:
                layers.append(layer)
    frame = frame_of(layout)
    own = placed(layout, layout.scale, layout.translation, first=frame.origin)
    coded = of_array(output.level(output.levels[0])["ncc"])
    layers.append(Layer("confidence", "confidence", name, own, frame.scale, zarr, encoding=coded))
    layers.append(Layer("status", "status", f"{name}/labels/status", own, frame.scale, zarr))
    return Scene(frame, tuple(layers)), tuple(notes)


def _begun(url: str | os.PathLike[str]) -> Output:
    place = store.absolute(url)
    output = open_output(place)
    if output.attributes["state"] != "complete" and not proof.status(place)["tiles"]["done"]:
        message = f"{place} has no tile yet: an output of which something has been computed is accepted"
        raise InputError(message)
    return output


def _levels(output: Output) -> tuple[int, ...]:
    """Return the levels that are shown: of an unfinished result the finest, as the others may not be there yet."""
    height, width = output.layout.shape[-2:]
    whole = output.attributes["state"] == "complete" or height * width > MOST
    return output.levels if whole else output.levels[:1]


def _reference(output: Output, inputs: Inputs) -> tuple[Layer, Streamed]:
    image, arrays = inputs.reference, _arrays(inputs, "reference")
    matrix = placed(output.layout, image.scale, image.translation)
    return _grey("reference", matrix, image, arrays, streamed(image.axes, arrays))


def _moving(output: Output, inputs: Inputs) -> tuple[Layer, Streamed]:
    """Return the moving image, in its own pixels where the viewer can place these, else pulled as the run does it."""
    image, reference, transform = inputs.moving, inputs.reference, inputs.transform
    arrays = _arrays(inputs, "moving")
    if transform is None or isinstance(transform, (Translation, Affine)):
        pixels = inverse(transform, inputs.ndim)
        matrix = placed(output.layout, reference.scale, reference.translation, pixels=pixels)
        return _grey("moving", matrix, image, arrays, streamed(image.axes, arrays))
    n, order, pair = transform.ndim, inputs.config.registration.order, pair_of(inputs, KEPT)
    pulled = [Pulled(pair, transform, order, (1.0,) * n)]
    for each in arrays[1:]:
        if each.shape[:-n] == arrays[0].shape[:-n]:  # or an item of it is something else
            coarse = Pair(reference.array, Decoded(each, KEPT))
            pulled.append(Pulled(coarse, transform, order, factors(arrays[0].shape, each.shape)[-n:]))
    matrix = placed(output.layout, reference.scale, reference.translation)
    return _grey("moving", matrix, image, arrays, streamed(reference.axes, pulled))


def _arrays(inputs: Inputs, role: Literal["reference", "moving"]) -> list[Any]:
    """Return the levels of an image, finest first."""
    if (one := inputs.stack) is not None:
        levels = [one.whole.array, *(each for each in one.whole.coarser if each.shape[one.axis] == one.sections)]
        return [one.roles(level)[ROLES.index(role)] for level in levels]
    image: Image = getattr(inputs, role)
    return [image.array, *image.coarser]


def _grey(name: str, matrix: Rows, image: Image, arrays: Sequence[Any], stream: Streamed) -> tuple[Layer, Streamed]:
    return Layer(name, "image", name, matrix, window=_window(image.axes, arrays)), stream


def _window(axes: tuple[str, ...], arrays: Sequence[Any]) -> tuple[float, float]:
    """Return the grey levels that are black and white, by the middle of a level that is not too small."""
    array = next((each for each in reversed(arrays) if max(each.shape[-2:]) >= SAMPLED // 4), arrays[0])
    roi = []
    for name, n in zip(axes, array.shape, strict=True):
        side = min(n, SAMPLED) if name in ("y", "x") else 1
        start = 0 if name in ("c", "t") else (n - side) // 2
        roi.append(slice(start, start + side))
    samples = array[tuple(roi)]
    there = samples[np.isfinite(samples)]
    low, high = np.percentile(there, (0.5, 99.5)).tolist() if there.size else (0.0, 1.0)
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))


def _hosted(output: Output, inputs: Inputs, role: Literal["reference", "moving"], folder: str) -> Layer | str:
    """Return an image as it is stored, or why a viewer cannot show it."""
    image: Image = getattr(inputs, role)
    transform = None if role == "reference" else inputs.transform
    if inputs.stack is not None:
        return "it is made of a stack"
    if not (transform is None or isinstance(transform, (Translation, Affine))):
        return "a viewer does not pull it through a displacement field"
    if image.level or any(of != slice(0, n) for of, n in zip(image.array.picks, image.array.array.shape, strict=True)):
        return "it is a choice of what is stored"
    inside = image.url.startswith(f"{folder}/") and Path(image.url).is_dir() if store.is_local(image.url) else False
    if not inside and not image.url.startswith(SERVED):
        return f"{image.url} is not beside the result"
    array = image.array.array
    zarr = array.metadata.zarr_format
    # an array alone is opened without a place, and its pixel 0 reaches from 0 to 1
    pyramid = place_of(array) != image.url
    first = tuple(t / s for t, s in zip(image.translation, image.scale, strict=True)) if pyramid else 0.5
    scale = tuple(s * metric(unit)[0] for s, unit in zip(image.scale, image.units, strict=True)) if pyramid else ()
    reference = inputs.reference
    matrix = placed(
        output.layout, reference.scale, reference.translation, pixels=inverse(transform, inputs.ndim), first=first
    )
    path = image.url.removeprefix(f"{folder}/") if inside else image.url
    return Layer(role, "image", path, matrix, scale, zarr, window=_window(image.axes, [image.array, *image.coarser]))


def _unseen(stream: Streamed, name: str) -> str:
    """Say from where on a layer can be seen whose overview is not stored."""
    most = stream.levels[-2].factor[-1] * EMPTY / 2
    return f"{name} has no small level: it is seen where a pixel of the screen shows up to {most:.0f} of its pixels"
