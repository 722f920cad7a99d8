"""healthz: this process answers. readyz: the whole can do its work."""

from typing import Any

from anyio import move_on_after, to_thread
from fastapi import APIRouter, Response

from api.deps import TheDb, TheService
from scraper.database import Db
from scraper.errors import BowerbirdError
from scraper.service import STUCK_S
from scraper.states import State
from scraper.worker.start import ENRICHER

PATIENCE_S = 3.0

router = APIRouter(tags=["health"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """This process answers; nothing else is looked at."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"description": "the checks that fail, and why"}})
async def readyz(db: TheDb, service: TheService, response: Response) -> dict[str, Any]:
    """Whether database and scraper can do their work."""
    checks = {"database": f"{db.shown}: has not answered for {PATIENCE_S:.0f} s"}
    with move_on_after(PATIENCE_S):
        checks["database"] = await to_thread.run_sync(_database, db, abandon_on_cancel=True)
    status = service.status()
    # What keeps a task from its language model keeps nobody from scraping.
    scrapers = [process for process in status.processes if not process.name.startswith(ENRICHER)]
    if troubles := [process.trouble for process in scrapers if process.trouble]:
        checks["database"] = troubles[0]
    bad = {State.FAILED: "has failed", State.HUNG: "is hung"}
    checks["scraper"] = next((f"{p.name} {bad[p.state]}" for p in scrapers if p.state in bad), "ok")
    if not service.hears_owner:  # what it told last may be long over
        checks["scraper"] = status.message or "its owner is silent"
    stuck_s = service.lag_s()
    checks["supervisor"] = "ok" if stuck_s < STUCK_S else f"it has not moved for {stuck_s:.0f} s"
    ready = all(value == "ok" for value in checks.values())
    response.status_code = 200 if ready else 503
    return {"status": "ready" if ready else "not ready", "checks": checks}


def _database(db: Db) -> str:
    try:
        db.read(lambda connection: connection.exec_driver_sql("SELECT 1").scalar())
    except BowerbirdError as error:
        return str(error)
    return "ok"
