"""A folder that knows what was read of it."""

from pathlib import Path

from longtake.stores.directory import DirectoryStore


class WatchedStore(DirectoryStore):
    """A folder that knows what was read of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.read_locations: list[str] = []

    def read(self, location: str, *, most_bytes: int = 1 << 20) -> bytes:
        self.read_locations.append(location)
        return super().read(location, most_bytes=most_bytes)
