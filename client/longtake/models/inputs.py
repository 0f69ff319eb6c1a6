"""Model the inputs of a job: files that travel to the store once, by their content."""

import hashlib
import json
from typing import Self

from pydantic import Field, model_validator

from longtake.models.fields import Contract
from longtake.paths import BOOKKEEPING_FOLDER, has_control_characters
from longtake.text import quote_value

# Folder of inputs beside the folders of jobs; no job may have it as id.
INPUTS = "inputs"
INPUTS_FOLDER = f"{BOOKKEEPING_FOLDER}/{INPUTS}"

# A bound, because hosts read the whole list and check each file before each attempt.
MOST_INPUTS = 100_000
# The longest list that so many paths make, and far below what would trouble a host.
LARGEST_MANIFEST_BYTES = 256 * 2**20


def content_path(sha256: str) -> str:
    """Return the path of an uploaded content in its store, by its SHA-256."""
    return f"{INPUTS_FOLDER}/{sha256}"


def manifest_path(sha256: str) -> str:
    """Return the path of the manifest of a bundle in its store, by its SHA-256."""
    return f"{INPUTS_FOLDER}/{sha256}.json"


def check_input_path(path: str) -> None:
    """Raise unless a path of others names a file below a folder.

    Raises:
        ValueError: What is wrong and the fix, without the field's name.
    """
    if not path.isprintable() and has_control_characters(path):
        raise ValueError(f"{quote_value(path)} holds a control character such as NUL or a newline; rename the file")
    if any("\ud800" <= character <= "\udfff" for character in path):
        raise ValueError(f"{quote_value(path)} is not UTF-8; rename the file")
    parts = path.split("/")
    if path.startswith("/") or ".." in parts:
        raise ValueError(f"{quote_value(path)} leads out of the folder of the inputs; name a file below it")
    if "" in parts or "." in parts:
        raise ValueError(f"{quote_value(path)} is no plain path; take out empty names and dots")
    if len(path.encode()) > 1000 or any(len(part.encode()) > 255 for part in parts):
        raise ValueError(f"{quote_value(path)} is longer than file systems allow; shorten it")


class InputFile(Contract):
    """A file that renders read: its path, content and mode."""

    path: str = Field(description="where renders find it, relative to the folder they run in")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="digest of its content, and its name in the store")
    size_bytes: int = Field(ge=0)
    executable: bool = False


class InputManifest(Contract):
    """List of all files that the renders of a job read; a client uploads the list, and each rendering host reads it.

    A manifest in a store is not trusted: readers check each path again.
    """

    files: tuple[InputFile, ...] = Field(max_length=MOST_INPUTS)

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        paths: set[str] = set()
        folders: set[str] = set()
        for file in self.files:
            check_input_path(file.path)
            if file.path in paths:
                raise ValueError(f"{quote_value(file.path)} stands twice among the inputs")
            paths.add(file.path)
            folder = file.path.rpartition("/")[0]
            while folder and folder not in folders:
                folders.add(folder)
                folder = folder.rpartition("/")[0]
        if both := paths & folders:
            raise ValueError(f"{quote_value(min(both))} is a file and a folder among the inputs")
        return self

    def to_bytes(self) -> bytes:
        """Return the manifest as it is stored; the same files make the same bytes, and so the same digest."""
        document = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    def bundle(self) -> "InputBundle":
        """Return the reference to these files that a job carries."""
        return InputBundle(
            sha256=hashlib.sha256(self.to_bytes()).hexdigest(),
            files=len(self.files),
            size_bytes=sum(file.size_bytes for file in self.files),
        )


class InputBundle(Contract):
    """Reference of a job to the files that a client uploaded to its store for the renders.

    ```
    .longtake/inputs/<sha256>         the content of a file; all jobs of the store share it
                     <sha256>.json    a manifest: paths, digests and sizes of the files of one bundle
    ```

    A manifest is uploaded after all its files, so that the files of an existing manifest exist.
    """

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="digest of the manifest")
    files: int = Field(ge=0, description="how many files")
    size_bytes: int = Field(ge=0, description="how much they hold together")
    render_sha256: str | None = Field(
        default=None,
        pattern=r"^([0-9a-f]{64})?$",
        description="digest of the manifest without files for the film, where it has some; empty if it has only such",
    )
