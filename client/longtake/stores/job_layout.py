"""Locate what belongs to one job in its store: the layout of `.longtake/<job>/` is written here only."""

import re

from longtake.names import job_folder_name
from longtake.paths import BOOKKEEPING_FOLDER

# Key of the film's records, or the first film's; those of chunks have the number of the chunk as key.
FILM = "film"
_FILM_KEY = re.compile(rf"{FILM}(?:-([1-9]\d{{0,8}}))?", re.ASCII)
_TRY_NAME = re.compile(r"(?P<key>\d{6,9})\.(?P<attempt>.+)\.json", re.ASCII)
_PICTURE_NAME = re.compile(r"(\d{6,7})-(-?\d{1,10})\.(?:jpg|webp)", re.ASCII)
# Folders below that of the job: logs, files that were in the way or damaged, and small pictures of chunks.
LOGS = "logs"
ASIDE = "aside"
PICTURES = "pictures"
# Folder below that one: files that renderers made besides their outputs. They go with the job.
OTHERS = "others"
JOB_FILE = "job.json"
LIST_FILE = "list.json"


def chunk_key(chunk: int) -> str:
    """Return the key of a chunk in the names of its records, as in `000012`."""
    return f"{chunk:06}"


def film_key(number: int) -> str:
    """Return the key of the records of a film, counted from 0 in the job."""
    return f"{FILM}-{number}" if number else FILM


def find_film_number(key: str) -> int | None:
    """Return which film a key is of, counted from 0; None for that of a chunk."""
    match = _FILM_KEY.fullmatch(key)
    return int(match[1] or 0) if match else None


def describe_key(key: str) -> str:
    """Return what a key is of, for sentences: `chunk 12`, `the film`, `film[1]`."""
    number = find_film_number(key)
    if number is None:
        return f"chunk {int(key)}"
    return f"film[{number}]" if number else "the film"


def parse_try_name(name: str) -> tuple[int, str] | None:
    """Return which chunk and which attempt the name of the record of a failed try is of; None for other names."""
    match = _TRY_NAME.fullmatch(name)
    return (int(match["key"]), match["attempt"]) if match else None


def parse_picture_name(name: str) -> tuple[int, int] | None:
    """Return which chunk and which frame the name of a small picture is of; None for other names."""
    match = _PICTURE_NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def job_folder_path(store_url: str, job_id: str) -> str:
    """Return the location of the folder of a job in its store."""
    return f"{store_url}/{BOOKKEEPING_FOLDER}/{job_folder_name(job_id)}"


class JobLayout:
    """Tell where the records and the files of one job lie in its store.

    ```
    .longtake/<job>/job.json           the job as accepted
                    list.json          its chunk list, when that is a file of its own
                    film.json          sidecar of the film; of the second of several: film-1.json
                    chunks/<chunk>.json  sidecars: a chunk is finished when its own is there
                    claims/<chunk>.json  winners that are being published
                    segments/<first>-<last>.<attempt>.jsonl  sidecars of the chunks that one attempt at a span finished
                             <first>-<last>.<attempt>.<number>.part  the same while it goes on; see `segments`
                    revoked/<chunk>.<attempt>.json  sidecars of segments that were taken back
                    attempts/<chunk>/<attempt>/  what attempts write
                    attempts/film/parts/  finished parts of a film of thousands of chunks
                    frames/<chunk>/    finished frames of chunks that are not finished
                    rerender/<request>.json  what a request to render frames anew takes back
                    tries/<chunk>.<attempt>.json  tries that failed, the newest of each chunk; see `try_records`
                    remote/<chunk>/    calls of services that render, see `activities.remote.protocol`
                    logs/<chunk>.<attempt>.log
                    pictures/<chunk>-<frame>.jpg  small pictures of finished chunks
                    report.html        report of a job that asks for one, written at its end
                    aside/             files that were in the way, or damaged
                    aside/others/      files that renderers made besides their outputs
    ```

    Args:
        store_url: Location of the store; all locations are of that store.
        job_id: Id of the job.
    """

    def __init__(self, store_url: str, job_id: str) -> None:
        self.job_id = job_id
        self.path = job_folder_path(store_url, job_id)

    @property
    def job_file(self) -> str:
        """Location of the accepted job."""
        return f"{self.path}/{JOB_FILE}"

    @property
    def list_file(self) -> str:
        """Location of the chunk list that came as a file."""
        return f"{self.path}/{LIST_FILE}"

    @property
    def report_file(self) -> str:
        """Location of the report that workers write at the end of a job that asks for one."""
        return f"{self.path}/report.html"

    @property
    def sidecars_dir(self) -> str:
        """Location of the folder of the sidecars of chunks."""
        return f"{self.path}/chunks"

    def sidecar_path(self, key: str) -> str:
        """Return the location of the sidecar of a chunk or a film."""
        return f"{self.path}/{key}.json" if find_film_number(key) is not None else f"{self.sidecars_dir}/{key}.json"

    @property
    def claims_dir(self) -> str:
        """Location of the folder of the records that name winners before publication."""
        return f"{self.path}/claims"

    def claim_path(self, key: str) -> str:
        """Return the location of the record that names the winner of a chunk or the film before publication."""
        return f"{self.claims_dir}/{key}.json"

    @property
    def segments_dir(self) -> str:
        """Location of the folder of the segments."""
        return f"{self.path}/segments"

    @property
    def revoked_dir(self) -> str:
        """Location of the folder for records of segments that were taken back."""
        return f"{self.path}/revoked"

    def revoked_path(self, key: str, attempt: str) -> str:
        """Return the location of the record that takes back what an attempt has written of a chunk into a segment."""
        return f"{self.revoked_dir}/{key}.{attempt}.json"

    @property
    def attempts_root(self) -> str:
        """Location of the folder of the attempts at all chunks."""
        return f"{self.path}/attempts"

    def attempts_dir(self, key: str) -> str:
        """Return the folder of all attempts at a chunk."""
        return f"{self.attempts_root}/{key}"

    def attempt_dir(self, key: str, attempt: str) -> str:
        """Return the folder of one attempt at a chunk."""
        return f"{self.attempts_dir(key)}/{attempt}"

    def frames_dir(self, key: str) -> str:
        """Return the folder of the kept frames of an unfinished chunk."""
        return f"{self.path}/frames/{key}"

    def remote_dir(self, key: str) -> str:
        """Return the folder for the records of calls to services that render a chunk."""
        return f"{self.path}/remote/{key}"

    @property
    def tries_dir(self) -> str:
        """Location of the folder of the tries that failed."""
        return f"{self.path}/tries"

    def try_path(self, key: str, attempt: str) -> str:
        """Return the location of the record of a try that failed."""
        return f"{self.tries_dir}/{key}.{attempt}.json"

    @property
    def rerenders_dir(self) -> str:
        """Location of the folder of the requests to render frames anew."""
        return f"{self.path}/rerender"

    def rerender_path(self, request: str) -> str:
        """Return the location of the record of a request to render frames anew."""
        return f"{self.rerenders_dir}/{request}.json"

    @property
    def logs_dir(self) -> str:
        """Location of the folder for the logs of all attempts."""
        return f"{self.path}/{LOGS}"

    def log_path(self, key: str, attempt: str) -> str:
        """Return the location of the log that an attempt's renderer writes."""
        return f"{self.logs_dir}/{key}.{attempt}.log"

    @property
    def pictures_dir(self) -> str:
        """Location of the folder for small pictures of finished chunks."""
        return f"{self.path}/{PICTURES}"

    def picture_path(self, key: str, frame: int, suffix: str) -> str:
        """Return the location of the small picture of a frame of a chunk."""
        return f"{self.pictures_dir}/{key}-{frame}{suffix}"

    @property
    def aside_dir(self) -> str:
        """Location of the folder for files that were in the way or damaged."""
        return f"{self.path}/{ASIDE}"

    @property
    def others_dir(self) -> str:
        """Location of the folder for files that renderers made besides their outputs."""
        return f"{self.aside_dir}/{OTHERS}"
