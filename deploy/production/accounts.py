"""Which account of this host a program runs as, and what that account can reach."""

import hashlib
import os
import pwd
import signal
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

# Gives up root, then has the kernel end the program with its parent: the other way round that would be forgotten. The
# parent is compared because one that died before this line sends no signal any more.
_RUN = (
    "import ctypes, os, sys; library = ctypes.CDLL(None); parent, number, uid, gid = map(int, sys.argv[1:5]); "
    "uid < 0 or (os.setgroups([]), os.setgid(gid), os.setuid(uid)); "
    "sys.platform == 'linux' and library.prctl(1, number); "
    "os.getppid() == parent and os.execvp(sys.argv[5], sys.argv[5:])"
)


@dataclass(frozen=True)
class Account:
    """An account that is not root's; `uid` -1 stands for whoever runs this."""

    uid: int = -1
    gid: int = -1

    @classmethod
    def for_database(cls) -> Self:
        """Return the account for PostgreSQL, which refuses to run as root."""
        if os.geteuid() != 0:
            return cls()
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(entry.pw_uid, entry.pw_gid)
        return cls(65534, 65534)

    def command(self, words: Sequence[str], ending_with: signal.Signals = signal.SIGTERM) -> list[str]:
        """Return the command so that it runs as this account, and is sent a signal when its parent is gone.

        Args:
            words: The command; its program is looked for on PATH.
            ending_with: What it is sent; on Linux only.
        """
        numbers = (os.getpid(), int(ending_with), self.uid, self.gid)
        return [sys.executable, "-ISc", _RUN, *map(str, numbers), *words]

    def own(self, folder: Path) -> None:
        """Make a folder that only this account may read and write."""
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        if self.uid >= 0:
            os.chown(folder, self.uid, self.gid)

    def reaches(self, folder: Path) -> bool:
        """Return whether this account may pass through a folder and all above it."""
        if self.uid < 0:
            return True
        return all(self._passes(path) for path in (folder, *folder.parents))

    def place_for(self, folder: Path) -> Path:
        """Return a folder of the same content that this account reaches: the given one, or one in /var/tmp.

        A checkout in a home folder is closed to other accounts. The other place is the same each time.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if self.reaches(folder):
            return folder
        name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
        place = Path("/var/tmp") / f"longtake-{name}"
        place.mkdir(mode=0o755, exist_ok=True)
        return place

    def _passes(self, folder: Path) -> bool:
        seen = folder.stat()
        if seen.st_uid == self.uid:
            return bool(seen.st_mode & stat.S_IXUSR)
        if seen.st_gid == self.gid:
            return bool(seen.st_mode & stat.S_IXGRP)
        return bool(seen.st_mode & stat.S_IXOTH)
