"""Zarr in zip files, for reading."""

from __future__ import annotations

import zipfile
from os.path import exists, isfile
from pathlib import Path
from typing import TYPE_CHECKING

from bigncc.documents import is_inside
from bigncc.errors import InputError

if TYPE_CHECKING:
    from zarr.storage import ZipStore

SUFFIXES = (".zip", ".ozx")
"""What zip files are called; the second one is that of OME."""

_ROOTS = {"zarr.json", ".zarray", ".zgroup"}


def within(path: Path) -> tuple[Path, str] | None:
    """Return the zip file that a path leads into and the path inside of it, or None."""
    for place in (path, *path.parents):
        if isfile(place):  # noqa: PTH113 - a name may be too long to ask for
            named = place.suffix.lower() in SUFFIXES
            return (place, path.relative_to(place).as_posix()) if named or zipfile.is_zipfile(place) else None
        if exists(place):  # noqa: PTH110
            break
    return None


def open_zip(file: Path, inner: str) -> tuple[ZipStore, str]:
    """Return a zip file as a store, and the path in it of what `inner` names.

    A zip without Zarr metadata at its top and with a single folder there is that folder.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    from zarr.storage import ZipStore

    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except Exception as error:  # a damaged directory raises anything from BadZipFile to UnicodeDecodeError
        message = f"{file} cannot be read ({type(error).__name__}: {error}): a zip file that is whole is accepted"
        raise InputError(message) from error
    if outside := next((name for name in names if not is_inside(name.removesuffix("/"))), None):
        message = f"{file} holds {outside!r}: a zip file of paths within it is accepted"
        raise InputError(message)
    inner = inner.removeprefix(".")
    folders = {name.partition("/")[0] for name in names if "/" in name} - {"__MACOSX"}
    if len(folders) == 1 and not _ROOTS & set(names):
        (top,) = folders
        inner = inner if inner.partition("/")[0] == top else f"{top}/{inner}".rstrip("/")
    return ZipStore(file, mode="r"), inner
