"""Decoding image files to their last pixel, in processes of bounded memory and CPU time (`decoder_main`)."""

import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from activities.media.facts import JoinStopped
from activities.media.images import decoder_main

# Longer than the limit on CPU time of the process, for stores that are slow to read.
_MOST_SECONDS = 600.0
_LOOK_SECONDS = 0.2
# More processes than this are ended when their file is decoded.
_MOST_IDLE = 2


class DecodeOutcome(StrEnum):
    """What decoding a file came to."""

    DECODED = "decoded"
    DAMAGED = "damaged"
    UNABLE = "unable"


@dataclass(frozen=True)
class Decoded:
    """What decoding a file came to, and why."""

    outcome: DecodeOutcome
    reason: str = ""


class DecoderPool:
    """Processes that decode image files; each decodes one at a time, and is used again.

    Args:
        command: What starts such a process.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self._lock = threading.Lock()
        self._idle: list[subprocess.Popen[bytes]] = []
        # Also when the interpreter ends.
        weakref.finalize(self, _end_all, self._idle)

    def decode(self, path: Path, reader: str, demuxer: str, stop: threading.Event | None = None) -> Decoded:
        """Decode a file; blocking.

        Args:
            path: The file.
            reader: Name of OpenImageIO's reader of its format; empty where it has none.
            demuxer: Name of libav's demuxer, used where OpenImageIO does not know the file; empty for none.
            stop: Ends the decoding when it is set.

        Raises:
            JoinStopped: `stop` was set.
        """
        request = {"path": os.path.abspath(path), "reader": reader, "demuxer": demuxer}
        process = self._take()
        answer = b""
        try:
            answer = _ask(process, json.dumps(request).encode() + b"\n", path, stop)
        finally:
            self._give_back(process, is_well=answer.endswith(b"\n"))
        if not answer.endswith(b"\n"):
            return Decoded(DecodeOutcome.UNABLE, "its decoder crashed, or took more memory or time than a picture may")
        found = json.loads(answer)
        return Decoded(DecodeOutcome(found["outcome"]), found["reason"])

    def close(self) -> None:
        """End all processes that are idle."""
        with self._lock:
            _end_all(self._idle)

    def _take(self) -> subprocess.Popen[bytes]:
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.poll() is None:
                    return process
                _end(process)
        return subprocess.Popen(
            self._command, env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def _give_back(self, process: subprocess.Popen[bytes], *, is_well: bool) -> None:
        if is_well:
            with self._lock:
                if len(self._idle) < _MOST_IDLE:
                    self._idle.append(process)
                    return
        _end(process)


def _ask(process: subprocess.Popen[bytes], request: bytes, path: Path, stop: threading.Event | None) -> bytes:
    """Return the line that answers a request; a shorter one where the process ended or did not answer in time."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(request)
        process.stdin.flush()
    except OSError:
        return b""
    answer = b""
    deadline = time.monotonic() + _MOST_SECONDS
    while not answer.endswith(b"\n") and time.monotonic() < deadline:
        if stop is not None and stop.is_set():
            raise JoinStopped(path.name)
        if not select.select([process.stdout], [], [], _LOOK_SECONDS)[0]:
            continue
        data = os.read(process.stdout.fileno(), 1 << 16)
        if not data:
            break
        answer += data
    return answer


def _end_all(processes: list[subprocess.Popen[bytes]]) -> None:
    while processes:
        _end(processes.pop())


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and close its pipes; it holds nothing that could be lost."""
    process.kill()
    # Which closes pipes also where the last request was never read, when `close` raises.
    process.communicate()


# -I: nothing of the environment and no folder of the job is searched for modules.
pool = DecoderPool([sys.executable, "-I", decoder_main.__file__])
