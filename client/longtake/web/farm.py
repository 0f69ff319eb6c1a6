"""Routes for the farm as a whole: hosts, queues."""

from typing import Any

from fastapi import APIRouter

from longtake.web.gateway import Shared

router = APIRouter(tags=["farm"])


@router.get("/farm")
async def tell_farm(shared: Shared) -> dict[str, Any]:
    """Tell the hosts of the farm and its queues."""
    return {"hosts": [], "queues": []}
