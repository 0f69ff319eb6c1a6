"""Judging how a command ended, by the rules of its job and by what it printed itself."""

from activities.backends.backend import RenderTask
from activities.backends.exit_status import Ending
from activities.backends.logsearch import LogSearch
from activities.backends.verdict import Decision, decide
from activities.errors import AttemptError
from activities.progress.log_errors import log_tail, telling_lines
from longtake.models.policies import Verdict


def raise_if_failed(ending: Ending, told: str, task: RenderTask, printed_before: int) -> None:
    """Return if the command has done its work, or its job forgives how it ended; blocking.

    Args:
        ending: How it ended.
        told: The same in words that begin with the program.
        task: The command.
        printed_before: Bytes in its log that other commands of the same attempt have printed.

    Raises:
        AttemptError: It has failed. The sentence has the lines of its log that matter.
    """
    decision = decide(ending, task.retry, LogSearch(log_tail(task.log, since=printed_before)).has)
    if decision is None or decision.then is Verdict.ACCEPT:
        return
    raise AttemptError(
        _sentence(ending, told, decision, task, printed_before),
        fatal=decision.then is Verdict.GIVE_UP,
        wait_seconds=decision.wait_seconds,
        another_host=decision.then is Verdict.ANOTHER_HOST,
        suspect=decision.by_words or ending.reading.fatal is not None,
    )


def _sentence(ending: Ending, told: str, decision: Decision, task: RenderTask, printed_before: int) -> str:
    why = f" ({decision.why})" if decision.why else ""
    said = ending.reading.fatal or telling_lines(task.log, since=printed_before)
    link = "; it said last: " if ending.stopped_for else ": "
    return f"{told}{why}{link + said if said else ', and printed nothing'}"
