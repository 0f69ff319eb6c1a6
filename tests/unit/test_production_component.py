"""Ports of the farm: those it chooses are exchanged when they are taken, those that are named never."""

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.production.component import Component, ProductionError, start_component
from deploy.production.compose import Ports
from ports import PortTakenError, find_free_port

LISTEN = (
    "import socket, sys, time; socket.create_server(('127.0.0.1', int(sys.argv[1]))); print('up', flush=True); "
    "time.sleep(60)"
)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_default_port_that_is_taken_is_exchanged_and_said_to_be(taken: int) -> None:
    said: list[str] = []

    ports = Ports(temporal=taken, temporal_http=1, s3=2, postgres=3).replace_taken(["temporal"], said.append)

    assert ports.temporal != taken
    (line,) = said
    assert line.startswith(f"Port {taken} is taken by process {os.getpid()} (")
    assert line.endswith(f": Temporal gets port {ports.temporal}.")
    assert (ports.temporal_http, ports.s3, ports.postgres) == (1, 2, 3)


def test_a_port_that_nobody_else_knows_is_exchanged_without_a_word(taken: int) -> None:
    said: list[str] = []
    ports = Ports(1, 2, 3, postgres=taken).replace_taken(["postgres"], said.append)
    assert ports.postgres != taken
    assert said == []


@pytest.mark.parametrize("name", ["TEMPORAL_PORT", "S3_PORT"])
def test_a_named_port_that_is_taken_is_refused(
    taken: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(taken))
    with pytest.raises(PortTakenError, match=rf"^port {taken} of {name} is taken by process {os.getpid()} \("):
        Ports.choose_published(tmp_path, lambda line: None)


def server(port: int, log: Path) -> Component:
    async def ready(component: Component) -> bool:
        return "up" in component.output

    return Component("server", [sys.executable, "-c", LISTEN, str(port)], dict(os.environ), log, ready)


async def test_a_server_that_loses_its_port_is_started_on_another(taken: int, tmp_path: Path) -> None:
    ports = iter([taken, taken, find_free_port()])
    lost: list[Component] = []

    started = await start_component(lambda: server(next(ports), tmp_path / "log"), lost.append)

    try:
        assert len(lost) == 2
        assert started.pid is not None
    finally:
        await started.stop()


async def test_a_server_that_always_loses_its_port_is_given_up(taken: int, tmp_path: Path) -> None:
    with pytest.raises(ProductionError, match=r"(?s)^server did not come up; .* in use"):
        await asyncio.wait_for(start_component(lambda: server(taken, tmp_path / "log"), lambda _: None), 60)
