"""Streamed exports."""

from typing import Literal

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from api.deps import TheDb, Word
from scraper import export
from scraper.database import sources

router = APIRouter(prefix="/api/export", tags=["exports"])


@router.get("/{source}")
def export_source(
    source: str, db: TheDb, format: Literal["jsonl", "csv"] = "jsonl", kind: Word = None
) -> StreamingResponse:
    """The items of a source."""
    db.read(lambda c: sources.definition(c, source))
    lines = export.lines(db, "items", {"source": source, "kind": kind, "present": True}, format)
    return StreamingResponse(
        lines,
        media_type=export.MEDIA[format],
        headers={"Content-Disposition": f'attachment; filename="export.{format}"'},
    )
