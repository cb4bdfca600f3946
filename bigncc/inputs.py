"""What a config names: both images opened and checked, how they are registered, and what makes a request the same."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bigncc import kernel, storage, transform
from bigncc.config import Config, ImageConfig
from bigncc.errors import InputError, RegistrationError
from bigncc.field import open_field
from bigncc.grids import check_pair, check_scales
from bigncc.journal import plain
from bigncc.kernel import Pivots
from bigncc.masks import leaves_out, nodata_of, open_mask, validity_of
from bigncc.nodes import check_fits
from bigncc.pair import Pair, from_storage, on_threads, seen
from bigncc.reading import Decoded
from bigncc.registration import Registration, residual, translation
from bigncc.storage import Image
from bigncc.store import absolute, digest, get
from bigncc.tiles import Shape
from bigncc.transform import Displacement, Transform, Translation, shift_in_words
from bigncc.watch import Watched
from bigncc.window import check_shapes


@dataclass(frozen=True)
class Inputs:
    """Both images, opened and checked, and how they are to be correlated.

    Parameters
    ----------
    config : Config
        What was asked.
    reference, moving : Image
        The pair.
    given : Transform or None
        A transform that the config names.
    notes : tuple of str
        What a person should know of the pair.
    registration : Registration or None
        The estimate, once there is one; with ``model=none`` it is reported and not applied.
    unknown : str
        Why there is no estimate, with ``model=none``.
    """

    config: Config
    reference: Image
    moving: Image
    given: Transform | None
    notes: tuple[str, ...]
    registration: Registration | None = None
    unknown: str = ""

    @property
    def ndim(self) -> int:
        """Number of windowed axes, which is that of the transform."""
        return self.config.window.window().ndim

    @property
    def pulled(self) -> bool:
        """Whether the moving image is pulled through a transform, known by now or not."""
        return self.config.registration.model != "none"

    @property
    def transform(self) -> Transform | None:
        """From reference pixel to moving pixel; None where the images are correlated as they are stored."""
        if self.given is None and self.pulled and self.registration is not None:
            return self.registration.transform
        return self.given

    @property
    def sources(self) -> dict[str, Watched]:
        """The stores that the images are read from."""
        images = {"reference": self.reference, "moving": self.moving}
        return {name: image.array.source for name, image in images.items() if image.array.source is not None}

    @property
    def leaves_out(self) -> bool:
        """Whether samples of an image may not count for another reason than being NaN or infinite."""
        return leaves_out(self.config.reference, self.reference) or leaves_out(self.config.moving, self.moving)

    @property
    def origin(self) -> Shape:
        """Where the output begins on the reference's grid."""
        region = self.config.output.region
        batch = len(self.reference.axes) - self.ndim
        return (0,) * batch + tuple(a for a, _ in region) if region else (0,) * len(self.reference.axes)

    @property
    def shape(self) -> Shape:
        """Extent of the output."""
        region, extent = self.config.output.region, self.reference.array.shape
        return extent[: len(extent) - len(region)] + tuple(b - a for a, b in region) if region else extent

    @property
    def search(self) -> tuple[Shape, Shape]:
        """Of a shift map, pixels between nodes and pixels searched along the windowed axes; nothing without one."""
        config = self.config
        return config.shift.search(config.window.window()) if "shift" in config.maps else ((), ())

    @property
    def channel_axis(self) -> int | None:
        """The axis of channels, if they are a batch."""
        return self.reference.axes.index("c") if "c" in self.reference.axes else None


def open_inputs(config: Config) -> Inputs:
    """Open and check what a config names.

    Raises
    ------
    InputError
        If an image, a mask or a transform cannot be read or does not fit the rest.
    """
    window = config.window.window()
    reference, moving = (
        storage.open_image(
            section.url,
            level=section.level,
            channel=section.channel,
            time=section.time,
            z=section.z,
            # what is no data is read as fill and left out by its validity
            missing_chunks="error" if section.missing_chunks == "error" else "fill",
            storage_options=section.storage.model_dump(),
        )
        for section in (config.reference, config.moving)
    )
    given = given_transform(config)
    same_grid = config.registration.model == "none"
    notes = check_pair(reference, moving, same_grid=same_grid)
    if config.registration.model == "translation":
        notes += check_scales(reference, moving)
    if config.registration.model is not None and (item := _item(reference, window.ndim)):
        notes.append(f"the shift is measured on {', '.join(f'{axis} {i}' for axis, i in item.items())}, for all")
    for image in (reference, moving):
        spatial = image.axes[-window.ndim :]
        if not set(spatial) <= {"z", "y", "x"} or len(spatial) < window.ndim:
            accepted = "y, x" if window.ndim == 2 else "z, y, x"
            message = (
                f"{image.url or 'the image'} has axes {', '.join(image.axes)}: "
                f"{accepted} at the end are accepted with window.size={list(window.shape)}"
            )
            raise InputError(message)
    check_shapes(reference.array.shape, moving.array.shape, window, same_shape=same_grid, named=True)
    kernel.common_dtype(reference.array.dtype, moving.array.dtype)
    if given is not None and given.ndim != window.ndim:
        message = f"the transform has {given.ndim} axes: {window.ndim} are accepted, as many as window.size has"
        raise InputError(message)
    _check_region(config, reference.array.shape, window.ndim)
    notes += _check_samples("reference", config.reference, reference, window.ndim)
    notes += _check_samples("moving", config.moving, moving, window.ndim)
    inputs = Inputs(config, reference, moving, given, tuple(notes))
    _check_maps(inputs)
    return inputs


def _check_maps(inputs: Inputs) -> None:
    """Refuse further maps that would say nothing."""
    given = inputs.given
    nothing = isinstance(given, Translation) and not any(given.offset)
    if "gain" in inputs.config.maps and (nothing or not inputs.pulled):
        how = "a transform that moves nothing" if nothing else "registration.model=none (--as-is)"
        message = f"maps has gain and {how} leaves it 0 everywhere: a registration, or maps without gain, is accepted"
        raise InputError(message)
    if steps := inputs.search[0]:
        check_fits(inputs.shape[-inputs.ndim :], steps)


def _check_samples(name: str, section: ImageConfig, image: Image, ndim: int) -> list[str]:
    """Refuse a mask that does not fit; note what is left out without being asked for."""
    if section.mask is not None:
        open_mask(section, image, ndim)
    if section.nodata is not None or not image.nodata:
        return []
    levels = ", ".join(f"{level:.9g}" for level in image.nodata)
    return [f"samples of {levels} in {name} are left out, as its file says"]


def registered(inputs: Inputs, threads: int) -> Inputs:
    """Return the inputs with what is to be estimated: the translation, or with ``model=none`` the residual shift.

    Of several times and channels the first, and of a stack of planes the middle one is measured.

    Raises
    ------
    RegistrationError
        If the images agree on no translation, but for ``model=none``, where the reason is kept.
    """
    chosen = inputs.config.registration
    if chosen.model is None:
        return inputs
    pair = pair_of(inputs)
    reference = _plane(seen(pair.reference, pair.reference_validity), inputs.reference, inputs.ndim)
    moving = _plane(seen(pair.moving, pair.moving_validity), inputs.moving, inputs.ndim)
    coarser = _coarser(inputs, "reference"), _coarser(inputs, "moving")
    with on_threads(threads):
        if chosen.model == "translation":
            start = _start(inputs) if chosen.initial == "metadata" else None
            found = translation(reference, moving, coarser=coarser, start=start, upsample_factor=chosen.upsample_factor)
            return replace(inputs, registration=found)
        try:
            found = residual(reference, moving, coarser=coarser[0], upsample_factor=chosen.upsample_factor)
        except RegistrationError as error:
            return replace(inputs, unknown=error.reason)
    return replace(inputs, registration=found)


def _plane(array: Any, image: Image, ndim: int) -> Any:
    """Return the axes that are registered, of one batch item."""
    return array[tuple(_item(image, ndim, array.shape).values())]


def _item(image: Image, ndim: int, shape: Shape | None = None) -> dict[str, int]:
    """Return which time, channel and plane is registered, of an array of `shape` with the axes of `image`."""
    lengths = shape or image.array.shape
    return {name: n // 2 if name == "z" else 0 for name, n in zip(image.axes[:-ndim], lengths, strict=False)}


def _coarser(inputs: Inputs, which: Literal["reference", "moving"]) -> list[Any]:
    """Return the coarser levels; none where samples are left out, of which those know nothing."""
    image, section = getattr(inputs, which), getattr(inputs.config, which)
    if leaves_out(section, image):
        return []
    return [_plane(from_storage(level), image, inputs.ndim) for level in image.coarser]


def _start(inputs: Inputs) -> tuple[float, ...]:
    """Return the offset that scale and translation of both images mean, along the registered axes."""
    reference, moving = inputs.reference, inputs.moving
    if not (reference.calibrated and moving.calibrated):
        silent = "moving" if reference.calibrated else "reference"
        message = f"registration.initial is metadata and {silent} has neither scale nor translation: null is accepted"
        raise InputError(message)
    axes = zip(reference.translation, moving.translation, moving.scale, strict=True)
    return tuple((a - b) / s for a, b, s in axes)[-inputs.ndim :]


def headline(inputs: Inputs) -> str:
    """Say in one line what is done with the moving image."""
    chosen, found, given = inputs.config.registration, inputs.registration, inputs.given
    if chosen.displacement is not None:
        return f"moving image pulled through the displacement field {Path(chosen.displacement.url).name}"
    if isinstance(given, Displacement):
        return f"moving image pulled through the displacement field in {Path(chosen.transform or '').name}"
    if given is not None:
        return f"moving image shifted by {shift_in_words(given.offset)} pixels"
    if inputs.pulled:
        return f"moving image {found or 'to be shifted by a translation that is not estimated yet'}"
    if found is not None:
        return f"moving image correlated as it is stored; residual shift {found.measured} ({found.votes})"
    return f"moving image correlated as it is stored; residual shift unknown: {inputs.unknown or 'not measured yet'}"


def samples_of(image: Image) -> NDArray[Any]:
    """Read the image on a lattice of five points per axis, all channels: for its pivot and to know it again."""
    shape = image.array.shape
    axes = [
        tuple(range(n)) if name == "c" else points
        for name, n, points in zip(image.axes, shape, kernel.lattice(shape), strict=True)
    ]
    found = np.empty(tuple(map(len, axes)), image.array.dtype)
    for cell in np.ndindex(found.shape):
        point = tuple(slice(axis[i], axis[i] + 1) for axis, i in zip(axes, cell, strict=True))
        found[cell] = image.array[point].item()
    return found


def pivots(inputs: Inputs, samples: dict[str, NDArray[Any]]) -> list[Pivots]:
    """Return the pivots of each channel, or of the pair where channels are no batch."""
    axis = inputs.channel_axis
    first, second = samples["reference"], samples["moving"]
    if axis is None:
        return [(kernel.lattice_pivot(first), kernel.lattice_pivot(second))]
    return [
        (kernel.lattice_pivot(first.take(i, axis)), kernel.lattice_pivot(second.take(i, axis)))
        for i in range(first.shape[axis])
    ]


def request_of(inputs: Inputs, samples: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the science of a request: equal requests have equal results, whatever the machine and the paths."""
    config, ndim = inputs.config, inputs.ndim
    chosen = config.registration
    how: Any = chosen.model
    if chosen.displacement is not None:
        assert isinstance(inputs.given, Displacement)
        how = {"field": _digest(inputs.given.field), "grid": inputs.given.grid}
    elif inputs.given is not None:
        how = transform.to_dict(inputs.given)
    search = {"initial": chosen.initial, "upsample_factor": chosen.upsample_factor}
    request: dict[str, Any] = {
        "window": asdict(config.window.window()),
        "registration": {
            "transform": how,
            "order": chosen.order if inputs.pulled else None,
            **(search if chosen.model == "translation" else {}),
        },
        "output": {
            "chunks": config.output.chunks,
            "region": config.output.region,
            "shards": config.output.shards,
            "pyramid": config.output.pyramid,
            "finest_level": config.output.finest_level,
            "ome_version": config.output.ome_version,
        },
    }
    if config.maps != ("ncc",):  # as plans say it that know no other map
        steps, reach = inputs.search
        request |= {"maps": config.maps} | ({"shift": {"step": steps, "search_radius": reach}} if steps else {})
    for name, image, section in (
        ("reference", inputs.reference, config.reference),
        ("moving", inputs.moving, config.moving),
    ):
        mask, levels = section.mask, nodata_of(section, image)
        request[name] = {
            "metadata": image.digest,
            "samples": hashlib.sha256(samples[name].tobytes()).hexdigest(),
            "nodata": levels if len(levels) > 1 else next(iter(levels), None),
            "missing_chunks": section.missing_chunks,
            "mask": None if mask is None else [_digest(open_mask(section, image, ndim)[0]), mask.valid, mask.invalid],
        }
    return plain(request)  # type: ignore[no-any-return]


def pair_of(inputs: Inputs, capacity: int | None = None, at_once: int = 1) -> Pair:
    """Return the whole images lazily, with the validity that masks and nodata give.

    With a `capacity` in bytes they keep what they have decoded, `at_once` samples by one call, and are read on the
    grid of whatever block.
    """
    config = inputs.config
    images: list[Any] = [inputs.reference.array, inputs.moving.array]
    if capacity is not None:
        images = [Decoded(array, capacity // 2, at_once) for array in images]
    sections = (config.reference, inputs.reference), (config.moving, inputs.moving)
    flags = (validity_of(*both, inputs.ndim, array) for both, array in zip(sections, images, strict=True))
    return Pair(*(from_storage(array) if capacity is None else array for array in images), *flags)


def given_transform(config: Config) -> Transform | None:
    """Return the transform that a config names, or None where it names none."""
    chosen = config.registration
    if chosen.transform is not None:
        return transform.from_dict(_document(chosen.transform))
    if chosen.displacement is not None:
        field = open_field(chosen.displacement.url, components=chosen.displacement.components)
        return Displacement(field, step=chosen.displacement.step, origin=chosen.displacement.origin)
    return None


def _document(place: str) -> Any:
    """Return what a JSON file, at a path or an address, holds."""
    reason: Exception | str = "there is none"
    try:
        if (data := get(absolute(place))) is not None:
            return json.loads(data)
    except (OSError, ValueError) as error:
        reason = error
    message = f"registration.transform {place!r} cannot be read ({reason}): a JSON file is accepted"
    raise InputError(message)


def _check_region(config: Config, shape: Shape, ndim: int) -> None:
    region = config.output.region
    if region is None:
        return
    extent = shape[-ndim:]
    if len(region) != ndim or not all(0 <= a < b <= n for (a, b), n in zip(region, extent, strict=True)):
        text = ",".join(f"{a}:{b}" for a, b in region)
        message = f"output.region is {text}: {ndim} ranges inside of {list(extent)} are accepted"
        raise InputError(message)


def _digest(array: Any) -> str:
    """Return a digest of an array's shape, dtype and values."""
    head = f"{array.shape} {np.dtype(array.dtype).str}".encode()
    rows = max(1, 2**22 // max(1, math.prod(array.shape[2:])))
    slabs = product(range(array.shape[0]), range(0, array.shape[1], rows))
    rest = tuple(slice(0, n) for n in array.shape[2:])
    parts = (np.ascontiguousarray(array[(slice(i, i + 1), slice(j, j + rows), *rest)]).tobytes() for i, j in slabs)
    return digest(part for group in ([head], parts) for part in group)
