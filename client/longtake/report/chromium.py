"""Print a report as PDF by a Chromium that is there: its engine is the one that the page was made for."""

import os
import shutil
import subprocess
from pathlib import Path

from longtake.errors import LongtakeError
from longtake.temporary_folder import TemporaryFolder
from longtake.text import shorten_line

BROWSER_VARIABLE = "LONGTAKE_BROWSER"

_NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "microsoft-edge-stable",
    "msedge",
    "brave-browser",
)
_PLACES = (
    "/snap/bin/chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)
_ARGUMENTS = (
    "--headless",
    "--disable-gpu",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pdf-header-footer",
)

# A report of a million chunks takes seconds; a browser that hangs is ended.
_MOST_SECONDS = 180.0


def find_chromium() -> str:
    """Return the path of a Chromium, Chrome or Edge on this host.

    Raises:
        LongtakeError: There is none where they usually are.
    """
    named = os.environ.get(BROWSER_VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise LongtakeError(f"{BROWSER_VARIABLE}: {named} cannot be run; name a Chromium, Chrome or Edge")
        return found
    path = find_installed()
    if path is None:
        raise LongtakeError(
            "--pdf: no Chromium, Chrome or Edge is found here; install one, name one in "
            f"{BROWSER_VARIABLE}, or print the HTML report from any browser"
        )
    return path


def find_installed() -> str | None:
    """Return the path of a Chromium, Chrome or Edge where they usually are; None where there is none."""
    found = [path for path in map(shutil.which, _NAMES) if path is not None]
    return next((path for path in (*found, *_PLACES) if Path(path).is_file()), None)


def print_pdf(page: str, target: Path) -> None:
    """Print an HTML page into a PDF file; blocking.

    Args:
        page: The page, which needs nothing but itself.
        target: The file; an older one is replaced.

    Raises:
        LongtakeError: There is no browser, or it has made no PDF.
    """
    browser = find_chromium()
    with TemporaryFolder("report") as folder:
        source, made = folder / "report.html", folder / "report.pdf"
        source.write_text(page, encoding="utf-8")
        # Root has no sandbox of user namespaces; the page is our own, and its policy allows no script.
        sandbox = ("--no-sandbox",) if getattr(os, "geteuid", lambda: 1)() == 0 else ()
        command = [browser, *_ARGUMENTS, *sandbox, f"--user-data-dir={folder}/profile", f"--print-to-pdf={made}"]
        try:
            ended = subprocess.run(
                [*command, source.as_uri()],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_MOST_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LongtakeError(f"--pdf: {browser} has not ended after {_MOST_SECONDS:g} s; try another one") from error
        except OSError as error:
            raise LongtakeError(f"--pdf: {browser} cannot be started: {error.strerror}") from error
        if not made.is_file():
            said = ended.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise LongtakeError(
                f"--pdf: {browser} has made no PDF (exit code {ended.returncode})"
                + (f": {shorten_line(said[0], 300)}" if said else "")
            )
        shutil.copyfile(made, target)
