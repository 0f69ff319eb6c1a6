"""Find the Chromium that tests look at the page with: `python tools/find_chromium.py` prints where it is.

With `--install` one that is missing is installed where that needs no question: by root, on Debian and Ubuntu.
"""

import os
import shutil
import subprocess
import sys

from longtake.report.chromium import find_installed

HOW = (
    "no Chromium was found for the tests of the page: install it (Debian: `apt-get install chromium`; Fedora: `dnf "
    "install chromium`; macOS: `brew install --cask chromium`), or name yours in LONGTAKE_CHROMIUM"
)


def find_chromium() -> str | None:
    """Return the path of a Chromium, Chrome or Edge of this system; None where there is none.

    `LONGTAKE_CHROMIUM` names another.
    """
    if given := os.environ.get("LONGTAKE_CHROMIUM"):
        return shutil.which(given)
    return find_installed()


def install_chromium() -> None:
    """Install Debian's Chromium.

    Raises:
        OSError: There is no `apt-get`.
        subprocess.CalledProcessError: It could not be installed.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (("update", "-qq"), ("install", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core")):
        subprocess.run(("apt-get", *words), check=True, stdin=subprocess.DEVNULL, env=environment)


def main(arguments: list[str]) -> int:
    """Print the path; return 1 where there is none."""
    found = find_chromium()
    if found is None and "--install" in arguments and os.geteuid() == 0 and shutil.which("apt-get"):
        print("Installing Chromium: a minute.", file=sys.stderr)
        try:
            install_chromium()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"Chromium could not be installed: {error}", file=sys.stderr)
        found = find_chromium()
    if found is None:
        print(f"{HOW}.", file=sys.stderr)
        return 1
    if "--install" not in arguments:
        print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
