"""What Python users call: the same functions for numpy, dask and xarray."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bigncc import lazy, vectors
from bigncc.errors import InputError
from bigncc.lazy import MAPS, Nodata
from bigncc.maps import LEVEL
from bigncc.pair import seen
from bigncc.registration import MODELS, Model, estimate
from bigncc.window import Window, as_window

if TYPE_CHECKING:
    from bigncc.kernel import Pivots
    from bigncc.maps import Ssim
    from bigncc.prefilter import Prefilter
    from bigncc.registration import Registration
    from bigncc.transform import Transform


def local_maps(
    reference: Any,
    moving: Any,
    window: int | tuple[int, ...] | Window = 7,
    maps: Sequence[str] = MAPS,
    *,
    transform: Transform | Registration | None = None,
    order: int = 1,
    reference_mask: Any = None,
    moving_mask: Any = None,
    nodata: Nodata = None,
    pivot: Pivots | None = None,
    prefilter: Prefilter | None = None,
    ssim: Ssim | None = None,
    windows: Sequence[int | tuple[int, ...]] = (),
    channel_axis: int | None = None,
    level: float = LEVEL,
) -> Any:
    """Correlate two images around each pixel and say why where there is no value.

    Parameters
    ----------
    reference, moving : ndarray, dask.array.Array or xarray.DataArray, ``[..., [z,] y, x]``
        Real images; axes in front of the window's are batches. Without `transform` of the same shape, with it of the
        same batch shape. The axes of DataArrays are matched by name, the window's are those named z, y and x, or
        latitude and longitude, or else the last ones; their coordinates must agree within 0.001 pixel unless there is
        a transform, and ``_FillValue`` and ``missing_value`` among their attributes are nodata.
    window : int, tuple of int or Window
        Size of the window in pixels and its rules; an int means ``(y, x)``.
    maps : sequence of str
        Which of ``"ncc"``, ``"status"``; ``"gain"``: NCC minus that of the images as they are, pixel for pixel, NaN
        where not both have status 1; it needs a `transform`; ``"confidence"``: the mean of max(NCC, 0) over the pixels
        of status 1 in a window (cut at the image's edge) around each of them, NaN elsewhere; and statistics of the
        windows: ``"count"`` of valid samples, ``"mean_reference"``, ``"mean_moving"``, ``"std_reference"``,
        ``"std_moving"``, ``"covariance"`` (of the population, grey levels), ``"slope"`` and ``"intercept"`` of
        moving = slope x reference + intercept, ``"ncc_uncentered"`` (about zero), ``"squared"`` and ``"absolute"`` NCC,
        ``"ssim"`` and ``"spearman"``. These are NaN where there are too few samples; slope and intercept also where the
        reference is flat; what needs a variance where that is below the numerical resolution.
        ``"pvalue"`` is the probability that two unrelated textures, as smooth as both images are around the pixel,
        correlate at least as much: it tests r = 0, not alignment. ``"lower"`` is the lower confidence bound of r. Both
        are NaN where the status is not 1.
    transform : Translation, Affine, Displacement or Registration, optional
        From reference pixels to moving pixels; the moving image is pulled through it.
    order : {0, 1, 3}
        Interpolation: nearest, linear, or cubic convolution.
    reference_mask, moving_mask : array of bool, optional
        True where a sample is valid; of the image's shape or of its windowed axes' shape.
    nodata : float or tuple of float or None, optional
        Grey level that means "no sample", for both images or a pair, one for each.
    pivot : tuple of float, optional
        Constant to subtract from reference and moving where they are correlated as floats; by default the median of
        a lattice of five points per axis.
    prefilter : Prefilter, optional
        What both images are filtered by before they are correlated, the moving one as it is registered.
    ssim : Ssim, optional
        Constants of structural similarity, which floats need.
    windows : sequence of (int or tuple of int)
        Sizes of other windows, with the rules of `window`, that are correlated in the same pass. Then `maps` may have
        the map of each, such as ``"ncc_15x15"``; ``"best"``, the largest coefficient of all windows; and ``"scale"``,
        the number of the window that gave it, from 1 on.
    channel_axis : int, optional
        The axis of the colours of both images, each of which is a batch. An array whose last axis has length 3 or 4
        is refused without it.
    level : float
        The share of lower bounds that are above the correlation they bound.

    Returns
    -------
    dict or xarray.Dataset
        ``"ncc"`` float32 in [-1, 1] or NaN, ``"status"`` uint8, further maps float32; each of the reference's shape,
        dask arrays for dask input and numpy arrays otherwise. DataArrays have the reference's dims, index coordinates
        and grid mapping.

    Raises
    ------
    InputError
        If shapes, dtypes, coordinates or parameters do not fit.
    """
    masks = {"reference_mask": reference_mask, "moving_mask": moving_mask}
    options: dict[str, Any] = {"transform": transform, "order": order, "nodata": nodata, "pivot": pivot, **masks}
    options |= {"prefilter": prefilter, "ssim": ssim, "windows": windows, "level": level}
    if _is_labelled(reference, moving):
        from bigncc import xarray

        return xarray.local_maps(reference, moving, window, maps, channel_axis=channel_axis, **options)
    if channel_axis is None:
        return lazy.local_maps(reference, moving, window, maps, **options)
    ndim = as_window(window).ndim
    first, second = (_channels_first(image, channel_axis, ndim) for image in (reference, moving))
    options |= {
        name: _channels_first(mask, channel_axis, ndim) if np.ndim(mask) > ndim else mask
        for name, mask in masks.items()
    }
    found = lazy.local_maps(first, second, window, maps, named=True, **options)
    return {name: np.moveaxis(array, 0, channel_axis) for name, array in found.items()}


def shift_map(
    reference: Any,
    moving: Any,
    window: int | tuple[int, ...] | Window = 7,
    *,
    step: int | tuple[int, ...] | None = None,
    search_radius: int | tuple[int, ...] = 8,
    channel_axis: int | None = None,
    **options: Any,
) -> Any:
    """Search, on a grid of nodes, the residual displacement that makes the correlation highest.

    Node k is pixel ``k * step + (step - 1) // 2`` along each windowed axis.

    Parameters
    ----------
    reference, moving, window, channel_axis
        As for `local_maps`.
    step : int or tuple of int, optional
        Pixels between nodes along each windowed axis; by default the window's size.
    search_radius : int or tuple of int
        Largest displacement that is tried along each windowed axis, in pixels; 0 where none is looked for.
    **options
        As for `local_maps`: ``transform``, ``order``, ``reference_mask``, ``moving_mask``, ``nodata``, ``pivot`` and
        ``prefilter``. It is the registered image whose residual displacement is found.

    Returns
    -------
    dict or xarray.Dataset
        ``"shift_y"``, ``"shift_x"``, and ``"shift_z"`` with a window in three dimensions: moving minus reference pixel.
        ``"shift_peak"``, ``"shift_ratio"``, ``"shift_uncertainty"``: the correlation there, the second highest maximum
        over it, and the expected length of the error in pixels, infinite for a displacement at the end of the search
        or without a clear peak; all as `bigncc.shift.local` defines them. float32, a value for each node, NaN where
        there is no answer; dask arrays for dask input and numpy arrays otherwise. The coordinates of a Dataset are
        those of the nodes.

    Raises
    ------
    InputError
        If shapes, dtypes, coordinates or parameters do not fit.
    """
    options |= {"step": step, "search_radius": search_radius}
    if _is_labelled(reference, moving):
        from bigncc import xarray

        return xarray.shift_map(reference, moving, window, channel_axis=channel_axis, **options)
    if channel_axis is None:
        return vectors.shift_map(reference, moving, window, **options)
    ndim = as_window(window).ndim
    first, second = (_channels_first(image, channel_axis, ndim) for image in (reference, moving))
    for name in {"reference_mask", "moving_mask"} & options.keys():
        mask: Any = options[name]
        options[name] = _channels_first(mask, channel_axis, ndim) if np.ndim(mask) > ndim else mask
    found = vectors.shift_map(first, second, window, named=True, **options)
    return {name: np.moveaxis(array, 0, channel_axis) for name, array in found.items()}


def ncc(reference: Any, moving: Any, window: int | tuple[int, ...] | Window = 7, **options: Any) -> Any:
    """Normalised cross-correlation (Pearson's r) of the windows around each pixel.

    Parameters
    ----------
    reference, moving, window
        As for `local_maps`.
    **options
        As for `local_maps`, but for ``maps``.

    Returns
    -------
    ndarray, dask.array.Array or xarray.DataArray, float32, ``[..., [z,] y, x]``
        In [-1, 1]; `Window.flat` where there is no contrast, NaN where there are too few valid samples.
    """
    return local_maps(reference, moving, window, ("ncc",), **options)["ncc"]


def register(
    reference: Any,
    moving: Any,
    *,
    model: Model = "translation",
    upsample_factor: int = 100,
    reference_mask: Any = None,
    moving_mask: Any = None,
    nodata: Nodata = None,
    channel_axis: int | None = None,
    ndim: int = 2,
) -> Registration:
    """Estimate where the moving image lies against the reference.

    Parameters
    ----------
    reference, moving : ndarray, dask.array.Array or xarray.DataArray, ``[..., [z,] y, x]``
        Extents may differ along the registered axes. Of axes in front the middle item is taken.
    model : {'translation', 'rigid', 'similarity', 'affine', 'displacement'}
        What may be between the images; a displacement varies smoothly over the image.
    upsample_factor : int
        The shift at a site is measured to one part in this of a pixel.
    reference_mask, moving_mask, nodata
        As for `local_maps`.
    channel_axis : int, optional
        The axis of the colours, of which the mean is registered.
    ndim : {2, 3}
        How many axes are registered: ``(y, x)``, or ``(z, y, x)`` of volumes.

    Returns
    -------
    Registration
        With ``transform``, ``sites``, ``uncertainty`` and ``quality``; `local_maps` takes it as its transform.

    Raises
    ------
    RegistrationError
        If there is no texture or no overlap, or the sites do not agree.
    InputError
        If the images or a parameter cannot be used.
    """
    if model not in MODELS:
        message = f"model is {model!r}: {', '.join(MODELS)} are accepted"
        raise InputError(message)
    if ndim not in (2, 3):
        message = f"ndim is {ndim!r}: 2 or 3 is accepted"
        raise InputError(message)
    if not isinstance(upsample_factor, int) or not 1 <= upsample_factor <= 1000:
        message = f"upsample_factor is {upsample_factor!r}: a whole number from 1 to 1000 is accepted"
        raise InputError(message)
    # the smallest window there is: only its axes matter
    window = Window((1,) * (ndim - 1) + (3,))
    options = {"reference_mask": reference_mask, "moving_mask": moving_mask, "nodata": nodata, "same_shape": False}
    if _is_labelled(reference, moving):
        from bigncc import xarray

        pair = xarray.paired(reference, moving, window, channel_axis=channel_axis, **options)
    else:
        if channel_axis is not None:
            reference, moving = (
                _channels_first(image, channel_axis, ndim).mean(axis=0) for image in (reference, moving)
            )
        pair = lazy.paired(reference, moving, window, named=channel_axis is not None, **options)
    middle = tuple(n // 2 for n in pair.reference.shape[:-ndim])
    first = seen(pair.reference, pair.reference_validity)[middle]
    second = seen(pair.moving, pair.moving_validity)[middle]
    return estimate(first, second, model, upsample_factor=upsample_factor)


def _is_labelled(*images: Any) -> bool:
    """Say whether one of the images is xarray's, without importing it."""
    return any(type(image).__module__.partition(".")[0] == "xarray" for image in images)


def _channels_first(image: Any, channel_axis: int, ndim: int) -> Any:
    axes = np.ndim(image)
    if not -axes <= channel_axis < axes or axes <= ndim:
        message = f"channel_axis is {channel_axis} and the image has {axes} axes: one of more than {ndim} is accepted"
        raise InputError(message)
    return np.moveaxis(image, channel_axis, 0)
