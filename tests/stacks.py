"""Synthetic stacks of sections whose content changes slowly, some of them planted shifted or damaged."""

import numpy as np
from scipy import ndimage

from tests import scenes

SHIFTS = {7: (3, -2), 15: (0, 2), 24: (-6, 2)}
"""Section, and by how many pixels it is shifted."""

DAMAGED = 33


def sections(
    count, shape, *, kind="uint8", shifts=SHIFTS, damaged=DAMAGED, how="blank", alike=0.97, noise=0.25, seed=0
):
    """Return a stack: each section is `alike` the one before, has noise of its own, and may be planted.

    `how` a section is damaged: ``blank`` (a third of it has one grey level) or ``blur``.
    """
    rng = np.random.default_rng(seed)
    margin = 8
    whole = tuple(n + 2 * margin for n in shape)
    content, stack = scenes.scene([seed, 0], whole, 2.0), np.empty((count, *shape), kind)
    middle, contrast = (128, 30) if kind == "uint8" else (20000, 3000)
    for z in range(count):
        new = scenes.scene([seed, z + 1], whole, 2.0)
        content = alike * content + np.sqrt(1 - alike**2) * new
        dy, dx = shifts.get(z, (0, 0))
        view = content[margin + dy : margin + dy + shape[0], margin + dx : margin + dx + shape[1]]
        view = view + noise * rng.standard_normal(shape)
        if z == damaged and how == "blur":
            view = ndimage.gaussian_filter(view, 4)
        stack[z] = np.clip(np.round(middle + contrast * view), 0, np.iinfo(kind).max)
        if z == damaged and how == "blank":
            stack[z, : shape[0] // 3] = middle
    return stack
