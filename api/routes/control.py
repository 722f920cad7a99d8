"""start, stop, restart, pause, resume: each writes a wish, which the owner of the scraper obeys."""

import time
from typing import Any

from fastapi import APIRouter, Response

from api.deps import TheService
from scraper.statedir import Verb

router = APIRouter(prefix="/api/scraper", tags=["scraper"])


@router.post("/{verb}", status_code=202, responses={200: {"description": "it is so already"}})
def control(verb: Verb, service: TheService, response: Response) -> dict[str, Any]:
    """Keep the operator's wish; it survives a restart of the service. 202 and the status; already so: 200."""
    asked = service.ask(verb)
    if not asked.changed:
        response.status_code = 200
    return asked.status.answer(time.monotonic())
