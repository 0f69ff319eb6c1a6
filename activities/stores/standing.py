"""Whether what was published still stands, and taking it back where it does not."""

from contextlib import suppress
from pathlib import Path

from activities.media.errors import MediaError
from activities.media.images import check_image
from activities.stores.job_folder import FILM, JobFolder
from activities.stores.kept_frames import FinishedFrame, KeptFrames, signature_of
from activities.stores.records import PublishedFile, Sidecar
from longtake.stores.directory import file_digest
from longtake.stores.store import Store, each


def is_intact(store: Store, sidecar: Sidecar) -> bool:
    """Tell whether the published files are still there as they were published.

    A file of the right size and time, or for whose digest the store vouches, is believed; one of another time,
    restored or exchanged, is read to be sure.
    """
    return all(each(store, lambda file: _is_intact(store, file), sidecar.files))


def revoke(folder: JobFolder, key: str) -> None:
    """Take back a finished chunk whose files were damaged afterwards, so that what is damaged is rendered again.

    Of an image sequence all sound frames are kept, so that a later attempt renders only the others.
    """
    sidecar = folder.sidecar(key)
    if sidecar is None:
        return
    brought = folder.attempt_dir(key, "revoked")
    sound = _sound_frames(folder, sidecar, folder.store.local(brought))
    KeptFrames(folder, key).keep(sidecar.attempt, sound)
    folder.store.remove_all(brought)
    kept = {frame.frame for frame in sound}
    for frame, file in enumerate(sidecar.files):
        with suppress(FileNotFoundError):
            if frame in kept:
                folder.store.remove(file.path)
            else:
                folder.set_aside(file.path, f"{key}.{file.path.rpartition('/')[2]}")
    folder.set_aside(folder.sidecar_path(key), f"{key}.json")
    folder.store.remove(folder.claim_path(key))


def _is_intact(store: Store, file: PublishedFile) -> bool:
    there = store.stat(file.path)
    if there is None or there.size_bytes != file.size_bytes:
        return False
    if there.sha256 is not None:
        return there.sha256 == file.sha256
    with suppress(OSError):
        return file.modified_ns in (0, there.modified_ns) or store.digest(file.path) == file.sha256
    return False


def _sound_frames(folder: JobFolder, sidecar: Sidecar, place: Path) -> list[FinishedFrame]:
    """Return the files of an image sequence that still are what was published."""
    if sidecar.key == FILM or sidecar.video is not None or sidecar.width is None:
        return []
    sound = []
    for frame, file in enumerate(sidecar.files):
        with suppress(OSError, MediaError):
            path = folder.store.bring(file.path, place / Path(file.path).name, sha256=file.sha256)
            before = signature_of(path.stat())
            if file_digest(path) == file.sha256:
                sound.append(FinishedFrame(frame, path, check_image(path), before))
    return sound
