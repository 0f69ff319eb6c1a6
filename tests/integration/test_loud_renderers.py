"""Renderers that print without end, or never listen: the worker's memory, the disk and the job do not care."""

import sys
from pathlib import Path

import pytest
from support.farm import Farm
from support.processes.workers import WorkerProcess, worker_program

from longtake import JobState, Timeouts
from longtake.attempt_log import AttemptLog

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MIB = 1024 * 1024
# Head and two segments of 4 MiB, and what is being written.
LARGEST_LOG = 16 * MIB

LOUD = {
    "a gigabyte": "for _ in range(1024): out.write(b'frame=1 fps=2 everything is fine\\n' * (MIB // 35))",
    "lines of a megabyte": "for _ in range(64): out.write(b'x' * MIB + b'\\n')",
    "one endless line": "for _ in range(256): out.write(b'.' * MIB)",
    "binary": "import os\nfor _ in range(64): out.write(os.urandom(MIB))",
    "escape sequences": "for _ in range(64): out.write(b'\\x1b[2J\\x1b[1;31m\\rframe' * (MIB // 16))",
    "standard error": "import os\nfor _ in range(64): os.write(2, b'warning: again\\n' * (MIB // 15))",
    "a reader of stdin": "assert sys.stdin.read() == ''",
    "nothing": "pass",
}

_FIRST_JOBS = 12

MAKES = "open(sys.argv[1], 'w').write('made')"


def peak_bytes(worker: WorkerProcess) -> int:
    """Return the most memory that the worker has ever had."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


async def test_output_of_any_kind_and_amount_leaves_the_worker_small(bare: Farm) -> None:
    script = bare.store.parent / "loud.py"

    async def run(number: int, said: str) -> None:
        script.write_text(f"import sys\nMIB = {MIB}\nout = sys.stdout.buffer\n{said}\nout.flush()\n{MAKES}\n")
        command = (sys.executable, "-S", "-E", str(script), "{output}")
        job = await bare.submit(
            bare.job(chunks=1, command=command, chunk_output=f"{number}/{{chunk}}.txt", timeouts=Timeouts())
        )
        await job.result()
        assert (await job.status()).state is JobState.COMPLETED
        logs = list((bare.store / ".longtake" / job.id / "logs").glob("*.log"))
        if said in (LOUD["nothing"], LOUD["a reader of stdin"]):
            assert logs == []
            return
        (log,) = logs
        assert sum(path.stat().st_size for path in log.parent.iterdir()) < LARGEST_LOG
        if said == LOUD["a gigabyte"]:
            assert AttemptLog(log).size > 1_000_000_000

    async with worker_program(bare.address, bare.task_queue, bare.store) as worker:
        # What a worker needs for its first jobs is no growth: threads, and workflows that it keeps, for 5 to 8 MiB.
        for number in range(_FIRST_JOBS):
            await run(number, LOUD["nothing"])
        before = peak_bytes(worker)
        for number, said in enumerate(LOUD.values(), start=_FIRST_JOBS):
            await run(number, said)
        grown = peak_bytes(worker) - before

    print(f"\nworker's memory after {len(LOUD)} loud renderers: {grown / MIB:+.1f} MiB")
    assert grown < 20 * MIB
