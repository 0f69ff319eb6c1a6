"""The command `report`: write all that is known of a job into one file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from longtake.cli.files import StoreOption
from longtake.cli.session import run_with_client
from longtake.cli.submit import JobId, Json
from longtake.cli.terminal import print_json, print_message, print_result
from longtake.client import RenderClient
from longtake.errors import BadJobError, LongtakeError, NotReachableError
from longtake.names import job_folder_name
from longtake.report.chromium import find_chromium, print_pdf
from longtake.report.job_report import GatheredReport, gather_stored_report
from longtake.report.page import write_page
from longtake.stores.factory import require_visible_store
from longtake.text import format_bytes


def report(
    context: typer.Context,
    id: JobId,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where to; `-` is stdout; ID.html when absent.", show_default=False
        ),
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="A PDF, by a Chromium of this host.")] = False,
    json: Json = False,
    store: StoreOption = None,
) -> None:
    """Write a report of a job: pictures, frame map, timeline, failures, cost, and the digests that prove its files.

    It is one HTML file that needs no network, and that can be mailed and printed. Jobs that run or have failed have
    one, too.

    Example: longtake report film-1a2b3c4d -o film.html
    """
    if pdf and json:
        raise BadJobError("--pdf: stands beside --json; name one of the two")
    if pdf:
        # Before a million records are read.
        find_chromium()
    gathered = _gather(context, id, store)
    if json:
        if output is None or str(output) == "-":
            print_json(gathered.report)
            return
        content = gathered.report.model_dump_json(indent=2).encode()
    else:
        content = write_page(gathered).encode("utf-8", "replace")
    target = output or Path(f"{job_folder_name(id)}.{'pdf' if pdf else 'html'}")
    if str(target) == "-" and not pdf:
        sys.stdout.buffer.write(content)
        return
    try:
        if pdf:
            print_pdf(content.decode(), target)
        else:
            target.write_bytes(content)
    except OSError as error:
        raise BadJobError(f"--output: {target} cannot be written: {error.strerror}; name another file") from error
    print_result(str(target))
    print_message(f"{format_bytes(target.stat().st_size)}; open it in a browser" if not pdf else "printed")


def _gather(context: typer.Context, id: str, store: str | None) -> GatheredReport:
    async def work(farm: RenderClient) -> GatheredReport:
        return await farm.job(id).stored_in(store).report()

    try:
        return run_with_client(context, work)
    except NotReachableError as error:
        if store is None:
            raise LongtakeError(f"{error}; with --store the report is made of the records there alone") from error
        print_message(f"{error}; this report is made of the records in {store} alone")
        return gather_stored_report(require_visible_store(store, id), id, None)
