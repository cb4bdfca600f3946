"""Where do two registered images agree? Local correlation maps of images that fit no memory.

The public names are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bigncc.arrays import local_maps, ncc, register, shift_map
    from bigncc.maps import Ssim
    from bigncc.pipeline import run
    from bigncc.prefilter import Prefilter
    from bigncc.registration import Registration
    from bigncc.result import open_result
    from bigncc.storage import open_image
    from bigncc.transform import Affine, Displacement, Translation, compose
    from bigncc.window import Window

_ROOMS = {
    "Affine": "transform",
    "Displacement": "transform",
    "Prefilter": "prefilter",
    "Registration": "registration",
    "Ssim": "maps",
    "Translation": "transform",
    "Window": "window",
    "compose": "transform",
    "local_maps": "arrays",
    "ncc": "arrays",
    "open_image": "storage",
    "open_result": "result",
    "register": "arrays",
    "run": "pipeline",
    "shift_map": "arrays",
}

__all__ = [
    "Affine",
    "Displacement",
    "Prefilter",
    "Registration",
    "Ssim",
    "Translation",
    "Window",
    "compose",
    "local_maps",
    "ncc",
    "open_image",
    "open_result",
    "register",
    "run",
    "shift_map",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        message = f"module 'bigncc' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"bigncc.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
