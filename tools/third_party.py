"""Print the table of packages in THIRD_PARTY.md, from what is installed: `python tools/third_party.py`."""

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]

# What is given away, and the extras of longtake that are installed in it.
PLACES = {
    "client": ("", "cli", "s3", "codec", "web"),
    "worker": ("worker",),
    "lambda": ("lambda",),
    "cloud run": ("cloud-run",),
}

# Licences in the words of package metadata from before SPDX.
_SPDX = {
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD": "BSD-2-Clause",
    "Dual License": "Apache-2.0 OR BSD-3-Clause",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "The MIT License (MIT)": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}

# Licences of packages whose metadata name none, as their files tell them.
_IN_FILES = {"axe-playwright-python": "MIT AND MPL-2.0"}


def pinned() -> dict[str, str]:
    """Return the version of each package in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {
        name: version
        for name, _, version in (line.partition("==") for line in lines if line and not line.startswith("#"))
    }


def find_license(package: str) -> str:
    """Return the licence of an installed package, by its SPDX name.

    Raises:
        LookupError: The package does not tell it.
    """
    metadata = distribution(package).metadata
    classifiers: list[str] = metadata.get_all("Classifier") or []
    told: list[str] = [
        *(metadata.get_all("License-Expression") or []),
        *(text.partition("\n")[0] for text in metadata.get_all("License") or []),
        *(each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License :: OSI Approved :: ")),
    ]
    for license in filter(None, told):
        return _SPDX.get(license, license)
    if package in _IN_FILES:
        return _IN_FILES[package]
    raise LookupError(f"{package} does not tell its licence")


def needed(extras: tuple[str, ...]) -> set[str]:
    """Return the packages that longtake brings with these extras, itself left out, by their normalized names."""
    found: set[tuple[str, str]] = set()
    left = [("longtake", extra) for extra in extras]
    while left:
        package = left.pop()
        if package not in found:
            found.add(package)
            left.extend(_requirements(*package))
    return {name for name, _ in found} - {"longtake"}


def _requirements(name: str, extra: str) -> Iterator[tuple[str, str]]:
    if name == "longtake":
        # What is installed of it may be older than the file.
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        texts = project["dependencies"] + (project["optional-dependencies"][extra] if extra else [])
        extra = ""
    else:
        texts = distribution(name).requires or []
    for text in texts:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            for inner in ("", *requirement.extras):
                yield normalize(requirement.name), inner


def normalize(name: str) -> str:
    """Return the name of a package as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def rows() -> list[str]:
    """Return a row for each package in constraints.txt: name, version, licence, and what carries it."""
    places = {place: needed(extras) for place, extras in PLACES.items()}
    table = []
    for name, version in pinned().items():
        carried = [place for place, names in places.items() if normalize(name) in names]
        table.append(f"| {name} | {version} | {find_license(name)} | {', '.join(carried) or 'tests'} |")
    return table


if __name__ == "__main__":
    sys.stdout.write("\n".join(rows()) + "\n")
