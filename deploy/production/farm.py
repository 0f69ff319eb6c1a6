"""A whole farm on this host: PostgreSQL, Temporal, MinIO and workers, each a process of its own."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

import devserver
from deploy.production.accounts import Account
from deploy.production.component import Component, run_once
from deploy.production.compose import ComposeFile
from deploy.production.postgres import Cluster, find_postgres, postgres_environment
from deploy.production.programs import offer_programs
from deploy.production.settings import ROOT, Ports, free_port, read_variables

# What belongs to another farm must not steer this one.
_NOT_INHERITED = ("TEMPORAL_", "LONGTAKE_", "AWS_", "POSTGRES_", "SQL_", "MINIO_", "MC_", "PG")
# What server.yaml lets a farm choose besides the ports of the frontend.
_TEMPORAL_PORTS = ["FRONTEND_MEMBERSHIP_PORT"]
_TEMPORAL_PORTS += [
    f"{service}_{way}_PORT" for service in ("HISTORY", "MATCHING", "WORKER") for way in ("GRPC", "MEMBERSHIP")
]


class ProductionFarm:
    """The services of docker-compose.yml as processes; all are there inside `async with`, and none after it.

    Args:
        folder: Where its data lies; a farm on the same folder goes on where the last one ended.
        workers: How many there are.
        worker_program: What runs as a worker, in place of worker.py.
        ports: Where it listens; free ports unless told.
        worker_settings: More variables for the workers, before those of `.env`.
        say: Told what happens, a line each.
    """

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 2,
        worker_program: Path = ROOT / "worker.py",
        ports: Ports | None = None,
        worker_settings: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.folder = folder.resolve()
        self.ports = ports or Ports.free()
        self.variables = read_variables(self.folder)
        self.compose = ComposeFile(ROOT / "docker-compose.yml", self.variables, self.folder)
        self.address = f"127.0.0.1:{self.ports.temporal}"
        self.s3_endpoint = f"http://127.0.0.1:{self.ports.minio}"
        self.namespace = self.compose.environment("worker")["TEMPORAL_NAMESPACE"]
        self.films = self.folder / "films"
        self.postgres: Component
        self.temporal: Component
        self.minio: Component
        self.workers: list[Component] = []
        self._count = workers
        self._worker_program = worker_program
        self._worker_settings = dict(worker_settings or {})
        self._say = say
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._prepare()
            await self._start_postgres()
            await asyncio.gather(self._start_temporal(), self._start_minio())
            await self._start_workers()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def s3_environment(self) -> dict[str, str]:
        """Return the variables with which boto3 is one of the farm's workers."""
        given = self.compose.environment("worker")
        return {name: value for name, value in given.items() if name.startswith("AWS_")} | {
            "AWS_ENDPOINT_URL_S3": self.s3_endpoint
        }

    async def _prepare(self) -> None:
        self.films.mkdir(parents=True, exist_ok=True)
        cache = devserver.cache_dir()
        self._account = Account.for_database()
        self._postgres = await asyncio.to_thread(find_postgres, self._account.place_for(cache), self._say)
        programs = await asyncio.to_thread(offer_programs, cache, self.folder / "bin", self._say)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        self._inherited = {**kept, "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}

    async def _start_postgres(self) -> None:
        environment = self._environment("postgres", **postgres_environment(self._postgres))
        data = self._account.place_for(self.folder) / "postgres"
        cluster = Cluster(self._postgres, data, self._account, environment)
        await cluster.make(self._log("initdb"))
        self.postgres = cluster.component(self.compose.command("postgres"), self.ports.postgres, self._log("postgres"))
        await self._start(self.postgres)
        self._say(f"PostgreSQL at 127.0.0.1:{self.ports.postgres}, its data in {data}.")

    async def _start_temporal(self) -> None:
        at = {"SQL_HOST": "127.0.0.1", "SQL_PORT": str(self.ports.postgres)}
        await self._once("temporal-schema", **at)
        ports = {name: str(free_port()) for name in _TEMPORAL_PORTS}
        ports |= {"FRONTEND_GRPC_PORT": str(self.ports.temporal), "FRONTEND_HTTP_PORT": str(self.ports.temporal_http)}
        here = {"POSTGRES_SEEDS": "127.0.0.1", "DB_PORT": str(self.ports.postgres), "BIND_ON_IP": "127.0.0.1"}
        self.temporal = Component(
            "temporal",
            self.compose.command("temporal"),
            self._environment("temporal", **here, **ports),
            self._log("temporal"),
            lambda component: _answers(self.address),
        )
        await self._start(self.temporal)
        await self._once("temporal-namespace", TEMPORAL_ADDRESS=self.address)
        self._say(f"Temporal at {self.address}, namespace {self.namespace}.")

    async def _start_minio(self) -> None:
        places = {":9000": f"127.0.0.1:{self.ports.minio}", ":9001": f"127.0.0.1:{self.ports.minio_console}"}
        command = [places.get(word, word) for word in self.compose.command("minio")]

        async def ready(component: Component) -> bool:
            return "API: " in component.printed

        self.minio = Component("minio", command, self._environment("minio"), self._log("minio"), ready)
        await self._start(self.minio)
        await self._once("minio-bucket", S3_ENDPOINT=self.s3_endpoint)
        self._say(f"MinIO at {self.s3_endpoint}, its pages at http://{places[':9001']}.")

    async def _start_workers(self) -> None:
        async def ready(component: Component) -> bool:
            return "ready:" in component.printed

        for number in range(1, self._count + 1):
            name = f"worker-{number}"
            environment = self._environment(
                "worker",
                TEMPORAL_ADDRESS=self.address,
                AWS_ENDPOINT_URL_S3=self.s3_endpoint,
                LONGTAKE_HOST=name,
                LONGTAKE_SCRATCH=str(self.folder / "scratch" / name),
                **self._worker_settings,
            )
            words = [sys.executable, str(self._worker_program)]
            patience = float(environment["LONGTAKE_SHUTDOWN_GRACE_SECONDS"]) + 60
            log = self._log(name)
            self.workers.append(Component(name, words, environment, log, ready, stop_seconds=patience))
        self._stack.push_async_callback(self._stop_workers)
        await asyncio.gather(*(worker.start() for worker in self.workers))
        self._say(f"{self._count} workers; directory stores in {self.films}.")

    async def _stop_workers(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self.workers))

    async def _start(self, component: Component) -> None:
        self._stack.push_async_callback(component.stop)
        await component.start()

    async def _once(self, service: str, **settings: str) -> None:
        environment = self._environment(service, **settings)
        await run_once(service, self.compose.command(service), environment, self._log(service))

    def _environment(self, service: str, **settings: str) -> dict[str, str]:
        return {**self._inherited, **self.compose.environment(service), **settings}

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"


async def _answers(address: str) -> bool:
    try:
        client = await asyncio.wait_for(Client.connect(address), 2)
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="temporal-system"))
    except (RuntimeError, RPCError, TimeoutError):
        return False
    return True
