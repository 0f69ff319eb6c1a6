"""Folders that a worker lets jobs read and write."""

import os
from collections.abc import Sequence
from pathlib import Path

from longtake.errors import BadJobError


class Roots:
    """Refuses paths outside a worker's folders, links resolved.

    Args:
        roots: Absolute folders, resolved.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)
        self._passed: set[Path] = set()

    @property
    def default(self) -> Path:
        """The folder for jobs that name none."""
        return self._roots[0]

    def check(self, path: Path, field: str) -> None:
        """Pass a path that lies inside, once its links are followed.

        Raises:
            BadJobError: It lies outside.
        """
        folder = path.parent
        if folder in self._passed and not path.is_symlink():
            return
        real = Path(os.path.realpath(path))
        if not any(real.is_relative_to(root) for root in self._roots):
            allowed = ", ".join(str(root) for root in self._roots)
            raise BadJobError(
                f"{field}: {path} lies outside the folders that jobs may use ({allowed}); move it there, or add its "
                "folder to LONGTAKE_ROOTS"
            )
        if Path(os.path.realpath(folder)) == real.parent:
            self._passed.add(folder)
