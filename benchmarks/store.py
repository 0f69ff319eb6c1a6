"""How fast files go to a bucket, are copied in it and come back, beside boto3's own transfers: `make bench-store`."""

import argparse
import json
import os
import platform
import shutil
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
_MIB = 1 << 20

# What the worker may grow by while it moves files of any size and number.
MOST_GROWTH_BYTES = 100_000_000


class Files:
    """What is moved, on this disk; nothing of it can be compressed."""

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

    def of(self, kind: str) -> list[Path]:
        return self.small if kind == "small" else self.big


class Ours:
    """The store, as a worker uses it."""

    name = "longtake"

    def __init__(self, server: S3Server, files: Files, into: Path) -> None:
        session = boto3.Session(server.access_key, server.secret_key, region_name="us-east-1")
        url = f"s3://{server.bucket('ours')}/job"
        self._store = S3Store(url, make_s3_client(session, endpoint_url=server.url), scratch=into)
        self._files = files
        self._into = into
        # What is made at a first call only is no growth.
        self._store.create(self._store.locate("first"), b"")

    def up(self, kind: str) -> None:
        made = map_parallel(
            self._store, lambda file: self._store.put(file, self._where(file, "up")), self._files.of(kind)
        )
        assert all(made)

    def copy(self, kind: str) -> None:
        files = self._files.of(kind)
        assert all(
            map_parallel(
                self._store, lambda file: self._store.copy(self._where(file, "up"), self._where(file, "copy")), files
            )
        )

    def down(self, kind: str) -> None:
        def bring(file: Path) -> Path:
            return self._store.download(self._where(file, "up"), self._into / file.relative_to(self._files.folder))

        map_parallel(self._store, bring, self._files.of(kind))

    def clear(self, name: str) -> None:
        self._store.remove_all(self._store.locate(name))

    def _where(self, file: Path, name: str) -> str:
        return self._store.locate(f"{name}/{file.relative_to(self._files.folder)}")


class Boto3:
    """boto3's own transfers, the machinery of `aws s3 cp`: it proves nothing and overwrites.

    Many files at once, as many as ours, and parts of large ones at once.
    """

    name = "boto3"

    def __init__(self, server: S3Server, files: Files, into: Path) -> None:
        self._bucket, self._files, self._into = server.bucket("theirs"), files, into
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
            files = self._files.of(kind)
            list(pool.map(move, files, (str(file.relative_to(self._files.folder)) for file in files)))


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[step] = time.monotonic() - began


def measure(
    movers: Sequence[Ours | Boto3], kinds: Sequence[str], into: Path, say: Console
) -> dict[str, dict[str, float]]:
    """Return the seconds of each step of each mover.

    They take turns at each step, so that what else the machine does meets all of them; what was moved is removed as
    soon as it was.
    """
    seconds: dict[str, dict[str, float]] = {mover.name: {} for mover in movers}
    for kind in kinds:
        for step in ("up", "copy", "down"):
            for mover in movers:
                say.print(f"{kind} {step}: {mover.name}")
                # What one step left to be written is not the next one's to wait for.
                os.sync()
                with timed(seconds[mover.name], f"{kind} {step}"):
                    getattr(mover, step)(kind)
                if step == "copy":
                    mover.clear("copy")
                if step == "down":
                    mover.clear("up")
                    shutil.rmtree(into / kind)
    return seconds


def table(ours: dict[str, float], theirs: dict[str, float], files: Files) -> Table:
    found = Table(
        "step", "files/s or MB/s", "boto3", "ratio", title="longtake beside boto3's transfers (more is faster)"
    )
    for step, seconds in ours.items():
        kind = step.split()[0]
        amount = len(files.small) if kind == "small" else files.bytes["big"] / 1e6
        rates = [f"{amount / taken:,.0f}" for taken in (seconds, theirs[step])]
        found.add_row(step, *rates, f"{theirs[step] / seconds:.2f}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=5_000, help=f"number of files of {SMALL_BYTES:,} bytes")
    parser.add_argument("--big-bytes", type=int, default=5_000_000_000, help="size of the one large file")
    asked = parser.parse_args(arguments)
    say = Console()
    place = devserver.cache_dir() / "bench"
    place.mkdir(parents=True, exist_ok=True)
    # The files, the objects of two movers, and a copy of them or what comes back.
    needed = 4 * (asked.big_bytes + asked.small * SMALL_BYTES)
    if shutil.disk_usage(place).free < needed * 1.2:
        say.print(f"{place} has no room for {needed / 1e9:.0f} GB: free some, or ask for less with --big-bytes.")
        return 1
    with tempfile.TemporaryDirectory(prefix="store-", dir=place) as name:
        folder = Path(name)
        files = Files(folder / "files", asked.small, asked.big_bytes)
        kinds = [kind for kind in ("small", "big") if files.of(kind)]
        with run_s3_server(folder / "s3-server") as server:
            back = folder / "back"
            movers: list[Ours | Boto3] = [Boto3(server, files, back), Ours(server, files, back)]
            with Memory() as memory:
                seconds = measure(movers, kinds, back, say)
    say.print(table(seconds[Ours.name], seconds[Boto3.name], files))
    say.print(f"{asked.small:,} files of {SMALL_BYTES:,} bytes and one of {asked.big_bytes:,}; {os.cpu_count()} CPUs")
    say.print(f"memory of the process grew by {memory.growth_bytes / 1e6:.0f} MB (promised: below 100 MB)")
    results = {"seconds": seconds, "growth_bytes": memory.growth_bytes}
    (place / "store.json").write_text(json.dumps({**results, "machine": platform.platform()}, indent=1))
    return int(memory.growth_bytes >= MOST_GROWTH_BYTES)


if __name__ == "__main__":
    sys.exit(main())
