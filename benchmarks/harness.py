"""Compare ways to do the same work: in turns, so that what else the machine does meets all alike, and by medians."""

import statistics
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Run:
    """One run of one way."""

    done: int
    seconds: float
    whole: bool = True

    @property
    def rate(self) -> float:
        """Pieces of work a second."""
        return self.done / self.seconds if self.seconds else 0.0


@dataclass
class Contest:
    """Runs of several ways, by name; `missing` says why a way could not run."""

    runs: dict[str, list[Run]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def rate(self, name: str) -> float:
        """Return the median of the rates of a way."""
        return statistics.median(run.rate for run in self.runs[name])

    def ratios(self, name: str, base: str) -> list[float]:
        """Return the rate of a way over that of another in the same round, for each round that both ended."""
        pairs = zip(self.runs.get(name, ()), self.runs.get(base, ()), strict=False)
        return [ours.rate / theirs.rate for ours, theirs in pairs if theirs.rate]


class NotHereError(Exception):
    """Raised by a way that this machine cannot run; says why."""


async def compete(
    ways: Mapping[str, Callable[[], Awaitable[Run]]], *, rounds: int, on_message: Callable[[str], None]
) -> Contest:
    """Run each way once a round, the ways in turn; every other round goes backwards.

    A way that cannot run is left out of later rounds.
    """
    contest = Contest()
    for number in range(rounds):
        names = list(ways)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            if name in contest.missing:
                continue
            try:
                run = await ways[name]()
            except NotHereError as error:
                contest.missing[name] = str(error)
                on_message(f"{name}: {error}")
                continue
            contest.runs.setdefault(name, []).append(run)
            cut = "" if run.whole else " (stopped there)"
            on_message(f"round {number + 1}, {name}: {run.done:,} in {run.seconds:.2f} s, {run.rate:,.1f}/s{cut}")
    return contest


def median(values: Iterable[float]) -> float | None:
    """Return the median; None of nothing."""
    found = list(values)
    return statistics.median(found) if found else None


def format_ratio(ratios: Sequence[float]) -> str:
    """Format the median of ratios, with the least and the most where they are several."""
    middle = median(ratios)
    if middle is None:
        return "-"
    spread = f" ({min(ratios):.3f} to {max(ratios):.3f})" if len(ratios) > 1 else ""
    return f"{middle:.3f}{spread}"
