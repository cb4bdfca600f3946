"""What Python users call: one name for numpy and dask, colours and registrations included."""

import dask.array as da
import numpy as np
import pytest

import bigncc
from bigncc.errors import InputError, RegistrationError
from tests import pairs, scenes, strategies


@pytest.mark.parametrize("axis", [-1, 2, 0])
@pytest.mark.parametrize("wrap", [np.asarray, lambda image: da.from_array(image, chunks=20)])
def test_colours_are_batches_along_any_axis(axis, wrap):
    f, g = (strategies.image(seed, (30, 40, 3), "uint8", "noise") for seed in (1, 2))
    mask = np.random.default_rng(0).random(f.shape) < 0.8
    flat = mask[..., 0]
    turned = [np.moveaxis(array, -1, axis) for array in (f, g, mask)]
    found = bigncc.local_maps(
        wrap(turned[0]), wrap(turned[1]), 5, channel_axis=axis, reference_mask=turned[2], moving_mask=flat
    )
    for name, array in found.items():
        assert isinstance(array, type(wrap(f)))
        assert array.shape == turned[0].shape
        for channel in range(3):
            one = bigncc.local_maps(
                f[..., channel], g[..., channel], 5, reference_mask=mask[..., channel], moving_mask=flat
            )
            np.testing.assert_array_equal(np.moveaxis(np.asarray(array), axis, -1)[..., channel], one[name])


def test_a_colour_image_is_refused_without_its_axis():
    f = np.zeros((30, 40, 3), np.uint8)
    for function in (bigncc.ncc, bigncc.register):
        with pytest.raises(InputError, match=r"shape \[30, 40, 3\], which looks like a colour .*: channel_axis=-1"):
            function(f, f)
        with pytest.raises(InputError, match="channel_axis is 3 and the image has 3 axes"):
            function(f, f, channel_axis=3)
    with pytest.raises(InputError, match="channel_axis is -1 and the image has 2 axes: one of more than 2"):
        bigncc.ncc(f[..., 0], f[..., 0], channel_axis=-1)


@pytest.mark.parametrize("wrap", [np.asarray, lambda image: da.from_array(image, chunks=64)])
def test_a_registration_is_a_transform(wrap):
    f, g = scenes.pair(1, (200, 180), 1.0, (3.25, -6.5))
    registration = bigncc.register(wrap(f), wrap(g))
    assert np.abs(np.subtract(registration.transform.offset, (3.25, -6.5))).max() < 0.06
    pairs.same(
        {
            name: np.asarray(array)
            for name, array in bigncc.local_maps(wrap(f), wrap(g), 9, transform=registration).items()
        },
        bigncc.local_maps(f, g, 9, transform=registration.transform),
    )
    assert np.nanmean(bigncc.ncc(f, g, 9, transform=registration)) > 0.8 > 0.2 > np.nanmean(bigncc.ncc(f, g, 9))


def test_masks_and_nodata_are_kept_out_of_a_registration():
    offset = (4.5, -2.25)
    f, g = scenes.pair(2, (300, 300), 1.0, offset)
    f[100:180, 50:250] = g[150:200, 20:200] = 65535
    assert bigncc.register(f, g, nodata=65535).quality > 0.9
    masked = bigncc.register(f, g, reference_mask=f < 65535, moving_mask=g < 65535)
    assert np.abs(np.subtract(masked.transform.offset, offset)).max() < 0.1


def test_stacks_volumes_and_colours_are_registered():
    f, g = scenes.pair(3, (200, 180), 1.0, (3.25, -6.5))
    noise = np.random.default_rng(0).integers(0, 9, f.shape).astype(f.dtype)
    stack = bigncc.register(np.stack([noise, f, noise]), np.stack([noise, g, noise]))
    assert stack.transform.ndim == 2
    assert stack.quality > 0.9
    colours = bigncc.register(np.stack([f] * 3, -1), np.stack([g] * 3, -1), channel_axis=-1)
    assert colours.quality > 0.9
    volume = bigncc.register(*scenes.pair(4, (40, 80, 80), 0.7, (1.5, 2, -3)), ndim=3)
    assert volume.transform.ndim == 3
    thin = bigncc.register(f[None], g[None], ndim=3)
    assert thin.transform.offset[0] == 0
    assert thin.quality > 0.9


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model": "projective"}, "model is 'projective': translation, rigid, similarity, affine, displacement are"),
        ({"ndim": 4}, "ndim is 4: 2 or 3"),
        ({"upsample_factor": 0}, "upsample_factor is 0: a whole number from 1 to 1000"),
        ({"upsample_factor": 2.5}, "upsample_factor is 2.5: a whole number"),
        ({"nodata": (1, 2, 3)}, r"nodata is \(1, 2, 3\): one grey level, or a pair"),
        ({"ndim": 3}, r"shape \[50, 60\]: at least 3 axes"),
    ],
)
def test_what_register_cannot_use_is_refused(options, sentence):
    f = np.zeros((50, 60))
    with pytest.raises(InputError, match=sentence):
        bigncc.register(f, f, **options)


@pytest.mark.parametrize("function", [bigncc.ncc, bigncc.register])
@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ("a.png", "an image is 'a.png': an array is accepted here, and bigncc.run takes paths"),
        (7, r"the reference image has shape \[\]: at least 2 axes"),
        (np.zeros(9), r"the reference image has shape \[9\]: at least 2 axes"),
        (np.zeros((40, 40), complex), "the image's dtype is complex128"),
    ],
)
def test_what_is_no_image_is_refused(function, image, sentence):
    with pytest.raises(InputError, match=sentence):
        function(image, image)


@pytest.mark.parametrize("transform", ["t.json", (1, 2)])
def test_what_is_no_transform_is_refused(transform):
    f = np.zeros((40, 40))
    with pytest.raises(InputError, match="transform is .*: a Translation, an Affine, a Displacement or a Registration"):
        bigncc.ncc(f, f, transform=transform)


def test_what_cannot_be_registered_says_what_to_do():
    f = np.full((100, 100), 7)
    with pytest.raises(RegistrationError, match=r"no texture .*: another model .*--as-is .* is accepted"):
        bigncc.register(f, f)


def test_several_grey_levels_can_mean_nothing():
    f, g = (strategies.image(seed, (30, 40), "uint8", "levels") for seed in (1, 2))
    one = bigncc.local_maps(f, g, 5, nodata=((0, 1), None))
    pairs.same(one, bigncc.local_maps(f, g, 5, reference_mask=(f != 0) & (f != 1)))


def test_colours_have_shift_maps_of_their_own():
    f, g = (np.random.default_rng(seed).integers(0, 255, (3, 30, 40), np.uint8) for seed in (1, 2))
    g[0] = np.roll(f[0], (1, -1), (0, 1))
    mask = np.ones(f.shape, bool)
    mask[1, 5:20] = False
    options = {"step": 6, "search_radius": 2}
    found = bigncc.shift_map(
        np.moveaxis(f, 0, -1),
        np.moveaxis(g, 0, -1),
        7,
        channel_axis=-1,
        reference_mask=np.moveaxis(mask, 0, -1),
        **options,
    )
    for i in range(3):
        alone = bigncc.shift_map(f[i], g[i], 7, reference_mask=mask[i], **options)
        for name, array in alone.items():
            np.testing.assert_array_equal(found[name][..., i], array, err_msg=name)
    assert np.median(found["shift_y"][..., 0]).round() == 1
