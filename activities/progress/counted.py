"""Progress as a count of frames rendered: Remotion and Helios."""

import re

from activities.progress.sign import Sign, share_of

# `Rendered 12/300`; Blender's `Rendered 3/64 Tiles` is not meant.
_REMOTION = re.compile(r"\W{0,8}Rendered\s+([0-9]{1,9})\s*/\s*([0-9]{1,9})\b(?!\s*(?:Tiles|samples))")
_HELIOS = re.compile(r"\W{0,8}Progress:\s+Rendered\s+([0-9]{1,9})\s*/\s*([0-9]{1,9})\b")


class _CountFormat:
    """Reads `N / M`: a share of the command's frames, whatever the renderer counts."""

    words = (b"Rendered",)

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def read(self, line: str) -> Sign | None:
        match = self._pattern.match(line)
        if match is None:
            return None
        done, total = int(match[1]), int(match[2])
        return Sign(share=share_of(done, total), message=f"rendered {done} of {total}")


class RemotionFormat(_CountFormat):
    """Reads `Rendered 12/300`."""

    def __init__(self) -> None:
        super().__init__(_REMOTION)


class HeliosFormat(_CountFormat):
    """Reads `Progress: Rendered 12 / 300 frames`."""

    def __init__(self) -> None:
        super().__init__(_HELIOS)
