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
from deploy.production.programs import link_programs
from deploy.production.s3_server import INTERNAL_PORTS, can_list_buckets, find_internal_ports, remove_sockets
from ports import find_free_port

# Variables of another farm must not steer this one.
_NOT_INHERITED = ("TEMPORAL_", "LONGTAKE_", "AWS_", "POSTGRES_", "SQL_", "S3_", "WEED_", "PG")
# Ports that server.yaml reads from the environment, besides those of the frontend.
_TEMPORAL_PORTS = ["FRONTEND_MEMBERSHIP_PORT"]
_TEMPORAL_PORTS += [
    f"{service}_{way}_PORT" for service in ("HISTORY", "MATCHING", "WORKER") for way in ("GRPC", "MEMBERSHIP")
]


class ProductionFarm:
    """Runs the services of docker-compose.yml as processes, within its `async with` block.

    Args:
        folder: Folder of the data; a farm on the same folder continues where the last one ended.
        workers: Number of workers.
        worker_program: Program of a worker, in place of worker.py.
        ports: Ports of the servers; free ones by default.
        worker_settings: More variables for the workers, before those of `.env`.
        on_message: Called with one line for each event.
    """

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 2,
        worker_program: Path = ROOT / "worker.py",
        ports: Ports | None = None,
        worker_settings: Mapping[str, str] | None = None,
        on_message: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.folder = folder.resolve()
        self.ports = ports or Ports.find_free()
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
        self._on_message = on_message
        self._stack = AsyncExitStack()

    @property
    def address(self) -> str:
        """Address of Temporal."""
        return f"127.0.0.1:{self.ports.temporal}"

    @property
    def s3_endpoint(self) -> str:
        """URL of the S3 server."""
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
        """Return the variables that give boto3 the endpoint and the key of the farm's workers."""
        given = self.compose.environment("worker")
        return {name: value for name, value in given.items() if name.startswith("AWS_")} | {
            "AWS_ENDPOINT_URL_S3": self.s3_endpoint
        }

    async def _prepare(self) -> None:
        self.films.mkdir(parents=True, exist_ok=True)
        cache = devserver.cache_dir()
        self._account = Account.for_database()
        self._postgres = await asyncio.to_thread(find_postgres, self._account, cache)
        programs = await asyncio.to_thread(link_programs, cache, self.folder / "bin", self._on_message)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        self._inherited = {**kept, "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}

    async def _start_postgres(self) -> None:
        data = self._account.find_reachable_folder(self.folder) / "postgres"
        cluster = Cluster(self._postgres, data, self._account, self._environment("postgres"))
        await cluster.create_files(self._log("initdb"))

        def make() -> Component:
            command, log = self.compose.command("postgres"), self._log("postgres")
            return cluster.make_component(command, self.ports.postgres, log)

        self.postgres = await self._start_component(make, "postgres")
        self._on_message(f"PostgreSQL at 127.0.0.1:{self.ports.postgres}, its data in {data}.")

    async def _start_temporal(self) -> None:
        at = {"SQL_HOST": "127.0.0.1", "SQL_PORT": str(self.ports.postgres)}
        await self._run_once("temporal-schema", **at)
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

        self.temporal = await self._start_component(make, "temporal", "temporal_http")
        await self._run_once("temporal-namespace", TEMPORAL_ADDRESS=self.address)
        self._on_message(f"Temporal at {self.address}, namespace {self.namespace}.")

    async def _start_s3(self) -> None:
        def make() -> Component:
            inside = find_internal_ports()
            listen = {"S3_BIND": "127.0.0.1", "S3_LISTEN_PORT": str(self.ports.s3), "S3_INTERNAL_PORT": str(inside)}
            environment = self._environment("s3", **listen)
            self._stack.callback(remove_sockets, {self.ports.s3, *range(inside, inside + INTERNAL_PORTS)})
            keys = environment["S3_ADMIN_ACCESS_KEY"], environment["S3_ADMIN_SECRET_KEY"]

            async def is_ready(component: Component) -> bool:
                return await asyncio.to_thread(can_list_buckets, self.s3_endpoint, *keys)

            # A stop takes SeaweedFS 25 seconds, and a kill loses no write that it has confirmed.
            return Component(
                "s3", self.compose.command("s3"), environment, self._log("s3"), is_ready, stop_signal=signal.SIGKILL
            )

        self.s3 = await self._start_component(make, "s3")
        await self._run_once("s3-bucket", S3_ENDPOINT=self.s3_endpoint)
        self._on_message(f"S3 server at {self.s3_endpoint}.")

    async def _start_workers(self) -> None:
        async def is_ready(component: Component) -> bool:
            return "ready:" in component.output

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
            # They are of a server elsewhere, and this farm's own speaks no TLS.
            environment = {
                variable: value
                for variable, value in environment.items()
                if not variable.startswith(("TEMPORAL_TLS", "TEMPORAL_API_KEY"))
            }
            command = [sys.executable, str(self._worker_program)]
            stop_seconds = float(environment["LONGTAKE_SHUTDOWN_GRACE_SECONDS"]) + 60
            log = self._log(name)
            self.workers.append(Component(name, command, environment, log, is_ready, stop_seconds=stop_seconds))
        self._stack.push_async_callback(self._stop_workers)
        await asyncio.gather(*(worker.start() for worker in self.workers))
        self._on_message(f"{self._count} workers; directory stores in {self.films}.")

    async def _stop_workers(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self.workers))

    async def _start_component(self, make: Callable[[], Component], *ports: str) -> Component:
        """Start a component, and again where another process takes one of its ports.

        Args:
            make: Makes the component.
            ports: Fields of `Ports` that the component uses.

        Raises:
            ProductionError: The component did not come up.
            PortTakenError: A port that the user has named is taken.
        """

        def renew_ports(component: Component) -> None:
            self._on_message(f"Another process took a port of {component.name}: starting it again.")
            self.ports = self.ports.replace_taken(ports, self._on_message)

        component = await start_component(make, renew_ports)
        self._stack.push_async_callback(component.stop)
        return component

    async def _run_once(self, service: str, **settings: str) -> None:
        environment = self._environment(service, **settings)
        # `python` of the worker's image stands for this Python, which has the same packages.
        command = [sys.executable if word == "python" else word for word in self.compose.command(service)]
        await run_once(service, command, environment, self._log(service))

    def _environment(self, service: str, **settings: str) -> dict[str, str]:
        return {**self._inherited, **self.compose.environment(service), **settings}

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"
