"""How a notification leaves: a signed webhook by the way of all requests, or one of Apprise's many services."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from scraper.config import secrets
from scraper.config.settings import Http, Notify
from scraper.crawl.fetcher import Fetcher, Request, retry_after
from scraper.crawl.outcome import obeyed_s
from scraper.errors import VisitFailed
from scraper.notify import message

NEEDS_APPRISE = 'this address needs the extra: pip install "bowerbird[notify]"'
WEBHOOK = ("http://", "https://")


class Refused(Exception):
    """It was not delivered; the text says why. final: to try again is of no use. wait_s: for how long the receiver asks for nothing more."""

    def __init__(self, said: str, *, final: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(said)
        self.final = final
        self.wait_s = wait_s


async def anyhow(url: str) -> None:
    """Admit any address: where a notification goes is the operator's word."""


async def deliver(
    fetcher: Fetcher, rule: Notify, http: Http, variables: Mapping[str, str], number: str, payload: Mapping[str, Any]
) -> str:
    """Deliver one message. number: of the delivery and of no other, so that a receiver can tell a second one. Returns what was answered.

    Raises Refused.
    """
    try:
        url = secrets.filled(rule.url, variables)
        secret = secrets.filled(rule.secret, variables)
    except KeyError as error:
        raise Refused(f"the variable {error.args[0]} is not set") from None
    if url.lower().startswith(WEBHOOK):
        return await _webhook(fetcher, rule, http, (url, secret), (number, payload))
    return await asyncio.to_thread(_apprise, url, message.subject(payload), message.text(payload, rule.template))


async def _webhook(
    fetcher: Fetcher, rule: Notify, http: Http, to: tuple[str, str], what: tuple[str, Mapping[str, Any]]
) -> str:
    (url, secret), (number, payload) = to, what
    told = {**payload, "subject": message.subject(payload), "text": message.text(payload, rule.template)}
    body = json.dumps(told, ensure_ascii=False, default=str).encode()
    try:
        signature = signed(secret, f"msg_{rule.name}_{number}", int(time.time()), body)
    except binascii.Error:
        raise Refused("its secret is no base64 after whsec_") from None
    headers = {"Content-Type": "application/json", **signature}
    try:
        answer = await fetcher.fetch(Request(url, "POST", headers, body), http, admit=anyhow, follows=False)
    except VisitFailed as error:
        raise Refused(f"{error.failure}: {error.message}", wait_s=obeyed_s(error.retry_after_s) or 0.0) from None
    wait_s = obeyed_s(retry_after(answer.headers, datetime.now(UTC))) or 0.0
    if 300 <= answer.status < 400:
        where = answer.headers.get("location", "elsewhere")
        raise Refused(f"{answer.status}: it is at {where} now; correct url")
    if answer.status == 410:
        raise Refused("410 Gone: the receiver wants no more", final=True)
    if not 200 <= answer.status < 300:
        raise Refused(f"{answer.status}: {answer.body[:200].decode('utf-8', 'replace')}", wait_s=wait_s)
    return str(answer.status)


def signed(secret: str, number: str, at: int, body: bytes) -> dict[str, str]:
    """Return the headers by which a receiver knows that a message is ours, and new (https://www.standardwebhooks.com/)."""
    headers = {"webhook-id": number, "webhook-timestamp": str(at)}
    if not secret:
        return headers
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    mac = hmac.new(key, f"{number}.{at}.".encode() + body, hashlib.sha256).digest()
    return headers | {"webhook-signature": f"v1,{base64.b64encode(mac).decode()}"}


def _apprise(url: str, title: str, text: str) -> str:
    try:
        import apprise  # noqa: PLC0415  an extra, and a large one
    except ImportError:
        raise Refused(NEEDS_APPRISE) from None
    sender = apprise.Apprise(asset=apprise.AppriseAsset(secure_logging=True))
    if not sender.add(url):
        raise Refused("Apprise does not know this kind of address", final=True)
    if not sender.notify(title=title, body=text, body_format=apprise.NotifyFormat.TEXT):
        raise Refused("the service did not take it; the log has what it said")
    return "sent"
