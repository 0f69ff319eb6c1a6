"""What renders read: files that travel to the store once, by their content."""

from pydantic import Field

from longtake.contract import Contract


class InputFile(Contract):
    """One file that renders read."""

    path: str = Field(description="where renders find it, relative to the folder they run in")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="digest of its content, and its name in the store")
    size_bytes: int = Field(ge=0)
    executable: bool = False


class InputManifest(Contract):
    """All files that the renders of a job read."""

    files: tuple[InputFile, ...]


class InputBundle(Contract):
    """Files that were handed in to the job's store: `.longtake/inputs/<sha256>` holds the manifest, and each file."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="digest of the manifest")
    files: int = Field(ge=0, description="how many files")
    size_bytes: int = Field(ge=0, description="how much they hold together")
