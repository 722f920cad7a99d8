"""Tokens: who may call beside the holder of the configuration's token. For admins alone."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from api.deps import Given, TheDb
from scraper.database import tokens
from scraper.database.connection import now
from scraper.database.tokens import Scope

router = APIRouter(prefix="/api/tokens", tags=["tokens"])


class NewToken(Given):
    """A token to be made. days: for how long it is good; left out: until it is revoked."""

    name: str = Field(pattern=f"^{tokens.NAME}$", examples=["grafana"])
    scope: Scope = "read"
    days: Annotated[float, Field(gt=0, le=tokens.DAYS_MOST)] | None = None


@router.get("")
def list_tokens(db: TheDb) -> dict[str, Any]:
    """All tokens, when they were used last; not the tokens themselves."""
    return {"items": db.read(tokens.listed), "next": None}


@router.post("", status_code=201)
def make_token(wanted: NewToken, db: TheDb) -> dict[str, Any]:
    """Make a token. It is told here and never again: only a digest of it is kept."""
    at = now()
    until = at + timedelta(days=wanted.days) if wanted.days is not None else None
    row, token = db.write(lambda c: tokens.make(c, wanted.name, wanted.scope, at, until))
    return row | {"token": token}


@router.delete("/{name}", status_code=204)
def revoke_token(name: str, db: TheDb) -> None:
    """Have a token be valid no more, in two seconds at the latest."""
    db.write(lambda c: tokens.revoke(c, name))
