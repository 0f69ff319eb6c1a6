"""Routes for the farm as a whole: who asks, hosts, queues."""

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter

from longtake.web.gateway import Shared

router = APIRouter(tags=["farm"])


@router.get("/me")
async def tell_caller(shared: Shared) -> dict[str, Any]:
    """Tell who asks, what they may do, and which farm this is."""
    client = shared.farm.temporal
    return {
        "role": "submit",
        "name": "",
        "can": ["look", "steer", "submit"],
        "temporal": {
            "address": client.service_client.config.target_host,
            "namespace": client.namespace,
            "ui": shared.settings.ui,
        },
        "version": version("longtake"),
    }


@router.get("/farm")
async def tell_farm(shared: Shared) -> dict[str, Any]:
    """Tell the hosts of the farm and its queues."""
    return {"hosts": [], "queues": []}
