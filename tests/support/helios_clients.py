"""Agents as Helios clients see them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from agent_edges import Edge
from agent_jobs import AgentJobs
from helios_jobs import HeliosJobs, body_of

from longtake.stores.directory import DirectoryStore

# Of Lambda; what is larger fails a chunk that was rendered.
LARGEST_ANSWER = 6_291_556


@dataclass
class Asked:
    """An agent as Helios clients see it."""

    edge: Edge
    jobs: HeliosJobs
    workspace: Path

    async def ask(self, payload: Any) -> tuple[int, Any]:
        """Return status and body."""
        if self.edge.app is None:
            answer = await self.edge.service.call(payload)
            assert "x-amz-function-error" not in answer.headers, answer.body
            assert len(answer.body) < LARGEST_ANSWER
            return body_of(answer.body)
        response = await self.post(json.dumps(payload).encode())
        assert len(response.content) < LARGEST_ANSWER
        return response.status_code, response.json()

    async def post(self, content: bytes, method: str = "POST", path: str = "/any/path") -> httpx.Response:
        assert self.edge.app is not None
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            return await client.request(method, f"{self.edge.app.url}{path}", content=content)

    @property
    def is_lambda(self) -> bool:
        return self.edge.app is None


def environ(folder: Path, jobs: HeliosJobs) -> dict[str, str]:
    own = AgentJobs(DirectoryStore(folder / "store"), folder / "notes")
    return {**own.environ, "LONGTAKE_HELIOS_JOBS": jobs.allowed}
