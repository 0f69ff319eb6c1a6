"""Have open files read by a process of its own: decoders are C, and the files are somebody else's.

The process gets descriptors and no names: a file may lose its name while it is read. It is started with `-I` and an
empty environment, so that nothing of the environment and no folder of a job is searched for modules. It runs this file,
which imports nothing but the standard library, and loads a program: a module with `make_answer`, which is called with
the arguments and returns an `Answer`, with `MOST_CPU_SECONDS` of one request, and `MOST_MEMORY_BYTES` of the process.
"""

import importlib.util
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

# Descriptors that travel with one message; Linux takes 253.
MOST_FILES = 200
_LONGEST_MESSAGE = 1 << 16
_CRASHED = "its decoder has crashed, or took more memory or time than it may"

# What a program makes of a request and the paths of its files: what it tells, and its bytes.
Answer = Callable[[dict[str, Any], Sequence[str]], tuple[dict[str, Any], bytes]]


class ProcessFailedError(Exception):
    """A request that came to nothing; the text is a sentence without its end."""


class DescriptorProcess:
    """A process that answers one request at a time; not to be shared by threads. The first request starts it.

    Args:
        program: Path of the program.
        arguments: Its arguments.
        most_seconds: How long an answer may take.
    """

    def __init__(self, program: str, *arguments: str, most_seconds: float) -> None:
        self._program = (program, *arguments)
        self._most_seconds = most_seconds
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: socket.socket | None = None
        self._links: tempfile.TemporaryDirectory[str] | None = None

    def ask(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> tuple[dict[str, Any], bytes]:
        """Send a request with open files and return the answer: what it tells, and its bytes; blocking.

        Args:
            request: What is asked; `suffix` in it is the extension of the files.
            descriptors: The files, `MOST_FILES` at most; they stay the caller's.

        Raises:
            ProcessFailedError: The process could not do it, or has ended.
        """
        try:
            channel = self._start()
            socket.send_fds(channel, [json.dumps(request).encode()], descriptors)
            with channel.makefile("rb") as answers:
                answer: dict[str, Any] = json.loads(answers.readline() or b"{}")
                data = answers.read(answer.get("size_bytes", 0))
        except (OSError, ValueError) as error:
            self.close()
            raise ProcessFailedError(f"{_CRASHED}: {error}") from error
        if not answer or len(data) != answer["size_bytes"]:
            self.close()
            raise ProcessFailedError(_CRASHED)
        if answer["error"]:
            raise ProcessFailedError(answer["error"])
        return answer, data

    def _start(self) -> socket.socket:
        if self.process is not None and self.channel is not None and self.process.poll() is None:
            return self.channel
        self.close()
        # Ours, because the process is killed as a rule; it removes the folder itself when we are.
        self._links = tempfile.TemporaryDirectory(prefix="longtake-files-", ignore_cleanup_errors=True)
        command = [sys.executable, "-I", __file__, self._links.name, *self._program]
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                command, env={}, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        ours.settimeout(self._most_seconds)
        self.channel = ours
        return ours

    def close(self) -> None:
        """End the process; it holds nothing that could be lost."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        if self._links is not None:
            self._links.cleanup()
            self._links = None


def main() -> None:
    """Answer requests of `DescriptorProcess.ask`, in its process, until the other side is closed."""
    spec = importlib.util.spec_from_file_location("program", sys.argv[2])
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (program.MOST_MEMORY_BYTES, program.MOST_MEMORY_BYTES))
    # Renders come first.
    os.nice(19)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    answer: Answer = program.make_answer(*sys.argv[3:])
    place = Path(sys.argv[1])
    with socket.socket(fileno=0) as channel:
        while True:
            message, descriptors, _, _ = socket.recv_fds(channel, _LONGEST_MESSAGE, MOST_FILES)
            if not message:
                with suppress(FileNotFoundError):
                    place.rmdir()
                return
            began = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, program.MOST_CPU_SECONDS)
            error, told, data = _answer(answer, json.loads(message), descriptors, place)
            signal.setitimer(signal.ITIMER_PROF, 0)
            told |= {"error": error, "size_bytes": len(data), "cpu_seconds": time.process_time() - began}
            channel.sendall(json.dumps(told).encode() + b"\n" + data)


def _answer(
    answer: Answer, request: dict[str, Any], descriptors: Sequence[int], place: Path
) -> tuple[str, dict[str, Any], bytes]:
    # Decoders choose by the extension, and open by name.
    paths = [place / f"{number:06}{request['suffix']}" for number in range(len(descriptors))]
    try:
        for path, descriptor in zip(paths, descriptors, strict=True):
            path.symlink_to(f"/dev/fd/{descriptor}")
        return "", *answer(request, list(map(str, paths)))
    except MemoryError:
        return "it takes more memory than it may", {}, b""
    except Exception as error:  # whatever a file brings about is the file's, and the next one may be sound
        return f"{error}" or type(error).__name__, {}, b""
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    main()
