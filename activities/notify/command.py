"""Run a command on this worker with an event, as renders run: supervised, bounded, and without the worker's secrets."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from activities.activity_context import attempt_name
from activities.attempts.host import Host
from activities.backends.backend import Progress, RenderTask
from activities.errors import AttemptError, AttemptLostError, DeliveryError
from longtake.concurrency import clean_up_in_thread, run_in_thread
from longtake.models.notify import Notification
from longtake.models.policies import Timeouts

# Of a command that hands a message on.
_TIMEOUTS = Timeouts(chunk_seconds=60, stall_seconds=60, grace_seconds=5)


class _QuietWatcher:
    """Asks nothing of a command, and takes note of nothing."""

    freeze_order = 0
    most_grace_seconds = _TIMEOUTS.grace_seconds

    def on_frozen(self, order: int) -> None:
        pass

    def on_progress(self, progress: Progress) -> None:
        pass


async def run_command(host: Host, command: tuple[str, ...], notification: Notification, message: bytes) -> None:
    """Run a command once, with the message on its standard input; return when it has ended with code 0.

    Args:
        host: This host.
        command: Program and arguments, which the farm allows.
        notification: The event.
        message: The event as JSON.

    Raises:
        DeliveryError: It is not there, has ended otherwise, or ran for longer than a minute.
    """
    program = await run_in_thread(partial(shutil.which, command[0]))
    if program is None:
        raise DeliveryError(f"there is no program {command[0]!r} on {host.name}; install it there")
    attempt = attempt_name("notify")
    tag = {"LONGTAKE_JOB": notification.status.id, "LONGTAKE_CHUNK": "notify", "LONGTAKE_ATTEMPT": attempt}
    told = {
        "LONGTAKE_EVENT": notification.event.value,
        "LONGTAKE_MESSAGE_ID": notification.id,
        "LONGTAKE_SEQUENCE": str(notification.sequence),
        "LONGTAKE_MESSAGE": message.decode(),
    }
    async with _work_folder(host) as folder:
        await run_in_thread(partial((folder / "message.json").write_bytes, message))
        task = RenderTask(
            command=(program, *command[1:]),
            cwd=folder / "work",
            env=host.build_environment({}, tag) | told,
            tag=tag,
            log=folder / "log.txt",
            timeouts=_TIMEOUTS,
            is_first=True,
            folders=(folder / "work",),
            input=folder / "message.json",
        )
        try:
            await host.backend.render(task, _QuietWatcher())
        except (AttemptError, AttemptLostError) as error:
            raise DeliveryError(f"on {host.name} {error}") from error


@asynccontextmanager
async def _work_folder(host: Host) -> AsyncIterator[Path]:
    """Make a folder in the scratch of this host, with one in it that the command may write to; delete both."""
    folder = Path(await run_in_thread(partial(tempfile.mkdtemp, prefix="notify-", dir=host.scratch)))
    try:
        await run_in_thread(partial(_open_folder, folder))
        yield folder
    finally:
        await clean_up_in_thread(partial(shutil.rmtree, folder, ignore_errors=True))


def _open_folder(folder: Path) -> None:
    # The account of renders goes through it, and reads nothing in it: `mkdtemp` lets nobody in.
    folder.chmod(0o711)
    (folder / "work").mkdir()
