"""What workers and keepers say to each other: JSON objects, one a line."""

import json
from typing import Any

Message = dict[str, Any]


def encode(message: Message) -> bytes:
    """Return a message as it travels."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


class Messages:
    """Puts messages together from what arrives."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are complete with this."""
        self._rest += data
        if b"\n" not in data:
            return []
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        return [json.loads(line) for line in lines]
