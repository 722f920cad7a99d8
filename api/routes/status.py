"""GET /api/scraper-status: answered in every state of the system, without waiting for anything."""

import time
from typing import Any

from fastapi import APIRouter

from api.deps import TheService

router = APIRouter(prefix="/api", tags=["scraper"])


@router.get("/scraper-status")
async def scraper_status(service: TheService) -> dict[str, Any]:
    """What the scraper is doing, its pid and whether that very process lives."""
    return service.status().answer(time.monotonic())
