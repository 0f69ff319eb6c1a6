"""Which image files of a render are finished, told while it runs."""

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from activities.media.errors import DamagedOutput
from activities.media.images import ImageFacts, check_image
from activities.stores.kept_frames import FinishedFrame, Signature, signature_of

# Structure checks of these follow a file to an end that is written last. Of others a half-written file may pass.
_TELL_THEIR_END = frozenset({"PNG", "JPEG", "OpenEXR", "TIFF"})

# So long has a file of another kind to rest until it counts as finished; the next one counts as proof, too.
_REST_SECONDS = 2.0


class FinishedFrames:
    """Looks at the files of one render again and again; may be called from several threads.

    A file whose rendering is under way never counts. Files that were found finished, or found damaged and not
    written to since, are not read again.

    Args:
        files: The expected file of each frame, by its number in the chunk.
    """

    def __init__(self, files: Mapping[int, Path]) -> None:
        self._open = {path: frame for frame, path in files.items()}
        self._folders = {path.parent for path in self._open}
        self._lock = threading.Lock()
        self._fresh: list[FinishedFrame] = []
        self._newest: dict[Path, int] = {}
        self._seen: dict[Path, tuple[Signature, float]] = {}
        self._refused: dict[Path, Signature] = {}
        self._facts: dict[Path, tuple[Signature, ImageFacts]] = {}

    def take(self, *, writer_is_done: bool = False) -> list[FinishedFrame]:
        """Return the files that were finished since this was last called, in the order of frames.

        Args:
            writer_is_done: Whether the renderer has ended well, so that no file is under way any more.
        """
        with self._lock:
            self._look(writer_is_done)
            fresh, self._fresh = self._fresh, []
        return sorted(fresh, key=lambda found: found.frame)

    def are_all(self) -> bool:
        """Tell whether every file is there and finished."""
        with self._lock:
            self._look(writer_is_done=False)
            return not self._open

    def _look(self, writer_is_done: bool) -> None:
        there = {path: status for folder in self._folders for path, status in self._scan(folder)}
        for path, status in there.items():
            self._newest[path.parent] = max(self._newest.get(path.parent, 0), status.st_mtime_ns)
        for path, status in there.items():
            signature = signature_of(status)
            facts = self._sound(path, signature)
            if facts is not None and (writer_is_done or self._is_finished(path, status, facts)):
                self._fresh.append(FinishedFrame(self._open.pop(path), path, facts, signature))
                self._facts.pop(path, None)

    def _scan(self, folder: Path) -> list[tuple[Path, os.stat_result]]:
        """Return the expected files in a folder that are not known to be finished."""
        found = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    path = folder / entry.name
                    if path in self._open and entry.is_file(follow_symlinks=False):
                        found.append((path, entry.stat(follow_symlinks=False)))
        except FileNotFoundError:
            # The renderer has not begun, or removes what it made.
            pass
        return found

    def _sound(self, path: Path, signature: Signature) -> ImageFacts | None:
        """Return the facts of a file that passes its check; read once for each state of it."""
        if self._refused.get(path) == signature or signature[1] == 0:
            return None
        known = self._facts.get(path)
        if known is not None and known[0] == signature:
            return known[1]
        try:
            facts = check_image(path)
        except DamagedOutput:
            self._refused[path] = signature
            return None
        except OSError:
            # Gone again, or a share that stutters: the next look tells.
            return None
        self._facts[path] = (signature, facts)
        return facts

    def _is_finished(self, path: Path, status: os.stat_result, facts: ImageFacts) -> bool:
        if facts.format in _TELL_THEIR_END:
            return True
        if status.st_mtime_ns < self._newest[path.parent]:
            return True
        # Resting says something only of a file that was decoded: a slow renderer writes a few lines an hour.
        signature = signature_of(status)
        now = time.monotonic()
        seen, since = self._seen.get(path, (None, now))
        if seen != signature:
            self._seen[path] = (signature, now)
            return False
        return facts.width > 0 and now - since >= _REST_SECONDS
