"""What workers and remote agents leave each other in the store about one chunk; see `activities.remote.protocol`."""

from typing import TypeVar

from pydantic import ValidationError

from activities.remote.protocol import RemoteCall, RemoteProgress, RemoteResult
from activities.stores.job_folder import JobFolder
from longtake.contract import Contract
from longtake.stores.store import each

_Record = TypeVar("_Record", bound=Contract)

_CALL, _BEGAN, _PROGRESS, _STOP, _JOINED, _RESULT = (
    ".call.json",
    ".began.json",
    ".progress.json",
    ".stop.json",
    ".joined.json",
    ".result.json",
)


class RemoteCalls:
    """The calls of services that render one chunk; all methods block, and raise `OSError` while the store is away.

    Args:
        folder: The job's.
        key: Name of the chunk in the bookkeeping.
    """

    def __init__(self, folder: JobFolder, key: str) -> None:
        self._store = folder.store
        self._path = folder.remote_dir(key)

    def attempts(self) -> list[str]:
        """Return the names of all attempts that a service was, or was about to be, called for; sorted."""
        return self._with(_CALL)

    def call(self, attempt: str) -> RemoteCall | None:
        """Return who was called for an attempt, if anyone was."""
        return self._read(attempt, _CALL, RemoteCall)

    def write_call(self, call: RemoteCall) -> None:
        """Worker: write down who is about to be called."""
        self._write(call.attempt, _CALL, call)

    def forget(self, attempt: str) -> None:
        """Worker: take back that anyone was called for an attempt: nothing was begun."""
        self._store.remove(self._location(attempt, _CALL))

    def begin(self, attempt: str) -> bool:
        """Agent: begin an attempt; False when it was begun before, here or on any other instance."""
        return self._store.create(self._location(attempt, _BEGAN), b"{}")

    def has_begun(self, attempt: str) -> bool:
        """Tell whether an agent has begun an attempt."""
        return self._is_there(attempt, _BEGAN)

    def report(self, attempt: str, progress: RemoteProgress) -> None:
        """Agent: say that it lives, and how far it is."""
        self._write(attempt, _PROGRESS, progress)

    def progress(self, attempt: str) -> RemoteProgress | None:
        """Return what the agent reported last, if it has reported."""
        return self._read(attempt, _PROGRESS, RemoteProgress)

    def order_stop(self, attempt: str, reason: str) -> None:
        """Worker: have the agent of an attempt stop; the first reason stands."""
        self._store.create(self._location(attempt, _STOP), _Note(reason=reason).model_dump_json().encode())

    def is_stopped(self, attempt: str) -> bool:
        """Tell whether an attempt was told to stop."""
        return self._is_there(attempt, _STOP)

    def join(self, attempt: str) -> None:
        """Worker: say that someone waits for this attempt although its call was cut."""
        self._store.create(self._location(attempt, _JOINED), b"{}")

    def is_joined(self, attempt: str) -> bool:
        """Tell whether someone has come to wait for an attempt after its call was cut."""
        return self._is_there(attempt, _JOINED)

    def finish(self, result: RemoteResult) -> None:
        """Agent: give the last word on an attempt."""
        self._write(result.attempt, _RESULT, result)

    def result(self, attempt: str) -> RemoteResult | None:
        """Return the agent's last word on an attempt, if it has come."""
        return self._read(attempt, _RESULT, RemoteResult)

    def results(self) -> list[RemoteResult]:
        """Return the last words on all attempts, sorted by their names."""
        found = each(self._store, self.result, self._with(_RESULT))
        return [result for result in found if result is not None]

    def _with(self, ending: str) -> list[str]:
        names = self._store.names(self._path)
        return sorted(name.removesuffix(ending) for name in names if name.endswith(ending))

    def _location(self, attempt: str, ending: str) -> str:
        return f"{self._path}/{attempt}{ending}"

    def _is_there(self, attempt: str, ending: str) -> bool:
        return self._store.stat(self._location(attempt, ending)) is not None

    def _write(self, attempt: str, ending: str, record: Contract) -> None:
        self._store.replace(self._location(attempt, ending), record.model_dump_json().encode())

    def _read(self, attempt: str, ending: str, kind: type[_Record]) -> _Record | None:
        try:
            return kind.model_validate_json(self._store.read(self._location(attempt, ending)))
        except (FileNotFoundError, ValidationError):
            return None


class _Note(Contract):
    reason: str = ""
