"""What becomes of a try, by how it ended and what its job says of that."""

import re
import signal

import pytest

from activities.backends.exit_status import Decision, ExitStatus, decide_verdict, describe_evidence
from activities.backends.stall_detection import StallDetector
from activities.processes.render_process import Usage
from activities.progress.reader import Reading
from longtake.models.policies import FailureRule, Retry, Verdict

FAILED = ExitStatus(1)
FINE = ExitStatus(0)
LINGERED = ExitStatus()
STALLED = ExitStatus(stopped_for="stood still")
SAID_SO = ExitStatus(0, reading=Reading(fatal="openjd_fail: no licence"))


def rule(*codes: int, pattern: str | None = None, then: Verdict = Verdict.GIVE_UP, wait: float | None = None) -> Retry:
    return Retry(rules=(FailureRule(exit_codes=codes, pattern=pattern, then=then, wait_seconds=wait),))


def verdict(ending: ExitStatus, retry: Retry, log: str = "") -> Verdict | None:
    decision = decide_verdict(ending, retry, lambda pattern: bool(re.search(pattern, log)))
    return decision.then if decision else None


@pytest.mark.parametrize(
    ("ending", "retry", "log", "expected"),
    [
        (FINE, Retry(), "", None),
        (LINGERED, Retry(), "", None),
        (FAILED, Retry(), "", Verdict.RETRY),
        (STALLED, Retry(), "", Verdict.RETRY),
        (SAID_SO, Retry(), "", Verdict.RETRY),
        (ExitStatus(reading=Reading(fatal="it failed")), Retry(), "", Verdict.RETRY),
        # Exit codes: those that are listed, or any but 0.
        (FAILED, rule(1, 2), "", Verdict.GIVE_UP),
        (ExitStatus(3), rule(1, 2), "", Verdict.RETRY),
        (FINE, rule(1), "", None),
        (ExitStatus(-9), rule(-9), "", Verdict.GIVE_UP),
        (ExitStatus(-9), rule(137), "", Verdict.GIVE_UP),
        (ExitStatus(137), rule(137), "", Verdict.GIVE_UP),
        (ExitStatus(137), rule(-9), "", Verdict.RETRY),
        (STALLED, rule(1), "", Verdict.RETRY),
        # Patterns, alone and with exit codes.
        (FAILED, rule(pattern="licence"), "no licence", Verdict.GIVE_UP),
        (FAILED, rule(pattern="licence"), "out of memory", Verdict.RETRY),
        (FINE, rule(pattern="licence"), "no licence", None),
        (STALLED, rule(pattern="licence"), "no licence", Verdict.GIVE_UP),
        (FAILED, rule(1, pattern="licence"), "no licence", Verdict.GIVE_UP),
        (FAILED, rule(2, pattern="licence"), "no licence", Verdict.RETRY),
        (FAILED, rule(1, pattern="licence"), "out of memory", Verdict.RETRY),
        # An exit code of 0 that a rule lists.
        (FINE, rule(0, pattern="licence"), "no licence", Verdict.GIVE_UP),
        (FINE, rule(0, pattern="licence"), "fine", None),
        (LINGERED, rule(0, pattern="licence"), "no licence", None),
        # What can be accepted, and what cannot.
        (FAILED, rule(1, then=Verdict.ACCEPT), "", Verdict.ACCEPT),
        (FAILED, rule(pattern="harmless", then=Verdict.ACCEPT), "harmless", Verdict.ACCEPT),
        (STALLED, rule(pattern="harmless", then=Verdict.ACCEPT), "harmless", Verdict.RETRY),
        (SAID_SO, rule(0, then=Verdict.ACCEPT), "", Verdict.RETRY),
        (SAID_SO, rule(pattern="licence", then=Verdict.ANOTHER_HOST), "no licence", Verdict.ANOTHER_HOST),
        # Codes and patterns that are never retried.
        (FAILED, Retry(fatal_exit_codes=(1,)), "", Verdict.GIVE_UP),
        (ExitStatus(-11), Retry(fatal_exit_codes=(139,)), "", Verdict.GIVE_UP),
        (FAILED, Retry(fatal_patterns=("licence",)), "no licence", Verdict.GIVE_UP),
        (FINE, Retry(fatal_patterns=("licence",)), "no licence", None),
        (STALLED, Retry(fatal_patterns=("licence",)), "no licence", Verdict.GIVE_UP),
    ],
)
def test_rules(ending: ExitStatus, retry: Retry, log: str, expected: Verdict | None) -> None:
    assert verdict(ending, retry, log) == expected


def test_the_first_rule_that_fits_decides() -> None:
    retry = Retry(
        rules=(
            FailureRule(exit_codes=(2,), then=Verdict.GIVE_UP),
            FailureRule(pattern="busy", then=Verdict.ANOTHER_HOST, wait_seconds=7),
            FailureRule(exit_codes=(1,), then=Verdict.GIVE_UP),
        ),
        fatal_exit_codes=(1,),
    )

    assert decide_verdict(FAILED, retry, lambda pattern: True) == Decision(
        Verdict.ANOTHER_HOST, "retry.rules[1]: another_host", 7, by_pattern=True
    )


def test_a_success_without_rules_for_it_costs_no_search() -> None:
    def printed(pattern: str) -> bool:
        raise AssertionError(pattern)

    retry = Retry(rules=(FailureRule(pattern="error"),), fatal_patterns=("fatal",))
    assert decide_verdict(FINE, retry, printed) is None


@pytest.mark.parametrize(
    ("ending", "sentence"),
    [
        (ExitStatus(3), "blender exited with code 3"),
        (ExitStatus(-11), "blender was ended by SIGSEGV"),
        (ExitStatus(-77), "blender was ended by signal 77"),
        (
            ExitStatus(-signal.SIGKILL),
            "blender was ended by a SIGKILL that Longtake did not send; the system may have run out of memory (this "
            "render had up to 3.0 GiB)",
        ),
        (SAID_SO, "blender exited with code 0, and said that it had failed"),
        (STALLED, "blender stood still"),
    ],
)
def test_how_a_render_ended_is_said(ending: ExitStatus, sentence: str) -> None:
    assert ending.describe("blender", Usage(peak_memory_bytes=3 * 1024**3)) == sentence


def test_the_evidence_is_what_was_seen() -> None:
    movement = StallDetector(10)
    movement.update(5, (3, 80), Usage(cpu_seconds=2, io_bytes=4096))
    usage = Usage(cpu_seconds=2.05, io_bytes=5120, processes=2)
    movement.update(15, (3, 80), usage)

    assert describe_evidence(Reading(frames_done=3), 10, movement, usage, 16) == (
        "3 of 10 frames done, no progress or output for 11.0 s; CPU time 2.0 s and I/O 5.0 KiB in all, 0.05 s and "
        "1.0 KiB of it in the last 11.0 s; processes: 2"
    )
    assert describe_evidence(Reading(), 0, movement, usage, 16).startswith("no progress or output for 11.0 s")
