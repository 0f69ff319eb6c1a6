"""Temporal 1.32, whose server tells workers of a cancel at once: built once, and run with its state in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import yaml
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

import devserver
from deploy.production.programs import TEMPORAL_SERVER

_START_SECONDS = 60.0

# Off by default; both are needed.
PUSH = {"frontend.WorkerCommandsEnabled": True, "system.enableCancelActivityWorkerCommand": True}

# What the development server sets too: limits made for shared clusters would be measured instead.
_LIMITS = {"frontend.namespaceRPS": 20_000, "frontend.rps": 20_000, "history.rps": 20_000, "matching.rps": 20_000}


@asynccontextmanager
async def push_server(folder: Path, *, push: bool = True) -> AsyncIterator[str]:
    """Run the server on free ports of the loopback interface; give its address, with the namespace `default`."""
    program = await asyncio.to_thread(TEMPORAL_SERVER.get, devserver.cache_dir() / "bin")
    address = f"127.0.0.1:{devserver.free_port()}"
    flags = folder / "flags.yaml"
    values = {**_LIMITS, **dict.fromkeys(PUSH, push)}
    flags.write_text(yaml.safe_dump({name: [{"value": value}] for name, value in values.items()}))
    config = folder / "server.yaml"
    config.write_text(yaml.safe_dump(_config(address, flags)))
    log = folder / "server.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *devserver.ending_with_parent([str(program), "--config-file", str(config), "--allow-no-auth", "start"]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
        )
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not await _has_namespace(address):
                assert process.returncode is None, log.read_text(errors="replace")[-2000:]
                await asyncio.sleep(0.1)
        yield address
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _has_namespace(address: str) -> bool:
    limit = timedelta(seconds=2)
    try:
        client = await asyncio.wait_for(Client.connect(address), limit.total_seconds())
        service = client.workflow_service
        try:
            await service.describe_namespace(DescribeNamespaceRequest(namespace="default"), timeout=limit)
        except RPCError:
            kept = Duration(seconds=86_400)
            wanted = RegisterNamespaceRequest(namespace="default", workflow_execution_retention_period=kept)
            await service.register_namespace(wanted, timeout=limit)
            return False
        # Pollers get a namespace only when each service has read it.
        await client.count_workflows()
    except (RuntimeError, RPCError, TimeoutError):
        return False
    return True


def _config(address: str, flags: Path) -> dict[str, object]:
    """Return the server's own development configuration, with free ports and nothing on disk."""
    port = int(address.rpartition(":")[2])
    store = {
        "sql": {
            "pluginName": "sqlite",
            "databaseName": "default",
            "connectAddr": "localhost",
            "connectProtocol": "tcp",
            "connectAttributes": {"mode": "memory", "cache": "private"},
            "maxConns": 1,
            "maxIdleConns": 1,
            "maxConnLifetime": "1h",
        }
    }

    def service(grpc_port: int, **more: int) -> dict[str, object]:
        ports = {"grpcPort": grpc_port, "membershipPort": devserver.free_port(), "bindOnLocalHost": True}
        return {"rpc": {**ports, **more}}

    http = devserver.free_port()
    return {
        "log": {"stdout": True, "level": "warn"},
        "persistence": {
            "defaultStore": "main",
            "visibilityStore": "visibility",
            "numHistoryShards": 1,
            "datastores": {"main": store, "visibility": store},
        },
        "global": {"membership": {"maxJoinDuration": "30s", "broadcastAddress": "127.0.0.1"}},
        "services": {
            "frontend": service(port, httpPort=http),
            "matching": service(devserver.free_port()),
            "history": service(devserver.free_port()),
            "worker": service(devserver.free_port()),
        },
        "clusterMetadata": {
            "enableGlobalNamespace": False,
            "failoverVersionIncrement": 10,
            "masterClusterName": "active",
            "currentClusterName": "active",
            "clusterInformation": {
                "active": {
                    "enabled": True,
                    "initialFailoverVersion": 1,
                    "rpcName": "frontend",
                    "rpcAddress": address,
                    "httpAddress": f"127.0.0.1:{http}",
                }
            },
        },
        "dcRedirectionPolicy": {"policy": "noop"},
        "namespaceDefaults": {"archival": {"history": {"state": "disabled"}, "visibility": {"state": "disabled"}}},
        "dynamicConfigClient": {"filepath": str(flags), "pollInterval": "10s"},
    }
