"""How a render came to its end, and what is known of it then."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from activities.backends.backend import RenderTask
from activities.backends.stall_detection import StallDetector
from activities.errors import AttemptError
from activities.processes.usage import Usage
from activities.progress.log_errors import error_lines, log_tail
from activities.progress.patterns import LogPatternSearch
from activities.progress.reader import Reading
from longtake.models.policies import FailureRule, Retry, Verdict


@dataclass(frozen=True)
class ExitStatus:
    """The end of one render.

    Args:
        code: Its exit code, minus the signal if one ended it; None when it was stopped.
        stopped_for: Why it was stopped, with the evidence; empty when its outputs were whole.
        reading: What it said last of its progress.
    """

    code: int | None = None
    stopped_for: str = ""
    reading: Reading = field(default_factory=Reading)

    @property
    def has_failed(self) -> bool:
        """Whether the try has failed, unless a rule of the job says otherwise."""
        return self.code not in (0, None) or bool(self.stopped_for) or self.reading.fatal is not None

    def told_of(self, program: str, usage: Usage) -> str:
        """Return what happened, in words that begin with the program."""
        if self.stopped_for:
            return f"{program} {self.stopped_for}"
        if self.code == -signal.SIGKILL:
            peak = f" (this render had up to {in_bytes(usage.peak_memory_bytes)})" if usage.peak_memory_bytes else ""
            how = f"was ended by a SIGKILL that Longtake did not send; the system may have run out of memory{peak}"
        elif self.code is None:
            how = "made its outputs"
        elif self.code < 0:
            how = f"was ended by {_signal_name(-self.code)}"
        else:
            how = f"exited with code {self.code}"
        return f"{program} {how}" if self.reading.fatal is None else f"{program} {how}, and said that it had failed"


def describe_progress(reading: Reading, frames: int, movement: StallDetector, usage: Usage, now: float) -> str:
    """Return what is known of a render that is stopped, as evidence for an error.

    Args:
        reading: How far it says it is.
        frames: How many frames it has to render; 0 when it renders none.
        movement: What it did.
        usage: What it has used.
        now: By the clock of the render.
    """
    far = f"{reading.frames_done} of {frames} frames done, " if frames else ""
    return (
        f"{far}no progress or output for {movement.silent_seconds(now):.1f} s; CPU time {usage.cpu_seconds:.1f} s and "
        f"I/O {in_bytes(usage.io_bytes)} in all, {movement.cpu_seconds:.2f} s and {in_bytes(movement.io_bytes)} of it "
        f"in the last {movement.still_seconds(now):.1f} s; processes: {usage.processes}"
    )


def in_bytes(count: float) -> str:
    """Return an amount of bytes as people read it."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass(frozen=True)
class Decision:
    """What to make of a try that has failed.

    Args:
        then: What comes next.
        why: The rule that says so, for the error; empty when none does.
        wait_seconds: How long to wait before the next try; None: as retries do.
        by_words: Whether something that was printed decided.
    """

    then: Verdict = Verdict.RETRY
    why: str = ""
    wait_seconds: float | None = None
    by_words: bool = False


def decide(ending: ExitStatus, retry: Retry, printed: Callable[[str], bool]) -> Decision | None:
    """Return what the job makes of this end; None when nothing has failed.

    Args:
        ending: How the render ended.
        retry: The job's rules: the first that fits decides, then the codes and patterns that are never retried.
        printed: Whether the end of the log holds this pattern; asked only when it matters, because it costs.
    """
    for index, rule in enumerate(retry.rules):
        if _can_decide(rule, ending) and (rule.pattern is None or printed(rule.pattern)):
            why = f"retry.rules[{index}]: {rule.then}"
            return Decision(rule.then, why, rule.wait_seconds, by_words=rule.pattern is not None)
    if not ending.has_failed:
        return None
    if _has_code(ending, retry.fatal_exit_codes):
        return Decision(Verdict.GIVE_UP, "fatal_exit_codes")
    for pattern in retry.fatal_patterns:
        if printed(pattern):
            return Decision(Verdict.GIVE_UP, f"fatal_patterns: {pattern}", by_words=True)
    return Decision()


def _can_decide(rule: FailureRule, ending: ExitStatus) -> bool:
    """Tell whether a rule is for this way to end, its pattern aside."""
    if rule.then is Verdict.ACCEPT and (ending.stopped_for or ending.reading.fatal is not None):
        # An exit code can be forgiven; a render that was cut short, or says itself that it failed, cannot.
        return False
    return _has_code(ending, rule.exit_codes) if rule.exit_codes else ending.has_failed


def _has_code(ending: ExitStatus, codes: tuple[int, ...]) -> bool:
    if ending.code is None:
        return False
    # Shells, and so people, know the end by signal 9 as 137.
    return ending.code in codes or (ending.code < 0 and 128 - ending.code in codes)


def raise_if_failed(ending: ExitStatus, told: str, task: RenderTask, printed_before: int) -> None:
    """Return if the command has done its work, or its job forgives how it ended; blocking.

    Args:
        ending: How it ended.
        told: The same in words that begin with the program.
        task: The command.
        printed_before: Bytes in its log that other commands of the same attempt have printed.

    Raises:
        AttemptError: It has failed. The sentence has the lines of its log that matter.
    """
    decision = decide(ending, task.retry, LogPatternSearch(log_tail(task.log, since=printed_before)).has)
    if decision is None or decision.then is Verdict.ACCEPT:
        return
    raise AttemptError(
        _sentence(ending, told, decision, task, printed_before),
        fatal=decision.then is Verdict.GIVE_UP,
        wait_seconds=decision.wait_seconds,
        another_host=decision.then is Verdict.ANOTHER_HOST,
        suspect=decision.by_words or ending.reading.fatal is not None,
    )


def _sentence(ending: ExitStatus, told: str, decision: Decision, task: RenderTask, printed_before: int) -> str:
    why = f" ({decision.why})" if decision.why else ""
    said = ending.reading.fatal or error_lines(task.log, since=printed_before)
    link = "; it said last: " if ending.stopped_for else ": "
    return f"{told}{why}{link + said if said else ', and printed nothing'}"
