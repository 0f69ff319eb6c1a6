"""Program that searches lines for regular expressions: one JSON request a line on stdin, one JSON answer on stdout.

A process of its own, because `re` cannot be interrupted: `(a+)+$` on forty letters runs for hours and holds the
interpreter's lock meanwhile. The kernel kills this process when one request takes too much CPU time. Started with
`-I -S`, so it imports nothing but the standard library.

An answer is a list of `[index of the line, named groups]`, or `{"error": ...}` where the pattern is none.
"""

import json
import re
import signal
import sys

# A simple pattern takes a microsecond a line, and a request has 16,000 lines at most.
_MOST_CPU_SECONDS = 0.5
# Groups hold numbers, which are shorter.
_MOST_CHARACTERS = 32


def _matches(pattern: str, lines: list[str]) -> list[tuple[int, dict[str, str]]]:
    compiled = re.compile(pattern)
    found = ((index, compiled.search(line)) for index, line in enumerate(lines))
    return [(index, _groups(match)) for index, match in found if match]


def _groups(match: re.Match[str]) -> dict[str, str]:
    return {name: text for name, text in match.groupdict().items() if text and len(text) <= _MOST_CHARACTERS}


def main() -> None:
    """Answer requests until stdin ends."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for request in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, _MOST_CPU_SECONDS)
        asked = json.loads(request)
        try:
            answer = json.dumps(_matches(asked["pattern"], asked["lines"]))
        except (re.error, RecursionError, OverflowError) as error:
            answer = json.dumps({"error": str(error)})
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
