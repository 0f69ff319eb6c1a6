"""Run a whole farm on this host: PostgreSQL, Temporal, SeaweedFS and workers, each a process of its own."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import devserver
from deploy.production.component import Account, Component, run_once, start_component
from deploy.production.compose import ROOT, ComposeFile, Ports, read_variables
from deploy.production.postgres import Cluster, find_postgres
from deploy.production.programs import offer_programs
from deploy.production.s3_server import INTERNAL_PORTS, can_list_buckets, find_internal_ports, remove_sockets
from ports import find_free_port

# What belongs to another farm must not steer this one.
_NOT_INHERITED = ("TEMPORAL_", "LONGTAKE_", "AWS_", "POSTGRES_", "SQL_", "S3_", "WEED_", "PG")
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
        self.namespace = self.compose.environment("worker")["TEMPORAL_NAMESPACE"]
        self.films = self.folder / "films"
        self.postgres: Component
        self.temporal: Component
        self.s3: Component
        self.workers: list[Component] = []
        self._count = workers
        self._worker_program = worker_program
        self._worker_settings = dict(worker_settings or {})
        self._say = say
        self._stack = AsyncExitStack()

    @property
    def address(self) -> str:
        """Where Temporal answers."""
        return f"127.0.0.1:{self.ports.temporal}"

    @property
    def s3_endpoint(self) -> str:
        """Where the S3 server answers."""
        return f"http://127.0.0.1:{self.ports.s3}"

    async def __aenter__(self) -> Self:
        try:
            await self._prepare()
            await self._start_postgres()
            await asyncio.gather(self._start_temporal(), self._start_s3())
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
        self._postgres = await asyncio.to_thread(find_postgres, self._account, cache)
        programs = await asyncio.to_thread(offer_programs, cache, self.folder / "bin", self._say)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        self._inherited = {**kept, "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}

    async def _start_postgres(self) -> None:
        data = self._account.place_for(self.folder) / "postgres"
        cluster = Cluster(self._postgres, data, self._account, self._environment("postgres"))
        await cluster.make(self._log("initdb"))

        def make() -> Component:
            command, log = self.compose.command("postgres"), self._log("postgres")
            return cluster.component(command, self.ports.postgres, log)

        self.postgres = await self._start(make, "postgres")
        self._say(f"PostgreSQL at 127.0.0.1:{self.ports.postgres}, its data in {data}.")

    async def _start_temporal(self) -> None:
        at = {"SQL_HOST": "127.0.0.1", "SQL_PORT": str(self.ports.postgres)}
        await self._once("temporal-schema", **at)
        here = {"POSTGRES_SEEDS": "127.0.0.1", "DB_PORT": str(self.ports.postgres), "BIND_ON_IP": "127.0.0.1"}

        def make() -> Component:
            ports = {name: str(find_free_port()) for name in _TEMPORAL_PORTS}
            ports |= {
                "FRONTEND_GRPC_PORT": str(self.ports.temporal),
                "FRONTEND_HTTP_PORT": str(self.ports.temporal_http),
            }
            return Component(
                "temporal",
                self.compose.command("temporal"),
                self._environment("temporal", **here, **ports),
                self._log("temporal"),
                lambda component: devserver.is_temporal_running(self.address, "temporal-system"),
            )

        self.temporal = await self._start(make, "temporal", "temporal_http")
        await self._once("temporal-namespace", TEMPORAL_ADDRESS=self.address)
        self._say(f"Temporal at {self.address}, namespace {self.namespace}.")

    async def _start_s3(self) -> None:
        def make() -> Component:
            inside = find_internal_ports()
            listen = {"S3_BIND": "127.0.0.1", "S3_LISTEN_PORT": str(self.ports.s3), "S3_INTERNAL_PORT": str(inside)}
            environment = self._environment("s3", **listen)
            self._stack.callback(remove_sockets, {self.ports.s3, *range(inside, inside + INTERNAL_PORTS)})
            keys = environment["S3_ADMIN_ACCESS_KEY"], environment["S3_ADMIN_SECRET_KEY"]

            async def ready(component: Component) -> bool:
                return await asyncio.to_thread(can_list_buckets, self.s3_endpoint, *keys)

            # Asked to end, it takes 25 seconds; killed, it has lost nothing that it has answered for.
            return Component(
                "s3", self.compose.command("s3"), environment, self._log("s3"), ready, stopping=signal.SIGKILL
            )

        self.s3 = await self._start(make, "s3")
        await self._once("s3-bucket", S3_ENDPOINT=self.s3_endpoint)
        self._say(f"S3 server at {self.s3_endpoint}.")

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

    async def _start(self, make: Callable[[], Component], *ports: str) -> Component:
        """Start a component, and again where another process takes one of its ports, of which `ports` are the farm's.

        Raises:
            ProductionError: It did not come up.
            PortTakenError: A port that the user has named is taken.
        """

        def renew_ports(component: Component) -> None:
            self._say(f"Another process took a port of {component.name}: starting it again.")
            self.ports = self.ports.without_taken(ports, self._say)

        component = await start_component(make, renew_ports)
        self._stack.push_async_callback(component.stop)
        return component

    async def _once(self, service: str, **settings: str) -> None:
        environment = self._environment(service, **settings)
        # In the worker's image this is its Python, and here the one that has what that image has.
        words = [sys.executable if word == "python" else word for word in self.compose.command(service)]
        await run_once(service, words, environment, self._log(service))

    def _environment(self, service: str, **settings: str) -> dict[str, str]:
        return {**self._inherited, **self.compose.environment(service), **settings}

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"
