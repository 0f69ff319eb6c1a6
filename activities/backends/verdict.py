"""What becomes of a try, by the rules of its job."""

from collections.abc import Callable
from dataclasses import dataclass

from activities.backends.exit_status import Ending
from longtake.models.policies import FailureRule, Retry, Verdict


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


def decide(ending: Ending, retry: Retry, printed: Callable[[str], bool]) -> Decision | None:
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


def _can_decide(rule: FailureRule, ending: Ending) -> bool:
    """Tell whether a rule is for this way to end, its pattern aside."""
    if rule.then is Verdict.ACCEPT and (ending.stopped_for or ending.reading.fatal is not None):
        # An exit code can be forgiven; a render that was cut short, or says itself that it failed, cannot.
        return False
    return _has_code(ending, rule.exit_codes) if rule.exit_codes else ending.has_failed


def _has_code(ending: Ending, codes: tuple[int, ...]) -> bool:
    if ending.code is None:
        return False
    # Shells, and so people, know the end by signal 9 as 137.
    return ending.code in codes or (ending.code < 0 and 128 - ending.code in codes)
