"""A file system of a few bytes, that tests fill and make room on."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def small_disk(place: Path, size_bytes: int) -> Iterator[Path]:
    """Mount a file system of so many bytes at a path while the block runs."""
    place.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True)
    assert done.returncode == 0, f"a small disk cannot be mounted: {done.stderr.strip()}; run the tests as root"
    try:
        yield place
    finally:
        # Lazily: a process that is about to end may still have a file open.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill_disk(place: Path) -> Path:
    """Write a file until not a byte more fits, and return it: to remove it makes room."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size_bytes in (1 << 16, 1):
            # Unbuffered, a write that does not fit is short before the next one fails.
            with suppress(OSError):
                while file.write(bytes(size_bytes)):
                    pass
    return ballast
