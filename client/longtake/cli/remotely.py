"""Remote work in words: where it runs, what it costs, and what became of orders to stop."""

from datetime import UTC, datetime

from longtake.cli.formatting import duration, plural
from longtake.models.backends import BackendKind, RemoteBackend
from longtake.models.status import JobStatus, RemoteStop, RemoteStops
from longtake.plaintext import plain

PLATFORMS = {BackendKind.LOCAL: "hosts of your own", BackendKind.LAMBDA: "Lambda", BackendKind.CLOUD_RUN: "Cloud Run"}


def place(backend: RemoteBackend) -> str:
    """Return where a job is rendered: `Lambda, function render in eu-central-1`."""
    platform = PLATFORMS[BackendKind(backend.type)]
    if backend.type == "lambda":
        found = f"function {backend.function}" if backend.function else "the first function that its workers may call"
        found += f" in {backend.region}" if backend.region else ""
    else:
        found = backend.url or "the first service that its workers may call"
    return f"{platform}, {plain(found)}"


def money(usd: float) -> str:
    """Return an amount as people read it: `12.30 USD`, `0.042 USD`, `under 0.001 USD`."""
    if 0 < usd < 0.001:
        return "under 0.001 USD"
    return f"{usd:,.2f} USD" if usd >= 1 or usd == 0 else f"{usd:.3f} USD"


def billed(status: JobStatus) -> str | None:
    """Return what a job is billed for so far; None where nothing sends bills."""
    metrics = status.metrics
    if not (metrics.billed_seconds or metrics.cost_usd):
        return None
    return f"{duration(metrics.billed_seconds)} of {PLATFORMS[status.backend]}, {money(metrics.cost_usd)}"


def stopped(stops: RemoteStops, *, now: datetime | None = None) -> str | None:
    """Return what became of the chunks that were told to stop elsewhere; None where none was."""
    parts = []
    if stops.confirmed:
        where = f" on {plain(stops.where)}" if stops.where else ""
        parts.append(
            f"{plural(stops.confirmed, 'chunk')} stopped{where}, confirmed after {stops.slowest_seconds:.1f} s"
        )
    if stops.unconfirmed_count:
        waited = max((stop.seconds for stop in stops.unconfirmed), default=0.0)
        within = f" within {waited:.0f} s" if waited else ""
        ends = _ends(stops.unconfirmed, stops.unconfirmed_count == 1, now or datetime.now(UTC))
        parts.append(f"{plural(stops.unconfirmed_count, 'chunk')} asked to stop, not confirmed{within}; {ends}")
    return "; ".join(parts) or None


def _ends(stops: tuple[RemoteStop, ...], one: bool, now: datetime) -> str:
    latest = max((stop.ends_at for stop in stops if stop.ends_at is not None), default=None)
    who, itself, its = ("it", "itself", "its") if one else ("they", "themselves", "their")
    if latest is None:
        return f"{who} {'ends' if one else 'end'} by {itself} at {its} deadline"
    day = "%H:%M:%S" if latest.astimezone(UTC).date() == now.astimezone(UTC).date() else "%Y-%m-%d %H:%M:%S"
    moment = f"{latest.astimezone(UTC):{day}} UTC"
    if latest <= now:
        return f"{who} ended by {itself} by {its} deadline of {moment} at the latest"
    return f"{who} {'ends' if one else 'end'} by {itself} at {its} deadline of {moment} at the latest"
