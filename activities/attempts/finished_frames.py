"""Finished frames of a render that runs: told by their last byte, by rest, or by the next one."""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from activities.attempts.output_check import inspect_undeclared
from activities.attempts.output_files import UndeclaredFiles
from activities.media.facts import MediaError
from activities.media.images.check import check_image
from activities.media.images.facts import ImageFacts
from activities.media.images.image_formats import ENDS_LAST
from activities.stores.kept_frames import FinishedFrame, Signature, file_signature
from longtake.stores.directory import file_digest

# So long has a file of another kind to rest until it counts as finished; the next one counts as proof, too.
_REST_SECONDS = 2.0

# So large may a file be that is of no frame, and is read each time that it has changed while its renderer runs.
_LARGEST_SHARED_BYTES = 64 << 20

# Names of files that renderers write to before they rename them, and that are not there any more when they are done.
_UNFINISHED_SUFFIXES = frozenset({".tmp", ".temp", ".part", ".partial"})


class FinishedFrameScanner:
    """Search for finished frames of a render that runs; may be called from several threads.

    A file whose rendering is under way never counts. Files that were found finished, or found damaged and not
    written to since, are not read again.

    Args:
        files: The expected files, by their numbers in the chunk.
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

    def take_finished(self, *, writer_is_done: bool = False) -> list[FinishedFrame]:
        """Return the frames that were finished since the last call, in order.

        Args:
            writer_is_done: Whether the renderer has ended well, so that no file is under way any more.
        """
        with self._lock:
            self._look(writer_is_done)
            fresh, self._fresh = self._fresh, []
        return sorted(fresh, key=lambda found: found.frame)

    def is_complete(self) -> bool:
        """Tell whether every expected file is there and finished."""
        with self._lock:
            self._look(writer_is_done=False)
            return not self._open

    def _look(self, writer_is_done: bool) -> None:
        there = {path: status for folder in self._folders for path, status in self._scan(folder)}
        for path, status in there.items():
            self._newest[path.parent] = max(self._newest.get(path.parent, 0), status.st_mtime_ns)
        for path, status in there.items():
            signature = file_signature(status)
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
        except (FileNotFoundError, PermissionError):
            # The renderer has not begun, or removes what it made, or the permissions of its folder.
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
        except MediaError:
            self._refused[path] = signature
            return None
        except OSError:
            # Gone again, or a share that stutters: the next look tells.
            return None
        self._facts[path] = (signature, facts)
        return facts

    def _is_finished(self, path: Path, status: os.stat_result, facts: ImageFacts) -> bool:
        # Of other formats a half-written file may pass.
        if facts.format in ENDS_LAST:
            return True
        if status.st_mtime_ns < self._newest[path.parent]:
            return True
        # Resting says something only of a file that was decoded: a slow renderer writes a few lines an hour.
        signature = file_signature(status)
        now = time.monotonic()
        seen, since = self._seen.get(path, (None, now))
        if seen != signature:
            self._seen[path] = (signature, now)
            return False
        return facts.width > 0 and now - since >= _REST_SECONDS


class WholeFrameScanner:
    """Search for frames of a render that are finished with all files that no output declares.

    A picture or a video among these is finished when it ends as its format says, any other file when the next one of
    its kind was begun. A frame is finished with a file of each kind that others have. Nothing else of a renderer that
    runs, or was ended in the middle, tells whether a file is whole.

    Args:
        finished: Finds the files of outputs that are finished.
        undeclared: The files that no output declares; None where the job asks for none.
        place: Folder that the command was given.
        expected: The files of outputs in it.
        outputs: How many files of outputs each frame has.
        count: How many frames the chunk has.
    """

    def __init__(
        self,
        finished: FinishedFrameScanner,
        undeclared: UndeclaredFiles | None,
        place: Path,
        expected: Collection[Path],
        outputs: int,
        count: int,
    ) -> None:
        self._finished = finished
        self._undeclared = undeclared
        self._place = place
        self._expected = expected
        self._outputs = outputs
        self._count = count
        self._lock = threading.Lock()
        self._waiting: defaultdict[int, list[FinishedFrame]] = defaultdict(list)
        self._newest_ns = 0
        self._facts: dict[Path, tuple[Signature, ImageFacts | None]] = {}
        self._digests: dict[Path, tuple[Signature, str]] = {}
        self._told: dict[str, str] = {}

    def take_finished(self, *, writer_is_done: bool = False) -> tuple[list[FinishedFrame], dict[str, str]]:
        """Return the files of frames that were finished since the last call.

        Args:
            writer_is_done: Whether the renderer has ended well, so that no file is under way any more.

        Returns:
            The files; and with the files of frames, others that no output declares and that were found or changed
            since, by their names: digests of those of no frame.
        """
        with self._lock:
            finished = self._finished.take_finished(writer_is_done=writer_is_done)
            if self._undeclared is None:
                return finished, {}
            for file in finished:
                self._waiting[file.frame % self._count].append(file)
                self._newest_ns = max(self._newest_ns, file.signature[2])
            return self._take_whole(self._undeclared, writer_is_done)

    def is_complete(self) -> bool:
        """Tell whether every expected file is finished, and every other one ends as its format says."""
        if not self._finished.is_complete():
            return False
        found = self._undeclared.find(self._place, self._expected) if self._undeclared is not None else {}
        all_facts = map(_inspect, found.values())
        return all(facts is not None and facts.format in ENDS_LAST for facts in all_facts)

    def _take_whole(
        self, undeclared: UndeclaredFiles, writer_is_done: bool
    ) -> tuple[list[FinishedFrame], dict[str, str]]:
        files: defaultdict[int | None, dict[str, _SeenFile]] = defaultdict(dict)
        newest: defaultdict[str, int] = defaultdict(int)
        for name, path in undeclared.find(self._place, self._expected).items():
            if not writer_is_done and path.suffix.lower() in _UNFINISHED_SUFFIXES:
                continue
            frame, kind = undeclared.find_frame(name)
            # Gone again.
            with suppress(FileNotFoundError):
                seen = files[frame][name] = _SeenFile(path, kind)
                newest[kind] = max(newest[kind], seen.signature[2])
        kinds = {frame: {seen.kind for seen in own.values()} for frame, own in files.items() if frame is not None}
        taken: list[FinishedFrame] = []
        for frame, waiting in sorted(self._waiting.items()):
            own = files[frame]
            if len(waiting) < self._outputs or not (writer_is_done or self._has_moved_on(frame, kinds)):
                continue
            facts = {name: self._look(seen, newest, writer_is_done) for name, seen in own.items()}
            besides = [
                FinishedFrame(frame, own[name].path, found, own[name].signature, name)
                for name, found in facts.items()
                if found is not None
            ]
            if len(besides) == len(own):
                taken += [*waiting, *besides]
        for one in taken:
            self._waiting.pop(one.frame % self._count, None)
        return taken, self._list_others(files, {one.name for one in taken}) if taken else {}

    def _has_moved_on(self, frame: int, kinds: Mapping[int, set[str]]) -> bool:
        """Tell whether a frame has the kinds of files that others have; where none has any, whether a later one is."""
        if others := set[str]().union(*(found for other, found in kinds.items() if other != frame)):
            return others <= kinds.get(frame, set())
        return max(file.signature[2] for file in self._waiting[frame]) < self._newest_ns

    def _look(self, seen: "_SeenFile", newest: dict[str, int], writer_is_done: bool) -> ImageFacts | None:
        """Return the facts of a file that is finished; read once for each state of it."""
        known = self._facts.get(seen.path)
        if known is None or known[0] != seen.signature:
            facts = _inspect(seen.path)
            if not seen.is_unchanged():
                # Written to its end between the two looks: known by this signature, it would be left out of its frame.
                return None
            known = self._facts[seen.path] = (seen.signature, facts)
        facts = known[1]
        if writer_is_done:
            return facts
        is_finished = facts is not None and (facts.format in ENDS_LAST or seen.signature[2] < newest[seen.kind])
        # An empty one may be one of which nothing has come to the disk.
        return facts if is_finished and seen.signature[1] else None

    def _list_others(self, files: "dict[int | None, dict[str, _SeenFile]]", taken: Collection[str]) -> dict[str, str]:
        self._told |= dict.fromkeys(taken, "")
        others = {}
        for frame, own in files.items():
            for name, seen in own.items():
                digest = "" if frame is not None else self._digest(seen)
                if self._told.get(name) != digest:
                    others[name] = self._told[name] = digest
        return others

    def _digest(self, seen: "_SeenFile") -> str:
        known = self._digests.get(seen.path)
        if known is None or known[0] != seen.signature:
            digest = ""
            with suppress(OSError):
                digest = file_digest(seen.path) if seen.signature[1] <= _LARGEST_SHARED_BYTES else ""
            known = self._digests[seen.path] = (seen.signature, digest)
        return known[1]


class _SeenFile:
    """A file that no output declares, as one look has found it."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        self.kind = kind
        self.signature = file_signature(path.stat())

    def is_unchanged(self) -> bool:
        """Tell whether nothing was written to the file since."""
        with suppress(FileNotFoundError):
            return file_signature(self.path.stat()) == self.signature
        return False


def _inspect(path: Path) -> ImageFacts | None:
    """Return the facts of a file; None of one that is damaged or gone."""
    try:
        return inspect_undeclared(path)
    except (MediaError, OSError):
        return None
