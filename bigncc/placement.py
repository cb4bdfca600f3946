"""How the moving image of a job is brought onto the reference's grid: estimated once, or given and looked at."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bigncc import stack, variants
from bigncc.errors import InputError, RegistrationError
from bigncc.inputs import Inputs, item_of, opened, pair_of
from bigncc.masks import leaves_out
from bigncc.pair import from_storage, on_threads, seen
from bigncc.registration import estimate, residual, texture_of
from bigncc.transform import Displacement
from bigncc.wording import in_words

if TYPE_CHECKING:
    import dask.array as da

    from bigncc.stack import Match, Stack
    from bigncc.storage import Image


def registered(inputs: Inputs, threads: int) -> Inputs:
    """Return the inputs with what is to be estimated: the transform, or with ``model=none`` the residual shift.

    Of several times and channels the first, and of a stack of planes the middle one is measured.

    Raises
    ------
    RegistrationError
        If the images agree on no transform, but for ``model=none``, where the reason is kept.
    InputError
        If a transform that is given brings them together clearly better the other way round.
    """
    chosen = inputs.config.registration
    if not inputs.measured:
        return inputs
    if chosen.model is None:
        _check_given(inputs, threads)
        return inputs
    if inputs.stack is not None:
        return replace(inputs, matches=_matches(inputs, inputs.stack, threads))
    reference, moving, coarser = _seen(inputs)
    with on_threads(threads):
        if chosen.model != "none":
            start, factor = _start(inputs) if chosen.initial == "metadata" else None, chosen.upsample_factor
            found = estimate(reference, moving, chosen.model, coarser=coarser, start=start, upsample_factor=factor)
            return replace(inputs, registration=found)
        try:
            found = residual(reference, moving, coarser=coarser[0], upsample_factor=chosen.upsample_factor)
        except RegistrationError as error:
            return replace(inputs, unknown=error.reason)
    return replace(inputs, registration=found)


def _matches(inputs: Inputs, one: Stack, threads: int) -> tuple[Match, ...]:
    """Return how each two sections of a stack lie to each other, by the channel that is registered on."""
    chosen, section = inputs.config.registration, inputs.config.reference
    assert chosen.model is not None  # or a transform is given
    assert chosen.model != "none"
    guide = one if chosen.channel is None else stack.stack_of(opened(section, chosen.channel), one.lags)
    start = _start(inputs) if chosen.initial == "metadata" else None
    return stack.matches(guide, section, chosen.model, start, chosen.upsample_factor, threads=threads)


def _seen(inputs: Inputs) -> tuple[da.Array, da.Array, tuple[list[da.Array], list[da.Array]]]:
    """Return both images as they are registered, NaN where no sample counts, and their coarser levels."""
    inputs = replace(inputs, reference=inputs.guides[0], moving=inputs.guides[1])
    pair = pair_of(inputs)
    reference = _plane(seen(pair.reference, pair.reference_validity), inputs.reference, inputs.ndim)
    moving = _plane(seen(pair.moving, pair.moving_validity), inputs.moving, inputs.ndim)
    return reference, moving, (_coarser(inputs, "reference"), _coarser(inputs, "moving"))


def _check_given(inputs: Inputs, threads: int) -> None:
    """Refuse a given transform that is clearly better the other way round; images without texture cannot say."""
    assert inputs.given is not None  # one of the ways is chosen
    reference, moving, coarser = _seen(inputs)
    with on_threads(threads), suppress(RegistrationError):
        variants.check(reference, moving, inputs.given, texture_of(reference, coarser[0]))


def _plane(array: Any, image: Image, ndim: int) -> Any:
    """Return the axes that are registered, of one batch item."""
    return array[tuple(item_of(image, ndim, array.shape).values())]


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
    if inputs.stack is not None:
        return stack.headline(inputs.stack, inputs.matches, given, estimated=chosen.estimated)
    if chosen.displacement is not None:
        return f"moving image pulled through the displacement field {Path(chosen.displacement.url).name}"
    if isinstance(given, Displacement):
        return f"moving image pulled through the displacement field in {Path(chosen.transform or '').name}"
    if given is not None:
        return f"moving image {in_words(given, inputs.reference.array.shape[-inputs.ndim :])}"
    if inputs.pulled:
        return f"moving image {found or f'to be registered ({chosen.model}): not estimated yet'}"
    if found is not None:
        return f"moving image correlated as it is stored; residual shift {found.says} ({found.votes})"
    return f"moving image correlated as it is stored; residual shift unknown: {inputs.unknown or 'not measured yet'}"
