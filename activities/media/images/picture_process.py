"""Have small pictures of image files made by a process of bounded memory and CPU time (`picture_main`)."""

import json
import socket
import subprocess
import sys
from typing import Self

from activities.media.images import picture_main

# Longer than the limit on CPU time of the process, which is of the lowest priority on a host that renders.
_MOST_SECONDS = 120.0


class PictureFailedError(Exception):
    """A picture that could not be made; the text is a sentence without its end."""


class PictureProcess:
    """A process that makes one picture at a time; not to be shared by threads. It is started when it is asked first.

    Args:
        config: The configuration of OpenColorIO whose transforms it keeps.
    """

    def __init__(self, config: str) -> None:
        self.config = config
        self.process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def make_picture(
        self, descriptor: int, *, suffix: str, reader: str, longest: int, colours: dict[str, str] | None
    ) -> bytes:
        """Make the picture of an open image file; blocking.

        Args:
            descriptor: The file.
            suffix: The extension of its name.
            reader: Name of OpenImageIO's reader of its format; empty where it has none.
            longest: Longest side of the picture, in pixels.
            colours: Conversion of its colours, `input`, `output` and `view`; None for a file that is shown as it is.

        Raises:
            PictureFailedError: No picture could be made.
        """
        request = {"suffix": suffix, "reader": reader, "longest": longest, "colours": colours}
        try:
            channel = self._start()
            socket.send_fds(channel, [json.dumps(request).encode()], [descriptor])
            with channel.makefile("rb") as answers:
                answer = json.loads(answers.readline() or b'{"error": "its decoder has crashed", "size_bytes": 0}')
                data = answers.read(answer["size_bytes"])
        except (OSError, ValueError) as error:
            self.close()
            raise PictureFailedError(f"its decoder gives no answer: {error}") from error
        if not data:
            if "crashed" in answer["error"]:
                self.close()
            raise PictureFailedError(answer["error"])
        return data

    def _start(self) -> socket.socket:
        if self.process is not None and self._channel is not None and self.process.poll() is None:
            return self._channel
        self.close()
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                # -I: nothing of the environment and no folder of the job is searched for modules.
                [sys.executable, "-I", picture_main.__file__, self.config],
                env={},
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        ours.settimeout(_MOST_SECONDS)
        self._channel = ours
        return ours

    def close(self) -> None:
        """End the process; it holds nothing that could be lost."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
