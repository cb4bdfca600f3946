"""DataArrays in, DataArrays out; ``import bigncc.xarray`` registers the accessor ``da.bigncc``."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bigncc import lazy, vectors
from bigncc.conventions import left_out
from bigncc.errors import InputError
from bigncc.lazy import MAPS, Nodata
from bigncc.maps import LEVEL
from bigncc.nodes import first_node, search_of
from bigncc.result import said, versions, words
from bigncc.transform import Displacement, to_dict
from bigncc.window import Window, as_window

if TYPE_CHECKING:
    from bigncc.kernel import Pivots
    from bigncc.maps import Ssim
    from bigncc.pair import Pair
    from bigncc.prefilter import Prefilter
    from bigncc.registration import Registration
    from bigncc.transform import Transform

Dims = tuple[Hashable, ...]

NAMES = (("z", "y", "x"), ("lat", "lon"), ("latitude", "longitude"))
"""What the axes of a window are called; only the last ones of a window in two dimensions."""

CORE = ("bigncc", "numpy", "numba", "dask")
"""Whose versions a result is told with."""

AGREE = 1e-3
"""Pixels by which the coordinates of one grid may differ."""


@xr.register_dataarray_accessor("bigncc")  # type: ignore[no-untyped-call]
class Accessor:
    """What bigncc does with a DataArray as the reference."""

    def __init__(self, reference: xr.DataArray) -> None:
        self._reference = reference

    def ncc(self, other: xr.DataArray, window: int | tuple[int, ...] | Window = 7, **options: Any) -> xr.DataArray:
        """Return the correlation with `other` around each pixel; options as for `bigncc.ncc`."""
        return self.local_maps(other, window, ("ncc",), **options)["ncc"]

    def local_maps(
        self,
        other: xr.DataArray,
        window: int | tuple[int, ...] | Window = 7,
        maps: Sequence[str] = MAPS,
        **options: Any,
    ) -> xr.Dataset:
        """Return the correlation with `other` and the status; options as for `bigncc.local_maps`."""
        return local_maps(self._reference, other, window, maps, **options)

    def shift_map(self, other: xr.DataArray, window: int | tuple[int, ...] | Window = 7, **options: Any) -> xr.Dataset:
        """Return where `other` still slips; options as for `bigncc.shift_map`."""
        return shift_map(self._reference, other, window, **options)


@dataclass(frozen=True)
class _Matched:
    """Two DataArrays with the same axes in the same order, the window's last, and their masks alike."""

    reference: xr.DataArray
    moving: xr.DataArray
    masks: dict[str, Any]
    nodata: tuple[tuple[float, ...], tuple[float, ...]]


def local_maps(
    reference: xr.DataArray,
    moving: xr.DataArray,
    window: int | tuple[int, ...] | Window = 7,
    maps: Sequence[str] = MAPS,
    *,
    transform: Transform | Registration | None = None,
    channel_axis: int | None = None,
    order: int = 1,
    pivot: Pivots | None = None,
    prefilter: Prefilter | None = None,
    ssim: Ssim | None = None,
    level: float = LEVEL,
    windows: Sequence[int | tuple[int, ...]] = (),
    **options: Any,
) -> xr.Dataset:
    """Do what `bigncc.local_maps` does, for DataArrays."""
    window, transform = as_window(window), lazy.applied(transform)
    matched = _match(reference, moving, window, channel_axis, same_shape=transform is None, **options)
    found = lazy.local_maps(
        matched.reference.data, matched.moving.data, window, maps, transform=transform, order=order, pivot=pivot,
        prefilter=prefilter, ssim=ssim, level=level, windows=windows,
        nodata=matched.nodata, named=True, **matched.masks,
    )  # fmt: skip
    dims = matched.reference.dims
    about = _about(window, transform, dims, prefilter)
    arrays = {
        name: xr.DataArray(array, dims=dims, attrs={**words(name), **about}).transpose(*reference.dims)
        for name, array in found.items()
    }
    result = xr.Dataset(arrays, coords=_kept(reference, moving))
    return _with_grid_mapping(result, reference)


def shift_map(
    reference: xr.DataArray,
    moving: xr.DataArray,
    window: int | tuple[int, ...] | Window = 7,
    *,
    step: int | tuple[int, ...] | None = None,
    search_radius: int | tuple[int, ...] = 8,
    transform: Transform | Registration | None = None,
    channel_axis: int | None = None,
    order: int = 1,
    pivot: Pivots | None = None,
    prefilter: Prefilter | None = None,
    **options: Any,
) -> xr.Dataset:
    """Do what `bigncc.shift_map` does, for DataArrays."""
    window, transform = as_window(window), lazy.applied(transform)
    steps, _ = search_of(window.shape, step, search_radius)
    matched = _match(reference, moving, window, channel_axis, same_shape=transform is None, **options)
    found = vectors.shift_map(
        matched.reference.data, matched.moving.data, window, step=step, search_radius=search_radius,
        transform=transform, order=order, pivot=pivot, prefilter=prefilter, nodata=matched.nodata, named=True,
        **matched.masks,
    )  # fmt: skip
    dims = matched.reference.dims
    about = _about(window, transform, dims, prefilter)
    arrays = {
        name: xr.DataArray(array, dims=dims, attrs={**words(name), **about}).transpose(*reference.dims)
        for name, array in found.items()
    }
    places = zip(dims[-window.ndim :], first_node(steps), steps, strict=True)
    nodes = reference.isel({dim: slice(first, None, each) for dim, first, each in places})
    return _with_grid_mapping(xr.Dataset(arrays, coords=_kept(nodes, moving)), reference)


def paired(
    reference: xr.DataArray, moving: xr.DataArray, window: Window, *, channel_axis: int | None, **options: Any
) -> Pair:
    """Do what `bigncc.lazy.paired` does, for DataArrays: one of several channels is their mean."""
    if channel_axis is not None and isinstance(reference, xr.DataArray) and isinstance(moving, xr.DataArray):
        channel = _dim(reference, channel_axis)
        if channel in moving.dims:
            reference, moving = (image.mean([channel], keep_attrs=True) for image in (reference, moving))
    matched = _match(reference, moving, window, None, **options)
    same_shape = options["same_shape"]
    return lazy.paired(
        matched.reference.data, matched.moving.data, window, nodata=matched.nodata, same_shape=same_shape, named=True,
        **matched.masks,
    )  # fmt: skip


def _about(window: Window, transform: Transform | None, dims: Dims, prefilter: Prefilter | None) -> dict[str, Any]:
    about: dict[str, Any] = {"window": list(window.shape), "window_dims": " ".join(map(str, dims[-window.ndim :]))}
    about |= {"border": window.border, "versions": versions({name: version(name) for name in CORE})}
    if prefilter:
        about["prefilter"] = said(asdict(prefilter))
    if transform is not None:
        # a field may be as large as the image
        known = {"kind": "displacement"} if isinstance(transform, Displacement) else to_dict(transform)
        about["transform"] = json.dumps(known)
    return about


def _match(
    reference: xr.DataArray,
    moving: xr.DataArray,
    window: Window,
    channel_axis: int | None,
    *,
    same_shape: bool,
    reference_mask: Any = None,
    moving_mask: Any = None,
    nodata: Nodata = None,
) -> _Matched:
    """Bring two DataArrays, and what belongs to them, into one order of axes.

    Raises
    ------
    InputError
        If they are no DataArrays, or dims or coordinates do not match.
    """
    for name, image in (("reference", reference), ("moving", moving)):
        if not isinstance(image, xr.DataArray):
            message = f"{name} is of type {type(image).__name__} and the other image a DataArray: two are accepted"
            raise InputError(message)
    if set(reference.dims) != set(moving.dims):
        dims = [", ".join(map(str, image.dims)) for image in (reference, moving)]
        message = f"reference has dims ({dims[0]}) and moving ({dims[1]}): the same names are accepted"
        raise InputError(message)
    spatial = _spatial(reference, window.ndim, channel_axis)
    order = (*(dim for dim in reference.dims if dim not in spatial), *spatial)
    masks = {
        "reference_mask": _mask(reference_mask, reference, spatial),
        "moving_mask": _mask(moving_mask, moving, spatial),
    }
    for dim in order:
        if _turned(reference, moving, dim, may_differ=not same_shape and dim in spatial):
            moving = moving.isel({dim: slice(None, None, -1)})
            if masks["moving_mask"] is not None and dim in masks["moving_mask"].dims:
                masks["moving_mask"] = masks["moving_mask"].isel({dim: slice(None, None, -1)})
    first, second = reference.transpose(*order), moving.transpose(*order)
    images, levels = (first, second), lazy.for_each(nodata)
    ordered = {
        name: None if mask is None else _ordered(mask, image, spatial)
        for (name, mask), image in zip(masks.items(), images, strict=True)
    }
    return _Matched(first, second, ordered, (_nodata(first, levels[0]), _nodata(second, levels[1])))


def _dim(image: xr.DataArray, axis: int) -> Hashable:
    if not -image.ndim <= axis < image.ndim:
        message = f"channel_axis is {axis} and the image has {image.ndim} axes: one of them is accepted"
        raise InputError(message)
    return image.dims[axis]


def _spatial(image: xr.DataArray, ndim: int, channel_axis: int | None) -> Dims:
    """Return the dims of the window."""
    channel = None if channel_axis is None else _dim(image, channel_axis)
    rest = tuple(dim for dim in image.dims if dim != channel)
    if len(rest) < ndim:
        message = f"the image has dims ({', '.join(map(str, image.dims))}): at least {ndim} for the window are accepted"
        raise InputError(message)
    for names in NAMES:
        wanted = names[-ndim:]
        if len(wanted) == ndim and set(wanted) <= set(rest):
            return wanted
    unnamed = all(str(dim) == f"dim_{i}" for i, dim in enumerate(image.dims))
    if unnamed and channel is None and image.ndim > 2 and image.shape[-1] in (3, 4):
        message = (
            f"a DataArray has shape {list(image.shape)} and dims without names, which looks like a colour image taken "
            "for a stack: channel_axis=-1, or dims with names such as y, x and band, are accepted"
        )
        raise InputError(message)
    return rest[-ndim:]


def _turned(reference: xr.DataArray, moving: xr.DataArray, dim: Hashable, *, may_differ: bool) -> bool:
    """Say whether `moving` lies on the reference's grid with this axis the other way round; refuse other grids."""
    if not may_differ and reference.sizes[dim] != moving.sizes[dim]:
        lengths = f"dim {dim} has length {reference.sizes[dim]} in reference and {moving.sizes[dim]} in moving"
        message = f"{lengths}: equal lengths are accepted, or along the window a transform"
        raise InputError(message)
    if dim not in reference.coords or dim not in moving.coords:
        return False
    a, b = reference[dim].values, moving[dim].values
    if may_differ:
        if min(len(a), len(b)) > 1 and _numbers(a) and _numbers(b) and (a[-1] > a[0]) != (b[-1] > b[0]):
            message = (
                f"coordinate {dim} ascends in one image and descends in the other: with a transform, "
                f"moving.isel({dim}=slice(None, None, -1)) is accepted"
            )
            raise InputError(message)
        return False
    off = _apart(a, b)
    if off <= AGREE:
        return False
    if _apart(a, b[::-1]) <= AGREE:
        return True
    runs = f"coordinate {dim} runs from {a[0]} to {a[-1]} in reference and from {b[0]} to {b[-1]} in moving"
    if not np.isfinite(off):
        message = f"{runs}: the same in both is accepted"
        raise InputError(message)
    message = (
        f"{runs}, up to {off:.3g} pixels apart: less than {AGREE} is accepted, after moving.interp_like(reference) or "
        "moving.rio.reproject_match(reference) for instance"
    )
    raise InputError(message)


def _numbers(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "iufmM"


def _apart(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return by how many pixels two coordinates of one length differ at most; infinity where they are no numbers."""
    if not (_numbers(a) and _numbers(b)) or (a.dtype.kind == "M") != (b.dtype.kind == "M"):
        return 0.0 if np.array_equal(a, b) else np.inf
    if np.array_equal(a, b):
        return 0.0
    off = np.abs((a - b) / np.ones(1, "m8[ns]") if a.dtype.kind in "mM" else np.subtract(a, b, dtype=np.float64)).max()
    steps = np.abs(np.diff(a) / np.ones(1, "m8[ns]") if a.dtype.kind in "mM" else np.diff(a.astype(np.float64)))
    # a single coordinate has no pixel to be measured in
    pixel = float(np.median(steps)) if len(steps) else 0.0
    return float(off) / pixel if pixel else np.inf


def _mask(mask: Any, image: xr.DataArray, spatial: Dims) -> xr.DataArray | None:
    """Return a mask with the names of the axes of its image, in whose order a plain array is."""
    if mask is None or isinstance(mask, xr.DataArray):
        return mask
    dims = image.dims if np.ndim(mask) == image.ndim else tuple(dim for dim in image.dims if dim in spatial)
    if np.ndim(mask) != len(dims):
        message = f"the mask has {np.ndim(mask)} axes: {image.ndim}, or the window's {len(spatial)}, are accepted"
        raise InputError(message)
    return xr.DataArray(mask, dims=dims)


def _ordered(mask: xr.DataArray, image: xr.DataArray, spatial: Dims) -> Any:
    """Return the samples of a mask in the order of its image."""
    if unknown := set(mask.dims) - set(image.dims):
        message = (
            f"the mask has a dim {unknown.pop()!r}: those of its image, {', '.join(map(str, image.dims))}, are accepted"
        )
        raise InputError(message)
    if set(mask.dims) == set(spatial):
        return mask.transpose(*spatial).data
    # by position: the coordinates of a mask are those of its image
    plain = mask.drop_vars(list(mask.coords)).broadcast_like(image.drop_vars(list(image.coords)))
    return plain.transpose(*image.dims).data


def _nodata(image: xr.DataArray, given: Any) -> tuple[float, ...]:
    """Return all grey levels that mean: no sample. What was decoded keeps none of them among its attributes."""
    levels = given if isinstance(given, tuple) else () if given is None else (given,)
    found = left_out(image.attrs, image.dtype, f"the DataArray {image.name or ''}".rstrip())
    return (*levels, *found)


def _kept(reference: xr.DataArray, moving: xr.DataArray) -> Any:
    """Return the reference's coordinates without scalars of which the moving image says something else."""
    conflicting = [
        name
        for name, coord in reference.coords.items()
        if coord.ndim == 0 and name in moving.coords and not coord.variable.equals(moving.coords[name].variable)
    ]
    return reference.drop_vars(conflicting).coords


def _with_grid_mapping(result: xr.Dataset, reference: xr.DataArray) -> xr.Dataset:
    """Say of each map which coordinate describes the grid, where the reference says it."""
    for place in ("attrs", "encoding"):
        if (name := getattr(reference, place).get("grid_mapping")) is not None:
            for array in result.data_vars.values():
                getattr(array, place)["grid_mapping"] = name
    return result
