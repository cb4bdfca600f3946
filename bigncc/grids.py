"""Whether two images lie on one grid, or on grids that a transform can relate."""

from __future__ import annotations

from collections.abc import Iterator

from bigncc.errors import InputError
from bigncc.metadata import SPATIAL
from bigncc.storage import Image


def check_pair(reference: Image, moving: Image, *, same_grid: bool) -> list[str]:
    """Refuse two images that cannot be compared pixel by pixel.

    Parameters
    ----------
    reference, moving : Image
        The pair.
    same_grid : bool
        Whether no transform relates them. With one, z, y and x may differ in extent and scale; the
        caller checks z where the window, and so the transform, has no z.

    Returns
    -------
    list of str
        Notes: differences that move no pixel by 0.1 px, and what was assumed.

    Raises
    ------
    InputError
        If axes, lengths, units or grids differ.
    """
    notes = []
    if reference.axes != moving.axes:
        both = f"reference has axes ({', '.join(reference.axes)}) and moving ({', '.join(moving.axes)})"
        if len(reference.axes) != len(moving.axes) or (reference.named and moving.named):
            message = f"{both}: the same axes in the same order are accepted"
            raise InputError(message)
        notes.append(f"{both}, not all of them named by the files: taken for the same in this order")
    lengths = zip(reference.axes, reference.array.shape, moving.array.shape, strict=True)
    for axis, n, m in lengths:
        if n != m and (same_grid or axis not in SPATIAL):
            hint = ", or a registration (other than --as-is)" if axis in SPATIAL else ""
            message = f"axis {axis} has length {n} in reference and {m} in moving: equal lengths{hint} are accepted"
            raise InputError(message)
    return notes + (_check_grids(reference, moving) if same_grid else [])


def _check_grids(reference: Image, moving: Image) -> list[str]:
    if not (reference.calibrated and moving.calibrated):
        silent = "moving" if reference.calibrated else "reference"
        one = reference.calibrated or moving.calibrated
        return [f"{silent} gives no pixel size: both are taken to lie on the same grid"] if one else []
    notes = []
    for i, axis in _spatial(reference, moving):
        first = (reference.translation[i] - moving.translation[i]) / moving.scale[i]
        growth = reference.scale[i] / moving.scale[i] - 1
        # linear in the index, hence largest at one of the ends
        off = max(abs(first), abs(first + growth * (reference.array.shape[i] - 1)))
        grids = (
            f"axis {axis} has scale {reference.scale[i]:.9g}, translation {reference.translation[i]:.9g} in reference "
            f"and {moving.scale[i]:.9g}, {moving.translation[i]:.9g} in moving, which differ by up to {off:.3g} px"
        )
        if not off < 0.1:
            message = f"{grids}: less than 0.1 px, or a registration (other than --as-is) is accepted"
            raise InputError(message)
        if off > 0:
            notes.append(f"{grids}: ignored")
    return notes


def check_scales(reference: Image, moving: Image, *, within: float) -> list[str]:
    """Refuse pixel sizes that differ by more than what is estimated brings together; note those that do."""
    if not (reference.calibrated and moving.calibrated):
        return []
    notes = []
    for i, axis in _spatial(reference, moving):
        growth = reference.scale[i] / moving.scale[i] - 1
        sizes = f"axis {axis} has scale {reference.scale[i]:.9g} in reference and {moving.scale[i]:.9g} in moving"
        if abs(growth) > within:
            message = f"{sizes}, which no such model brings together: scales within {100 * within:g} %, or a transform "
            message += "(registration.transform), are accepted"
            raise InputError(message)
        if (off := abs(growth) * reference.array.shape[i]) >= 0.1:
            notes.append(f"{sizes}, by which pixels may be off by {off:.3g} px at the far end")
    return notes


def _spatial(reference: Image, moving: Image) -> Iterator[tuple[int, str]]:
    """Yield index and name of the axes in space, which must be in one unit."""
    for i, axis in enumerate(reference.axes):
        if axis not in SPATIAL:
            continue
        units = reference.units[i], moving.units[i]
        if None not in units and units[0] != units[1]:
            message = f"axis {axis} is in {units[0]} in reference and in {units[1]} in moving: one unit is accepted"
            raise InputError(message)
        yield i, axis
