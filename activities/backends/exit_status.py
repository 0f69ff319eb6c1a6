"""How a render ended, and what its job makes of that: retry, another host, give up or accept."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from activities.backends.backend import RenderTask
from activities.backends.stall_detection import StallDetector
from activities.errors import AttemptError
from activities.processes.render_process import Usage
from activities.progress.log_errors import find_error_lines, read_log_tail
from activities.progress.patterns import LogPatternSearch
from activities.progress.reader import Reading
from longtake.models.policies import FailureRule, Retry, Verdict
from longtake.text import format_bytes


@dataclass(frozen=True)
class ExitStatus:
    """How one render ended.

    Args:
        code: Its exit code, or minus the number of the signal that ended it; None when Longtake stopped it.
        stopped_for: Why Longtake stopped it, with the evidence; empty when its outputs were whole.
        reading: Its last progress.
    """

    code: int | None = None
    stopped_for: str = ""
    reading: Reading = field(default_factory=Reading)

    @property
    def has_failed(self) -> bool:
        """Whether the try has failed, unless a rule of the job says otherwise."""
        return self.code not in (0, None) or bool(self.stopped_for) or self.reading.fatal is not None

    def describe(self, program: str, usage: Usage) -> str:
        """Describe the end in one sentence that begins with the program."""
        if self.stopped_for:
            return f"{program} {self.stopped_for}"
        if self.code == -signal.SIGKILL:
            peak = (
                f" (this render had up to {format_bytes(usage.peak_memory_bytes)})" if usage.peak_memory_bytes else ""
            )
            how = f"was ended by a SIGKILL that Longtake did not send; the system may have run out of memory{peak}"
        elif self.code is None:
            how = "made its outputs"
        elif self.code < 0:
            how = f"was ended by {_signal_name(-self.code)}"
        else:
            how = f"exited with code {self.code}"
        return f"{program} {how}" if self.reading.fatal is None else f"{program} {how}, and said that it had failed"


def describe_evidence(reading: Reading, frames: int, stall: StallDetector, usage: Usage, now: float) -> str:
    """Describe what a stopped render did, as evidence for an error.

    Args:
        reading: Its progress.
        frames: Number of frames that it renders; 0 when it renders none.
        stall: When it last did something.
        usage: What it has used in all.
        now: Seconds by the clock of the render.
    """
    far = f"{reading.frames_done} of {frames} frames done, " if frames else ""
    return (
        f"{far}no progress or output for {stall.silent_seconds(now):.1f} s; CPU time {usage.cpu_seconds:.1f} s and "
        f"I/O {format_bytes(usage.io_bytes)} in all, {stall.cpu_seconds:.2f} s and {format_bytes(stall.io_bytes)} "
        f"of it in the last {stall.still_seconds(now):.1f} s; processes: {usage.processes}"
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass(frozen=True)
class Decision:
    """What the rules of a job make of a try that has failed.

    Args:
        then: What comes next.
        why: The rule that decided, for the error; empty when none did.
        wait_seconds: How long to wait before the next try; None for the job's retry delay.
        by_pattern: Whether a pattern in the log decided.
    """

    then: Verdict = Verdict.RETRY
    why: str = ""
    wait_seconds: float | None = None
    by_pattern: bool = False


def decide_verdict(status: ExitStatus, retry: Retry, has_printed: Callable[[str], bool]) -> Decision | None:
    """Decide what follows from the end of a render; None when nothing has failed.

    Args:
        status: How the render ended.
        retry: The job's rules: the first that fits decides, then the codes and patterns that are never retried.
        has_printed: Whether the end of the log holds a pattern; called only where a rule needs it, because it costs.
    """
    for index, rule in enumerate(retry.rules):
        if _can_decide(rule, status) and (rule.pattern is None or has_printed(rule.pattern)):
            why = f"retry.rules[{index}]: {rule.then}"
            return Decision(rule.then, why, rule.wait_seconds, by_pattern=rule.pattern is not None)
    if not status.has_failed:
        return None
    if _has_code(status, retry.fatal_exit_codes):
        return Decision(Verdict.GIVE_UP, "fatal_exit_codes")
    for pattern in retry.fatal_patterns:
        if has_printed(pattern):
            return Decision(Verdict.GIVE_UP, f"fatal_patterns: {pattern}", by_pattern=True)
    return Decision()


def _can_decide(rule: FailureRule, status: ExitStatus) -> bool:
    """Return whether a rule applies to this end, whatever its pattern."""
    if rule.then is Verdict.ACCEPT and (status.stopped_for or status.reading.fatal is not None):
        # Only an exit code can be accepted: a render that was stopped, or printed that it failed, has no whole outputs.
        return False
    return _has_code(status, rule.exit_codes) if rule.exit_codes else status.has_failed


def _has_code(status: ExitStatus, codes: tuple[int, ...]) -> bool:
    if status.code is None:
        return False
    # Shells report the end by signal 9 as exit code 137.
    return status.code in codes or (status.code < 0 and 128 - status.code in codes)


def raise_if_failed(status: ExitStatus, description: str, task: RenderTask, printed_before: int) -> None:
    """Raise if the command has failed and no rule of its job accepts that; blocking.

    Args:
        status: How it ended.
        description: The same as a sentence that begins with the program.
        task: The command.
        printed_before: Bytes in its log that other commands of the same attempt have printed.

    Raises:
        AttemptError: The command has failed. The sentence quotes the lines of its log that matter.
    """
    decision = decide_verdict(
        status, task.retry, LogPatternSearch(read_log_tail(task.log, since=printed_before)).has_match
    )
    if decision is None or decision.then is Verdict.ACCEPT:
        return
    raise AttemptError(
        _sentence(status, description, decision, task, printed_before),
        fatal=decision.then is Verdict.GIVE_UP,
        wait_seconds=decision.wait_seconds,
        another_host=decision.then is Verdict.ANOTHER_HOST,
        suspect=decision.by_pattern or status.reading.fatal is not None,
        exit_code=status.code,
    )


def _sentence(status: ExitStatus, description: str, decision: Decision, task: RenderTask, printed_before: int) -> str:
    why = f" ({decision.why})" if decision.why else ""
    said = status.reading.fatal or find_error_lines(task.log, since=printed_before)
    link = "; it said last: " if status.stopped_for else ": "
    return f"{description}{why}{link + said if said else ', and printed nothing'}"
