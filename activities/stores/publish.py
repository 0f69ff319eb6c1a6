"""Publishing: how one attempt's verified files become the result, for ever.

1. The *claim* names the winner: an exclusive create, so that of two attempts exactly one can win.
2. The winner's files get their final names.
3. The *sidecar* commits.

Whoever comes to a claim without a sidecar finishes steps 2 and 3 for the winner, so that a crash between any two
steps costs nothing and never mixes two attempts, also when a chunk has many files.
"""

import logging
import os
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from activities.failures import AttemptError
from activities.stores.files import link_new, sync_folder, write_new
from activities.stores.job_folder import JobFolder, file_digest, read_record
from activities.stores.kept_frames import KeptFrames, signature_of
from activities.stores.neighbours import makers_of
from activities.stores.records import PublishedFile, Sidecar

_log = logging.getLogger(__name__)


def published_file(made: Path, target: Path) -> PublishedFile:
    """Put a file on disk for good and return what is to be known of it before it is published.

    Raises:
        AttemptError: Somebody writes to it although its renderer has ended.
    """
    with made.open("rb") as file:
        os.fsync(file.fileno())
    before = made.stat()
    digest = file_digest(made)
    if signature_of(made.stat()) != signature_of(before):
        raise AttemptError(f"{made.name} was written to while it was read to be published")
    return PublishedFile(
        path=str(target),
        attempt_path=str(made),
        size_bytes=before.st_size,
        sha256=digest,
        modified_ns=before.st_mtime_ns,
    )


def publish(folder: JobFolder, winner: Sidecar) -> Sidecar:
    """Publish verified files and return the sidecar that stands: this attempt's, or that of one which came first.

    Raises:
        AttemptError: A file that another job has published stands where one must be published.
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
        if folder.frames_dir(key).exists() or folder.attempts_dir(key).exists():
            # Left by a crash right after the sidecar was written, or by an attempt that lost.
            _clear(folder, key)
        return sidecar
    claim = read_record(folder.claim_path(key))
    if claim is None:
        return None
    if not _place_all(folder, claim):
        # The winner's files are gone with their attempt: somebody cleaned up. Nobody has won then.
        folder.claim_path(key).unlink(missing_ok=True)
        return None
    write_new(folder.sidecar_path(key), claim.model_dump_json(exclude_defaults=True, indent=1).encode())
    _clear(folder, key)
    return folder.sidecar(key)


def discard_attempt(folder: JobFolder, key: str, attempt: str) -> None:
    """Remove what an attempt wrote, unless it has won and waits to be published."""
    claim = read_record(folder.claim_path(key))
    if claim is not None and claim.attempt == attempt and folder.sidecar(key) is None:
        return
    place = folder.attempt_dir(key, attempt)
    shutil.rmtree(place, ignore_errors=True)
    with suppress(OSError):
        # Not empty: another attempt of this chunk is still at work.
        place.parent.rmdir()


def _place_all(folder: JobFolder, claim: Sidecar) -> bool:
    """Give the winner's files their final names; False when one is neither there nor to be had."""
    strangers = []
    for file in claim.files:
        if not _place(file):
            if not Path(file.attempt_path).exists():
                return False
            strangers.append(file)
    if strangers:
        _check_nobodys(folder, strangers)
        if not all(_replace(folder, claim.key, file) for file in strangers):
            return False
    for parent in {Path(file.path).parent for file in claim.files}:
        sync_folder(parent)
    return True


def _place(file: PublishedFile) -> bool:
    """Give a file its final name; False when it cannot have it, and does not have it already."""
    target, made = Path(file.path), Path(file.attempt_path)
    try:
        if link_new(made, target, sync=False):
            return True
    except FileNotFoundError:
        pass
    return _is_ours(target, file)


def _is_ours(path: Path, file: PublishedFile) -> bool:
    try:
        if path.stat().st_size != file.size_bytes:
            return False
        # Quicker than reading it, while the attempt's name is still there.
        with suppress(FileNotFoundError):
            if path.samefile(file.attempt_path):
                return True
        return file_digest(path) == file.sha256
    except FileNotFoundError:
        return False


def _check_nobodys(folder: JobFolder, strangers: list[PublishedFile]) -> None:
    """Pass when none of these files is the work of another job."""
    makers = makers_of([Path(file.path) for file in strangers], folder.base_dir, but=folder.job_id)
    for path, job in makers.items():
        raise AttemptError(
            f"{path} stands where this job must publish, and job {job} has made it; move it away, then retry the job",
            fatal=True,
        )


def _replace(folder: JobFolder, key: str, file: PublishedFile) -> bool:
    """Set a foreign file aside and put ours in its place; False when ours is not to be had."""
    target = Path(file.path)
    with suppress(FileNotFoundError):
        aside = folder.set_aside(target, f"{key}.{target.name}")
        if _is_ours(aside, file):
            # Another attempt that finishes the same claim was quicker, and what was moved is its good file.
            link_new(aside, target)
            aside.unlink()
        else:
            _log.warning("job %s: %s is not what was rendered: moved to %s", folder.job_id, target, aside)
    return _place(file)


def _clear(folder: JobFolder, key: str) -> None:
    """Remove what the attempts of a finished chunk have left, those of killed workers included."""
    shutil.rmtree(folder.attempts_dir(key), ignore_errors=True)
    KeptFrames(folder, key).remove()
