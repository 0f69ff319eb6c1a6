"""Whether what was published still stands, and taking it back where it does not."""

from contextlib import suppress
from pathlib import Path

from activities.media.errors import MediaError
from activities.media.images import check_image
from activities.stores.job_folder import FILM, JobFolder, file_digest
from activities.stores.kept_frames import FinishedFrame, KeptFrames, signature_of
from activities.stores.records import PublishedFile, Sidecar


def is_intact(sidecar: Sidecar) -> bool:
    """Tell whether the published files are still there as they were published.

    A file of the right size and time is believed; one of another time, restored or exchanged, is read to be sure.
    """
    return all(map(_is_intact, sidecar.files))


def revoke(folder: JobFolder, key: str) -> None:
    """Take back a finished chunk whose files were damaged afterwards, so that what is damaged is rendered again.

    Of an image sequence all sound frames are kept, so that a later attempt renders only the others.
    """
    sidecar = folder.sidecar(key)
    if sidecar is None:
        return
    sound = _sound_frames(sidecar)
    KeptFrames(folder, key).keep(sidecar.attempt, sound)
    kept = {frame.path for frame in sound}
    for file in sidecar.files:
        path = Path(file.path)
        with suppress(FileNotFoundError):
            if path in kept:
                path.unlink()
            else:
                folder.set_aside(path, f"{key}.{path.name}")
    folder.set_aside(folder.sidecar_path(key), f"{key}.json")
    folder.claim_path(key).unlink(missing_ok=True)


def _is_intact(file: PublishedFile) -> bool:
    try:
        status = Path(file.path).stat()
        if status.st_size != file.size_bytes:
            return False
        return file.modified_ns in (0, status.st_mtime_ns) or file_digest(Path(file.path)) == file.sha256
    except OSError:
        return False


def _sound_frames(sidecar: Sidecar) -> list[FinishedFrame]:
    """Return the files of an image sequence that still are what was published."""
    if sidecar.key == FILM or sidecar.video is not None or sidecar.width is None:
        return []
    sound = []
    for frame, file in enumerate(sidecar.files):
        path = Path(file.path)
        with suppress(OSError, MediaError):
            before = signature_of(path.stat())
            if file_digest(path) == file.sha256:
                sound.append(FinishedFrame(frame, path, check_image(path), before))
    return sound
