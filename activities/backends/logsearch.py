"""A job's own regular expressions on the end of a log."""

import json
import subprocess
import sys

from activities.progress import pattern_matcher


class LogSearch:
    """Searches one text for patterns; each costs a bounded time, because `re` itself cannot be interrupted.

    Args:
        text: The end of a log. A pattern is looked for in each line, so that `^` and `$` are those of the line, and
            then in all of it, so that it may span lines.
    """

    def __init__(self, text: str) -> None:
        self._lines = [*text.splitlines(), text]

    def has(self, pattern: str) -> bool:
        """Tell whether the text holds the pattern; one that takes too long is taken for not found. Blocking."""
        request = json.dumps({"pattern": pattern, "lines": self._lines})
        # -I and -S: started in 15 ms, and nothing of the environment reaches it. It bounds its own CPU time.
        answer = subprocess.run(
            [sys.executable, "-I", "-S", pattern_matcher.__file__],
            input=request.encode() + b"\n",
            env={},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return bool(answer.stdout and json.loads(answer.stdout))
