"""Run a farm on this host until Ctrl-C (`make production`); its data stays for the next start."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import devserver
from deploy.production.component import Account, ProductionError
from deploy.production.compose import ROOT, ComposeError, Ports
from deploy.production.farm import ProductionFarm
from deploy.production.postgres import find_postgres
from deploy.production.programs import GoBuildError, install_programs
from ports import PortTakenError

# Printed when the farm is up.
_INSTRUCTIONS = """\
The farm is up. Submit a job to it from another terminal:

  export TEMPORAL_ADDRESS={address} TEMPORAL_NAMESPACE={namespace}
  .venv/bin/longtake submit examples/plasma.yaml --set base_dir={films} --watch

Settings: {settings}. Logs: {logs}. Ctrl-C ends everything, workers first; the data stays."""


def install() -> None:
    """Build or find all programs of the farm: a test has no time for a build.

    Raises:
        GoBuildError: A program cannot be built.
        ProductionError: PostgreSQL or the S3 server is not here.
    """
    cache = devserver.cache_dir()
    install_programs(cache, _print_line)
    find_postgres(Account.for_database(), cache)


async def run(folder: Path, workers: int) -> None:
    """Run the farm until SIGINT or SIGTERM.

    Raises:
        ProductionError: A part did not come up.
        PortTakenError: A port that the user has named is taken.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    settings = ".env" if (ROOT / ".env").exists() else f".env.example and {folder / 'secrets.env'}"
    farm = ProductionFarm(
        folder, workers=workers, ports=Ports.choose_published(folder, _print_line), on_message=_print_line
    )
    starting = asyncio.create_task(farm.__aenter__())
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait((starting, waiting), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        _print_line("Stopped while starting.")
        starting.cancel()
        await asyncio.wait((starting,))
        return
    await starting
    try:
        _print_line(_INSTRUCTIONS.format(
            address=farm.address,
            namespace=farm.namespace,
            films=farm.films,
            settings=settings,
            logs=folder / "logs",
        ))  # fmt: skip
        await waiting
        _print_line("Ending: the workers first, so that they can give back what they have not finished.")
    finally:
        await farm.__aexit__(None, None, None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line of `make production`; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="make production", description="Runs the services of docker-compose.yml as processes on loopback."
    )
    parser.add_argument("--workers", type=int, default=2, help="how many workers; default: 2")
    parser.add_argument("--folder", type=Path, help="where the data lies; default: .cache/production")
    parser.add_argument("--install", action="store_true", help="only build and fetch what is missing, for the tests")
    given = parser.parse_args(arguments)
    try:
        if given.install:
            install()
            return 0
        asyncio.run(run((given.folder or devserver.cache_dir() / "production").resolve(), given.workers))
    except (ProductionError, PortTakenError, ComposeError, GoBuildError, devserver.TemporalNotFound) as error:
        print(f"make production: {error}", file=sys.stderr)
        return 2
    return 0


def _print_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
