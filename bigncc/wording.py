"""What a transform does, in words."""

import math
from itertools import combinations

import numpy as np

from bigncc.transform import Displacement, Floats, Transform, Translation, points


def in_words(transform: Transform, shape: tuple[int, ...]) -> str:
    """Return what a transform does to a reference of `shape`, to a thousandth of a pixel at its centre.

    A positive turn is counter-clockwise as an image is shown, with y downwards.
    """
    if isinstance(transform, Displacement):
        step = " x ".join(map(str, dict.fromkeys(s for _, s, _ in transform.grid)))
        return f"pulled through a displacement field of {step} pixels between nodes"
    if isinstance(transform, Translation) or transform.only_shifts:
        return f"shifted by {shift_in_words(transform.offset)} pixels"
    names, matrix = ("z", "y", "x")[-transform.ndim :], np.array(transform.matrix)
    mirrored = bool(np.linalg.det(matrix) < 0)
    if mirrored:
        matrix[:, -1] *= -1
    scales = np.linalg.norm(matrix, axis=0)
    # how far what is square in the reference is from being so in the moving image
    columns = combinations((matrix / scales).T, 2)
    shear = max(abs(math.degrees(math.asin(np.clip(a @ b, -1.0, 1.0)))) for a, b in columns)
    each = [f"{scale:.3f} ({name})" for name, scale in zip(names, scales, strict=True)]
    said = ["mirrored along x"] if mirrored else []
    said += [_turn_in_words(matrix), f"scaled by {', '.join(each[:-1])} and {each[-1]}"]
    said += [f"sheared by {shear:.2f} degrees"] if round(shear, 2) else []
    centre = (np.array(shape) - 1) / 2
    shift = tuple((points(transform, centre) - centre).tolist())
    return f"pulled through an affine transform: {', '.join(said)}, shifted by {shift_in_words(shift)} at the centre"


def _turn_in_words(matrix: Floats) -> str:
    """Return the nearest rotation: what is left of a matrix without scale and shear."""
    left, _, right = np.linalg.svd(matrix)
    turn = left @ right
    if len(turn) == 2:
        angle, about = math.atan2(turn[1, 0], turn[0, 0]), ""
    else:
        # the axis is what stays: the eigenvector of 1; its direction and the angle's sign belong together
        axis = np.linalg.svd(turn - np.eye(3))[2][-1]
        axis *= np.sign(axis[np.abs(axis).argmax()])
        twice = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
        angle = math.atan2(float(axis @ twice) / 2, (float(np.trace(turn)) - 1) / 2)
        about = f" about {shift_in_words(tuple(axis.tolist()))}"
    degrees = round(math.degrees(angle), 2) + 0.0
    return f"turned by {degrees:+.2f} degrees{about if degrees else ''}"


def shift_in_words(offset: tuple[float, ...]) -> str:
    """Return a shift as ``y +1.25, x -3``, to a thousandth."""
    names = ("z", "y", "x")[-len(offset) :]
    # + 0.0 makes a zero of a negative zero
    numbers = (f"{round(value, 3) + 0.0:+.3f}".rstrip("0").removesuffix(".") for value in offset)
    return ", ".join(f"{name} {number}" for name, number in zip(names, numbers, strict=True))
