"""Publishing: how one attempt's verified files become the result, for ever.

1. The *claim* names the winner: an exclusive create, so that of two attempts exactly one can win.
2. The winner's files get their final names.
3. The *sidecar* commits.

Whoever comes to a claim without a sidecar finishes steps 2 and 3 for the winner, so that a crash between any two
steps costs nothing and never mixes two attempts, also when a chunk has many files.
"""

import os
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from activities.failures import AttemptError
from activities.stores.files import link_new, write_new
from activities.stores.job_folder import JobFolder, file_digest, read_record
from activities.stores.records import PublishedFile, Sidecar


def published_file(made: Path, target: Path) -> PublishedFile:
    """Put a file on disk for good and return what is to be known of it before it is published."""
    with made.open("rb") as file:
        os.fsync(file.fileno())
    return PublishedFile(
        path=str(target), attempt_path=str(made), size_bytes=made.stat().st_size, sha256=file_digest(made)
    )


def publish(folder: JobFolder, winner: Sidecar) -> Sidecar:
    """Publish verified files and return the sidecar that stands: this attempt's, or that of one which came first.

    Raises:
        AttemptError: A file that is none of this job's stands where one must be published.
    """
    winner = winner.model_copy(update={"published_at": datetime.now(UTC)})
    write_new(folder.claim_path(winner.key), winner.model_dump_json(exclude_defaults=True, indent=1).encode())
    standing = finish_claim(folder, winner.key)
    if standing is None:
        raise AttemptError(f"the claim on {winner.key} was withdrawn while it was published")
    return standing


def finish_claim(folder: JobFolder, key: str) -> Sidecar | None:
    """Publish what the winner of a chunk could not finish; return the sidecar, or None where nobody has won yet."""
    if (sidecar := folder.sidecar(key)) is not None:
        return sidecar
    claim = read_record(folder.claim_path(key))
    if claim is None:
        return None
    for file in claim.files:
        if not _place(file):
            # The winner's files are gone with their attempt: somebody cleaned up. Nobody has won then.
            folder.claim_path(key).unlink(missing_ok=True)
            return None
    write_new(folder.sidecar_path(key), claim.model_dump_json(exclude_defaults=True, indent=1).encode())
    discard_attempt(folder, key, claim.attempt)
    return folder.sidecar(key)


def revoke(folder: JobFolder, key: str) -> None:
    """Take back a finished chunk whose files were damaged afterwards, so that it is rendered again."""
    sidecar = folder.sidecar(key)
    if sidecar is None:
        return
    for file in sidecar.files:
        if Path(file.path).exists():
            folder.set_aside(Path(file.path), f"{key}.{Path(file.path).name}")
    folder.set_aside(folder.sidecar_path(key), f"{key}.json")
    folder.claim_path(key).unlink(missing_ok=True)


def is_intact(sidecar: Sidecar) -> bool:
    """Tell whether the published files are still there in their full size."""
    try:
        return all(Path(file.path).stat().st_size == file.size_bytes for file in sidecar.files)
    except OSError:
        return False


def _place(file: PublishedFile) -> bool:
    """Give a file its final name; False when it is neither there nor to be had."""
    target, made = Path(file.path), Path(file.attempt_path)
    try:
        if link_new(made, target):
            return True
    except FileNotFoundError:
        pass
    if not target.exists():
        return False
    if target.stat().st_size == file.size_bytes and (_is_link_of(target, made) or file_digest(target) == file.sha256):
        return True
    raise AttemptError(
        f"{target} stands where this job must publish and is not its own; move it away, then retry the job", fatal=True
    )


def _is_link_of(target: Path, made: Path) -> bool:
    """Tell whether both names are one file: quicker than reading it, while the attempt's name is still there."""
    try:
        return target.samefile(made)
    except FileNotFoundError:
        return False


def discard_attempt(folder: JobFolder, key: str, attempt: str) -> None:
    """Remove what an attempt wrote; a winner's files live on under their final names."""
    place = folder.attempt_dir(key, attempt)
    shutil.rmtree(place, ignore_errors=True)
    with suppress(OSError):
        # Not empty: another attempt of this chunk is still at work.
        place.parent.rmdir()
