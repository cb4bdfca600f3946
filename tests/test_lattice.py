"""A few samples of an image: the same that the pivot of a whole array comes from, channel by channel."""

import numpy as np
import pytest

from bigncc import kernel
from bigncc.lattice import pivots, samples_of
from bigncc.storage import open_image
from tests import pairs


@pytest.mark.parametrize("names", [("z", "y", "x"), ("c", "y", "x"), ("t", "c", "y", "x"), ("z", "c", "y", "x")])
def test_pivots_are_medians_of_five_points_per_axis_of_each_channel(tmp_path, names):
    rng = np.random.default_rng(1)
    images = {name: rng.normal(50, 9, (7, 3, 20, 30)[-len(names) :]).astype("f4") for name in ("reference", "moving")}
    samples = {
        name: samples_of(open_image(pairs.store(tmp_path / name, image, names=names))) for name, image in images.items()
    }
    axis = names.index("c") if "c" in names else None
    parts = [[image] if axis is None else list(np.moveaxis(image, axis, 0)) for image in images.values()]

    def wanted(part):
        return kernel.lattice_pivot(part[np.ix_(*kernel.lattice(part.shape))])

    assert pivots(samples) == [tuple(map(wanted, both)) for both in zip(*parts, strict=True)]
