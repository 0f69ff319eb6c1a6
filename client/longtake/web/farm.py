"""Routes for the farm as a whole."""

from fastapi import APIRouter

from longtake.farm_overview import FarmOverview
from longtake.web.gateway import Shared

router = APIRouter(tags=["farm"])


@router.get("/farm")
async def tell_farm(shared: Shared) -> FarmOverview:
    """Tell the hosts of the farm, what they render now, and what waits in its queues; a few seconds old at most."""
    return await shared.overview.get()
