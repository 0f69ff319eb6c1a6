"""The sidecars of the chunks of a film, packed: those of 100,000 chunks take 800 MB as objects and 25 MB so."""

import pickle
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from activities.stores.job_folder import Sidecar

# Sidecars that are packed together, so that what they have in common is kept once.
_BLOCK = 100


class ProvenChunks(Sequence[Sidecar]):
    """The sidecars of proven chunks in film order, to be gone through from one end to the other.

    Access out of order is slow: it unpacks a whole block.

    Args:
        sidecars: The sidecars.
    """

    def __init__(self, sidecars: Iterable[Sidecar] = ()) -> None:
        # Unpacked by this process alone, and never written down.
        self._blocks: list[bytes] = []
        self._last: list[Sidecar] = []
        self._unpacked: tuple[int, list[Sidecar]] = (-1, [])
        self._numbers = array("L")
        self.frames = 0
        for sidecar in sidecars:
            self.append(sidecar)

    def append(self, sidecar: Sidecar) -> None:
        """Add the sidecar of the next chunk."""
        self._last.append(sidecar)
        self._numbers.append(int(sidecar.key))
        self.frames += sidecar.frames
        if len(self._last) == _BLOCK:
            self._blocks.append(zlib.compress(pickle.dumps(self._last), level=1))
            self._last = []

    @property
    def numbers(self) -> Sequence[int]:
        """Numbers of the chunks in the job."""
        return self._numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Sidecar]:
        for number in range(len(self._blocks) + 1):
            yield from self._block(number)

    @overload
    def __getitem__(self, index: int) -> Sidecar: ...
    @overload
    def __getitem__(self, index: slice) -> "list[Sidecar]": ...
    def __getitem__(self, index: int | slice) -> "Sidecar | list[Sidecar]":
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return self._block(place // _BLOCK)[place % _BLOCK]

    def _block(self, number: int) -> list[Sidecar]:
        if number == len(self._blocks):
            return self._last
        # Read and written at once, because threads may share it.
        known, sidecars = self._unpacked
        if known != number:
            sidecars = pickle.loads(zlib.decompress(self._blocks[number]))
            self._unpacked = number, sidecars
        return sidecars
