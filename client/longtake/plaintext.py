"""What programs print, made harmless: no escape sequences, no control characters, no redacted values."""

import json
import re

# Escape sequences first (CSI, OSC and other strings, two-character ones), then what is left of control characters.
_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)|\x1b[ -/]*[0-~]?"
    r"|\x9b[0-?]*[ -/]*[@-~]|[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

_REDACTED_ENV = re.compile(r"(\s*\"?openjd_redacted_env:\s*)(.*)", re.DOTALL)
_MASK = "********"
# Of shorter values every second line would be full.
_SHORTEST_SECRET = 4
# A program that declares secrets without end must not fill the memory.
_MOST_SECRETS = 256


def plain(text: str) -> str:
    """Return a line without escape sequences and control characters, which could rule a terminal; tabs stay."""
    return text if text.isascii() and text.isprintable() else _CONTROL.sub("", text)


def short_line(text: str, most: int) -> str:
    """Return text as one plain line cut in its middle: what went wrong stands at the beginning and at the end."""
    line = plain(" ".join(text.split()))
    return line if len(line) <= most else f"{line[: most // 2 - 5]} ... {line[len(line) - (most - most // 2) :]}"


class Redactor:
    """Masks the values that a program declared with OpenJD's `openjd_redacted_env: NAME=VALUE`, from then on."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def mask(self, line: str) -> str:
        """Return a plain line as it may be shown, and learn from it what else may not."""
        if "openjd_redacted_env:" in line and (declared := _REDACTED_ENV.fullmatch(line)):
            name, equals, value = _declaration(declared[2]).partition("=")
            self._learn(value)
            return f"{declared[1]}{name}={_MASK}" if equals else f"{declared[1]}{_MASK}"
        for secret in self._secrets:
            line = line.replace(secret, _MASK)
        return line

    def _learn(self, value: str) -> None:
        for part in (value, *value.splitlines()):
            if len(part := plain(part).strip()) >= _SHORTEST_SECRET and len(self._secrets) < _MOST_SECRETS:
                self._secrets.add(part)


def _declaration(text: str) -> str:
    """Return `NAME=VALUE`, which may be written as a JSON string."""
    try:
        decoded = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return decoded if isinstance(decoded, str) else text
