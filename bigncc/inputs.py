"""What a config names: both images opened and checked, how they are registered, and what makes a request the same."""

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import Any

from bigncc import aperture, documents, kernel, stack, storage, transform
from bigncc.config import Config
from bigncc.errors import InputError
from bigncc.field import open_field
from bigncc.fingerprint import digest_of
from bigncc.grids import check_pair, check_scales
from bigncc.journal import plain
from bigncc.lattice import Samples, samples_of
from bigncc.lazy import check_asked
from bigncc.maps import Asked, of_pixels, ranged
from bigncc.masks import Nearest, flags_of, leaves_out, nodata_of, open_mask, validity_of
from bigncc.nodes import check_fits
from bigncc.pair import Pair, PerItem, from_storage
from bigncc.reading import Decoded
from bigncc.registration import Registration
from bigncc.resampling import check_view
from bigncc.science import ImageConfig
from bigncc.stack import Match, Stack
from bigncc.storage import Image
from bigncc.store import absolute, digest, get
from bigncc.tiles import Shape, roi_of
from bigncc.transform import Affine, Displacement, Transform, Translation
from bigncc.watch import Watched
from bigncc.window import Window, check_box, check_shapes

ROLES = ("reference", "moving")

MASKED = 2
"""Bytes of a sample of a mask that is kept decoded: labels have more, and of another resolution there are fewer."""


@dataclass(frozen=True)
class Inputs:
    """Both images, opened and checked, and how they are to be correlated.

    Parameters
    ----------
    config : Config
        What was asked; the window's sizes are in pixels.
    windows : tuple of Window
        Which samples are correlated: for ncc those of the first.
    reference, moving : Image
        The pair.
    given : Transform or None
        A transform that the config names.
    notes : tuple of str
        What a person should know of the pair.
    guides : tuple of Image
        The pair as it is registered: of another channel, if the config says so.
    registration : Registration or None
        The estimate, once there is one; with ``model=none`` it is reported and not applied.
    unknown : str
        Why there is no estimate, with ``model=none``.
    stack : Stack or None
        What both images are roles of, if they are.
    matches : tuple of Match or None
        What was estimated for each two sections of a stack, in the order of `Stack.pairs`, once it is.
    """

    config: Config
    windows: tuple[Window, ...]
    reference: Image
    moving: Image
    given: Transform | None
    notes: tuple[str, ...]
    guides: tuple[Image, Image]
    registration: Registration | None = None
    unknown: str = ""
    stack: Stack | None = None
    matches: tuple[Match, ...] | None = None

    @property
    def window(self) -> Window:
        """The window of ncc, the first of several."""
        return self.windows[0]

    @property
    def ndim(self) -> int:
        """Number of windowed axes, which is that of the transform."""
        return self.window.ndim

    @property
    def pulled(self) -> bool:
        """Whether the moving image is pulled through a transform, known by now or not."""
        return self.config.registration.model != "none"

    @property
    def transform(self) -> Transform | PerItem | None:
        """From reference pixel to moving pixel; None where the images are correlated as they are stored."""
        if self.stack is not None and self.matches is not None:
            return stack.applied(self.stack, self.matches)
        if self.given is None and self.pulled and self.registration is not None:
            return self.registration.transform
        return self.given

    @property
    def images(self) -> dict[str, Image]:
        """What is read, by what it is called: both roles of a stack are one image."""
        if self.stack is not None:
            return {"stack": self.stack.whole}
        return {"reference": self.reference, "moving": self.moving}

    @property
    def sources(self) -> dict[str, Watched]:
        """The stores that the images are read from."""
        return {name: image.array.source for name, image in self.images.items() if image.array.source is not None}

    @property
    def measured(self) -> bool:
        """Whether sites are looked at; those of sections which are correlated as they are stored are not."""
        chosen = self.config.registration
        return chosen.estimated or (self.stack is None if chosen.model == "none" else not chosen.trust_field)

    @property
    def leaves_out(self) -> bool:
        """Whether samples of an image may not count for another reason than being NaN or infinite."""
        beyond = self.stack is not None and self.stack.apart
        left = leaves_out(self.config.reference, self.reference) or leaves_out(self.config.moving, self.moving)
        return beyond or left

    @property
    def masks(self) -> int:
        """How many masks are read beside two images."""
        config = self.config
        return 0 if self.stack is not None else sum(s.mask is not None for s in (config.reference, config.moving))

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
        return config.shift.search(self.window) if "shift" in config.maps else ((), ())

    @property
    def asked(self) -> Asked:
        """What is made of each block beside coefficients and status; InputError if it cannot be."""
        config = self.config
        asked = Asked(
            of_pixels(config.maps),
            prefilter=config.prefilter.prefilter(),
            ssim=config.ssim.ssim(),
            level=config.significance.level,
            windows=self.windows[1:],
        )
        return ranged(asked, self.reference.array.dtype, self.moving.array.dtype)

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
    chosen = config.registration
    sections = config.reference, config.moving
    one, guides = None, None
    if config.stack.lags is None:
        reference, moving = (opened(section) for section in sections)
        if chosen.channel is not None:
            guides = opened(sections[0], chosen.channel), opened(sections[1], chosen.channel)
            check_pair(*guides, same_grid=False)
    else:
        one = stack.stack_of(opened(config.reference), config.stack.lags)
        reference, moving = one.images()
        if chosen.channel is not None:
            stack.stack_of(opened(config.reference, chosen.channel), config.stack.lags)
    section, windows, rounded = aperture.settled(config.window, reference)
    window = windows[0]
    config = config.model_copy(update={"window": section})
    if one is not None and window.ndim > 2:
        message = f"stack.lags is given and the window has size {list(window.shape)}, which spans sections: [y, x] is "
        message += "accepted"
        raise InputError(message)
    given = given_transform(config)
    same_grid = chosen.model == "none"
    notes = rounded + check_pair(reference, moving, same_grid=same_grid)
    if chosen.estimated:
        notes += check_scales(reference, moving, within=0.01 if chosen.model in ("translation", "rigid") else 0.1)
    if item := _measured_on(config, window.ndim, (guides or (reference,))[0], one):
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
    for each in windows:
        check_shapes(reference.array.shape, moving.array.shape, each, same_shape=same_grid, named=True)
    kernel.common_dtype(reference.array.dtype, moving.array.dtype)
    if given is not None and given.ndim != window.ndim:
        message = f"the transform has {given.ndim} axes: {window.ndim} are accepted, as many as window.size has"
        raise InputError(message)
    _check_region(config, reference.array.shape, window.ndim)
    if given is not None:
        asked = config.output.region
        region = roi_of((0,) * given.ndim, reference.array.shape[-given.ndim :])
        region = region if asked is None else tuple(slice(*span) for span in asked)
        check_view(given, region, moving.array.shape[-given.ndim :], config.registration.order)
    found = Inputs(config, windows, reference, moving, given, (), guides or (reference, moving), stack=one)
    _check_maps(found)
    found.asked.prefilter.radius(window.ndim)  # which says what is wrong with it
    for name, image in found.images.items():
        notes += _check_samples(name, config.moving if name == "moving" else config.reference, image, window.ndim)
    return replace(found, notes=tuple(notes))


def _measured_on(config: Config, ndim: int, guide: Image, one: Stack | None) -> dict[str, int]:
    """Return which time and channel, and of two images which plane, a shift is measured on."""
    chosen = config.registration
    if one is None:
        return item_of(guide, ndim) if chosen.model is not None else {}
    return {axis: 0 for axis in one.whole.axes if axis in "tc" and chosen.channel is None} if chosen.estimated else {}


def opened(section: ImageConfig, channel: int | str | None = None) -> Image:
    """Open one of the two images as its section says, or another channel of it."""
    return storage.open_image(
        section.url,
        level=section.level,
        channel=section.channel if channel is None else channel,
        time=section.time,
        z=section.z,
        # what is no data is read as fill and left out by its validity
        missing_chunks="error" if section.missing_chunks == "error" else "fill",
        storage_options=section.storage.model_dump(),
    )


def _check_maps(inputs: Inputs) -> None:
    """Refuse further maps that would say nothing."""
    given = inputs.given
    shifts = given.only_shifts if isinstance(given, Affine) else isinstance(given, Translation)
    nothing = shifts and not (given is None or isinstance(given, Displacement) or any(given.offset))
    if "gain" in inputs.config.maps and (nothing or not inputs.pulled):
        how = "a transform that moves nothing" if nothing else "registration.model=none (--as-is)"
        message = f"maps has gain and {how} leaves it 0 everywhere: a registration, or maps without gain, is accepted"
        raise InputError(message)
    check_asked(inputs.windows, inputs.asked)
    if "shift" in inputs.config.maps:
        check_box(inputs.window, "shift")
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


def item_of(image: Image, ndim: int, shape: Shape | None = None) -> dict[str, int]:
    """Return which time, channel and plane is registered, of an array of `shape` with the axes of `image`."""
    lengths = shape or image.array.shape
    return {name: n // 2 if name == "z" else 0 for name, n in zip(image.axes[:-ndim], lengths, strict=False)}


def lattices(inputs: Inputs) -> Samples:
    """Read a few samples of both images."""
    if inputs.stack is not None and inputs.stack.apart:
        # each lag has the sections that it would have alone
        lags = [stack.Stack(inputs.stack.whole, (lag,)).images() for lag in inputs.stack.lags]
        return {name: [lattice for each in lags for lattice in samples_of(each[k])] for k, name in enumerate(ROLES)}
    return {name: samples_of(image) for name, image in zip(ROLES, (inputs.reference, inputs.moving), strict=True)}


def request_of(inputs: Inputs, samples: Samples) -> dict[str, Any]:
    """Return the science of a request: equal requests have equal results, whatever the machine and the paths."""
    config, ndim = inputs.config, inputs.ndim
    chosen = config.registration
    how: Any = chosen.model
    if chosen.displacement is not None:
        assert isinstance(inputs.given, Displacement)
        how = {"field": digest_of(inputs.given.field), "grid": inputs.given.grid}
    elif inputs.given is not None:
        how = transform.to_dict(inputs.given)
    search = {"initial": chosen.initial, "upsample_factor": chosen.upsample_factor, "channel": chosen.channel}
    request: dict[str, Any] = {
        "window": inputs.window.request,
        "registration": {
            "transform": how,
            "order": chosen.order if inputs.pulled else None,
            **(search if chosen.estimated else {}),
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
    if config.output.encoding != "float32" or config.output.keepbits is not None:  # as plans say it that know no other
        request["output"] |= {"encoding": config.output.encoding, "keepbits": config.output.keepbits}
    if prefilter := inputs.asked.prefilter:
        request["prefilter"] = prefilter.settled(ndim)
    if config.maps != ("ncc",):  # as plans say it that know no other map
        steps, reach = inputs.search
        request |= {"maps": config.maps} | ({"shift": {"step": steps, "search_radius": reach}} if steps else {})
        request |= {"ssim": asdict(inputs.asked.ssim)} if "ssim" in config.maps else {}
        request |= {"significance": config.significance.model_dump()} if inputs.asked.tested else {}
    if inputs.stack is not None:
        request["stack"] = {"lags": inputs.stack.lags}
        samples = {"stack": samples["reference"] + samples["moving"]}
    for name, image in inputs.images.items():
        section = config.moving if name == "moving" else config.reference
        mask, levels = section.mask, nodata_of(section, image)
        request["reference" if name == "stack" else name] = {
            "metadata": image.digest,
            "samples": hashlib.sha256(b"".join(each.tobytes() for each in samples[name])).hexdigest(),
            "nodata": levels if len(levels) > 1 else next(iter(levels), None),
            "missing_chunks": section.missing_chunks,
            "mask": None if mask is None else [_digest_of_mask(section, image, ndim), mask.valid, mask.invalid],
        }
    return plain(request)  # type: ignore[no-any-return]


def pair_of(inputs: Inputs, capacity: int | None = None, at_once: int = 1) -> Pair:
    """Return the whole images lazily, with the validity that masks and nodata give.

    With a `capacity` in bytes they keep what they have decoded, `at_once` samples by one call, and are read on the
    grid of whatever block.
    """
    config = inputs.config
    if inputs.stack is not None:
        return stack.pair_of(inputs.stack, config.reference, capacity, at_once)
    images: list[Any] = [inputs.reference.array, inputs.moving.array]
    sections = (config.reference, inputs.reference), (config.moving, inputs.moving)
    if capacity is None:
        flags = (validity_of(*both, inputs.ndim, array) for both, array in zip(sections, images, strict=True))
        return Pair(*map(from_storage, images), *flags)
    own = capacity * MASKED // (MASKED * inputs.masks + sum(array.dtype.itemsize for array in images))
    kept: list[Any] = [Decoded(array, (capacity - inputs.masks * own) // 2, at_once) for array in images]
    flagged = [flags_of(*both, inputs.ndim, own) for both in sections]
    return Pair(kept[0], kept[1], *flagged)


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
        if (data := get(absolute(place), documents.LARGEST)) is not None:
            return documents.document(data, f"registration.transform {place!r}")
    except OSError as error:
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


def _digest_of_mask(section: ImageConfig, image: Image, ndim: int) -> str:
    """Return a digest of a mask, and of where its samples are if it has another resolution."""
    mask, _ = open_mask(section, image, ndim)
    if not isinstance(mask, Nearest):
        return digest_of(mask)
    return digest([digest_of(mask.view).encode(), *(at.tobytes() for at in mask.places if at is not None)])
