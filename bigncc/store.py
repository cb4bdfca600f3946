"""Small files on disk: complete or absent, never half."""

import os
import uuid
from pathlib import Path


def get(path: Path) -> bytes | None:
    """Return the bytes of a file, or None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def put(path: Path, data: bytes) -> None:
    """Write a file that is either the old one or the new one at any moment."""
    temporary = _temporary(path, data)
    temporary.replace(path)
    sync(path.parent)


def put_if_absent(path: Path, data: bytes) -> bool:
    """Write a file unless there is one; return whether this call made it. Of several writers one wins."""
    temporary = _temporary(path, data)
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    sync(path.parent)
    return True


def sync(path: Path) -> None:
    """Make what was written to a file, or the names in a directory, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    temporary.write_bytes(data)
    sync(temporary)
    return temporary
