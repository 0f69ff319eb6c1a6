"""A renderer's log that grows, and the reader that follows it."""

from pathlib import Path

from activities.progress.reader import ProgressReader, Reading
from longtake.models.policies import ProgressFormat, ProgressSpec


class ProgressPrinter:
    """Prints into a log as a renderer of frames `[start, stop)` does, and reads the progress."""

    def __init__(
        self,
        folder: Path,
        format: ProgressFormat = ProgressFormat.AUTO,
        *,
        start: int = 0,
        stop: int = 100,
        counted_dir: Path | None = None,
    ) -> None:
        self.log = folder / "000000.a.log"
        self.reader = ProgressReader(
            self.log, ProgressSpec(format=format), frames=range(start, stop), counted_dir=counted_dir
        )

    def prints(self, printed: bytes | str) -> Reading:
        """Append to the log and return what is read then."""
        with self.log.open("ab") as file:
            file.write(printed.encode() if isinstance(printed, str) else printed)
        return self.reader.read()

    def readings(self, printed: bytes | str) -> list[Reading]:
        """Return what is read after each line, where it changes."""
        whole = printed.encode() if isinstance(printed, str) else printed
        found = [self.prints(line) for line in whole.splitlines(keepends=True)]
        return [reading for before, reading in zip([None, *found], found, strict=False) if reading != before]
