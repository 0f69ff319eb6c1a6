r"""Check the regular expressions of a job in a process of bounded CPU time.

No pattern that a job supplies is compiled or searched in an interpreter that does anything else: `(|){33}\b`, nine
characters, never ends, and stopped every workflow task of a farm when a model tried it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest

from longtake import pattern_matcher
from longtake.errors import BadJobError
from longtake.models.job_fields import JobFields
from longtake.text import escape_text, quote_value


def matcher_command() -> list[str]:
    """Return the command of the process that searches for patterns: `longtake.pattern_matcher`."""
    # -I and -S: started in 15 ms, and nothing of the environment reaches it.
    return [sys.executable, "-I", "-S", pattern_matcher.__file__]


def encode_request(pattern: str, lines: list[str]) -> bytes:
    """Return the line that asks that process to search lines for a pattern."""
    return json.dumps({"pattern": pattern, "lines": lines}).encode() + b"\n"


def check_patterns(job: JobFields) -> None:
    """Check that all patterns of a job are regular expressions, and that none fits every line; blocking.

    All together cost 15 ms, and half a second more where one never ends: the process dies of that one.

    Raises:
        BadJobError: One sentence that names the field and the fix.
    """
    patterns = list(_patterns(job))
    if not patterns:
        return
    answers = subprocess.run(
        matcher_command(),
        input=b"".join(encode_request(pattern, [""]) for _, pattern, _ in patterns),
        env={},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    ).stdout.splitlines()
    for (field, pattern, every), answer in zip_longest(patterns, answers):
        if answer is None:
            raise BadJobError(f"{field}: {quote_value(pattern)} takes too long on an empty line already; simplify it")
        found = json.loads(answer)
        if isinstance(found, dict):
            problem = escape_text(found["error"])
            raise BadJobError(f"{field}: {quote_value(pattern)} is no regular expression ({problem}); mend it")
        if found and every:
            raise BadJobError(f"{field}{every.format(quote_value(pattern))}")


def _patterns(job: JobFields) -> Iterator[tuple[str, str, str]]:
    """Yield the field and the pattern, and what is wrong with one that fits every line; empty where nothing is."""
    retry, progress = job.retry, job.progress
    for index, rule in enumerate(retry.rules):
        if rule.pattern is not None:
            field = f"retry.rules[{index}]"
            yield f"{field}.pattern", rule.pattern, ""
            if not rule.exit_codes:
                fix = "give it exit_codes, or a pattern of words that others lack"
                yield field, rule.pattern, f": fits every failure; {fix}"
    for index, pattern in enumerate(retry.fatal_patterns):
        yield f"retry.fatal_patterns[{index}]", pattern, ""
    for index, pattern in enumerate(progress.patterns):
        yield f"progress.patterns[{index}]", pattern, ""
    for index, pattern in enumerate(progress.fatal_patterns):
        yield (
            f"progress.fatal_patterns[{index}]",
            pattern,
            ": {} fits every line, and so every try would fail; write words that tell it",
        )
