"""Programs of Debian packages without installing them: fetched by apt and unpacked into the project's cache."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path


class PackageError(Exception):
    """A package cannot be had here; says what to install."""


def unpack(name: str, folder: Path, say: Callable[[str], None]) -> Path:
    """Return a folder with the files of a package and of all it needs that is not installed; needs no root.

    Args:
        name: A package without files, which depends on the newest version of itself, as `postgresql` does.
        folder: Where the files are put, or lie already.
        say: Told when this takes a while.

    Raises:
        PackageError: This is no Debian, or apt does not know the package.
    """
    if folder.is_dir():
        return folder
    advice = f"install {name} with your package manager, so that its programs are there"
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise PackageError(f"There is no {name} here and no apt-get to fetch it with: {advice}.")
    package = _newest(name, advice)
    say(f"Fetching {package} from Debian into the cache: about a minute, once.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".get-", dir=folder.parent) as work:
        made, downloads = Path(work, "root"), Path(work, "packages")
        made.mkdir()
        downloads.mkdir()
        # Else apt, as root, downloads as an account that cannot write here, and warns.
        _run(["apt-get", "-o", "APT::Sandbox::User=root", "download", *_needed(package, advice)], downloads, advice)
        for file in sorted(downloads.glob("*.deb")):
            _run(["dpkg", "-x", str(file), str(made)], downloads, advice)
        # What was made is for the account that runs it too; a temporary folder is not.
        made.chmod(0o755)
        return made.replace(folder)


def libraries(root: Path) -> list[Path]:
    """Return the folders with shared libraries in an unpacked tree."""
    return sorted({path.parent for path in root.glob("usr/lib/**/*.so.*")})


def _newest(name: str, advice: str) -> str:
    told = _run(["apt-cache", "depends", name], Path("/"), advice)
    found = re.search(rf"Depends: ({re.escape(name)}-[0-9]+)$", told, re.MULTILINE)
    if found is None:
        raise PackageError(f"apt knows no version of {name}: {advice}.")
    return found[1]


def _needed(package: str, advice: str) -> list[str]:
    """Return the packages that an installation would add, the package itself in any case."""
    told = _run(["apt-get", "--simulate", "--no-install-recommends", "install", package], Path("/"), advice)
    missing = [line.split()[1] for line in told.splitlines() if line.startswith("Inst ")]
    return sorted({package, *missing})


def _run(command: list[str], folder: Path, advice: str) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode != 0:
        why = (done.stderr.strip() or "no output").splitlines()[-1]
        raise PackageError(f"{' '.join(command[:4])} failed ({why}): run `apt-get update` as root, or {advice}.")
    return done.stdout
