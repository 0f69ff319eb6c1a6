"""The files that the `inputs` of a job name on this host."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from longtake.errors import BadJobError
from longtake.models.inputs import MOST_INPUTS, InputBundle, check_input_path
from longtake.models.job import RenderJobSpec
from longtake.paths import BOOKKEEPING_FOLDER
from longtake.text import plainly


@dataclass(frozen=True)
class LocalInput:
    """A file of this host that renders read.

    Args:
        field: The key of the job that names it, or the folder it is in.
        path: Its path below `base_dir`, where renders find it.
        file: The file.
        size_bytes: How much it holds now.
        executable: Whether it is a program.
    """

    field: str
    path: str
    file: Path
    size_bytes: int
    executable: bool


def measure_inputs(job: RenderJobSpec) -> tuple[int, int]:
    """Return how many files a job in a bucket hands in, and how many bytes they have; nothing is sent or read.

    Raises:
        BadJobError: One is not there, or cannot be handed in.
    """
    if isinstance(job.inputs, InputBundle):
        return job.inputs.files, job.inputs.size_bytes
    found = find_inputs(job)
    return len(found), sum(file.size_bytes for file in found)


def find_inputs(job: RenderJobSpec) -> list[LocalInput]:
    """Return all files of `inputs` and `audio`, sorted by their paths, each once.

    Links are followed as far as they stay below `base_dir`. Folders are taken with all that is in them but Longtake's
    own bookkeeping; one that is empty leaves nothing to be handed in.

    Raises:
        BadJobError: `inputs[2]: what is wrong; the fix`.
    """
    base = Path(job.base_dir or os.getcwd())
    named = [] if isinstance(job.inputs, InputBundle) else list(job.inputs)
    fields = [(f"inputs[{index}]", name) for index, name in enumerate(named)]
    if job.audio is not None:
        fields.append(("audio", job.audio))
    found: dict[str, LocalInput] = {}
    for field, name in fields:
        for file in _Walk(base, field).files(path_below(base, name, field)):
            found.setdefault(file.path, file)
            if len(found) > MOST_INPUTS:
                raise BadJobError(
                    f"{field}: makes more than {MOST_INPUTS:,} files; name those that renders read, or pack them"
                )
    return [found[path] for path in sorted(found)]


def path_below(base: Path, name: str, field: str) -> str:
    """Return an input's path below `base_dir`, `.` for all of it.

    Raises:
        BadJobError: It lies elsewhere.
    """
    whole = os.path.normpath(base / name)
    path = os.path.relpath(whole, os.path.normpath(base))
    if not name or path == ".." or path.startswith("../"):
        raise BadJobError(
            f"{field}: {plainly(name, 200)} lies outside base_dir ({base}), and only what is below it is handed in; "
            "move it there, or set base_dir to a folder that holds both"
        )
    return path


class _Walk:
    """Finds the files of one input."""

    def __init__(self, base: Path, field: str) -> None:
        self._base = base
        self._inside = os.path.realpath(base)
        self._field = field

    def files(self, path: str) -> Iterator[LocalInput]:
        file = self._base / path
        if not os.path.lexists(file):
            raise self._refused(f"there is no {file}", "put it there, or leave it out")
        self._check_inside(path)
        yield from self._found(path, ())

    def _found(self, path: str, above: tuple[str, ...]) -> Iterator[LocalInput]:
        """Yield what is at a path; `above` are the folders that led there, links resolved."""
        if path != ".":
            self._check_name(path)
        file = self._base / path
        try:
            status = file.stat()
            if stat.S_ISDIR(status.st_mode):
                real = os.path.realpath(file)
                if real in above:
                    raise self._refused(f"{path} is a link to a folder that it lies in", "remove the link")
                with os.scandir(file) as entries:
                    inner = sorted((entry.name, entry.is_symlink()) for entry in entries)
                yield from self._in_folder("" if path == "." else f"{path}/", inner, (*above, real))
                return
        except FileNotFoundError as error:
            raise self._refused(f"{path} is a link to nothing", "mend or remove it") from error
        except OSError as error:
            raise self._refused(f"{path} cannot be read ({error.strerror})", "change its permissions") from error
        if not stat.S_ISREG(status.st_mode):
            raise self._refused(f"{path} is neither a file nor a folder", "take it out")
        yield LocalInput(self._field, path, file, status.st_size, bool(status.st_mode & stat.S_IXUSR))

    def _in_folder(self, prefix: str, inner: list[tuple[str, bool]], above: tuple[str, ...]) -> Iterator[LocalInput]:
        for name, is_link in inner:
            if name == BOOKKEEPING_FOLDER:
                continue
            if is_link:
                self._check_inside(prefix + name)
            yield from self._found(prefix + name, above)

    def _check_inside(self, path: str) -> None:
        real = os.path.realpath(self._base / path)
        if real != self._inside and not real.startswith(f"{self._inside.rstrip('/')}/"):
            raise self._refused(f"{path} leads out of base_dir, to {real}", "copy what it leads to below base_dir")

    def _check_name(self, path: str) -> None:
        try:
            check_input_path(path)
        except ValueError as error:
            raise BadJobError(f"{self._field}: {error}") from error

    def _refused(self, problem: str, fix: str) -> BadJobError:
        return BadJobError(f"{self._field}: {plainly(problem, 400)}; {fix}")
