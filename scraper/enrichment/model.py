"""A language model over HTTP, by the one way to the network: what it is asked, and what becomes of its answers.

Whoever asks is told one of: an answer that is whole and of the right shape; or a trouble with a name, each with a cure of
its own. To be asked again, a model is told what was wrong with its answer, and never the answer.
"""

import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from scraper.config.settings import Http, Llm
from scraper.crawl.fetcher import Fetcher, Request, retry_after
from scraper.enrichment import answer
from scraper.enrichment.answer import Incomplete
from scraper.enrichment.shape import Invalid, Shape
from scraper.errors import Failure, VisitFailed
from scraper.records import Fetched
from scraper.urls import canonical, parts

ANSWER_MOST = 16 * 2**20
REASKS_MOST = 2
GROWS_MOST = 3  # how often a longer answer is allowed
TOKENS_MOST = 32_768
RATE_WAIT_S = 5.0
RATE_WAIT_MOST_S = 3600.0
ANY = ("0.0.0.0/0", "::/0")  # where a model is, is the operator's word

AS_IT_IS = {"Accept-Encoding": "identity"}  # a compressed stream would come in lumps
NOBODY_THERE = {
    Failure.CONNECT,
    Failure.DNS,
    Failure.TLS,
    Failure.BLOCKED_ADDRESS,
    Failure.INVALID_URL,
    Failure.BLOCKED_SCHEME,
}

log = logging.getLogger(__name__)


class Trouble(StrEnum):
    """Why there is no record."""

    TRANSPORT = "transport"  # no answer, a broken one, or none of a model's
    AWAY = "away"  # nobody is there to be asked
    RATE = "rate"  # too much was asked
    TRUNCATED = "truncated"
    INVALID = "invalid"  # whole, and not of the right shape
    REFUSED = "refused"  # by the model, or its endpoint's filter
    KEY = "key"  # the endpoint does not know us, or not the model
    BUDGET = "budget"
    PROMPT = "prompt"  # the template cannot be filled in
    TIMEOUT = "timeout"  # a function did not return
    FUNCTION = "function"  # a function raised
    UNREADABLE = "unreadable"  # the page, by any means
    SIGNAL = "content_signal"  # the site's robots.txt says that this is not wanted
    LACKING = "lacking"  # something has to be installed
    POISON = "poison"  # processes ended with it in hand


class NoRecord(Exception):
    """A job ends without a record, for now or for good."""

    def __init__(self, trouble: Trouble, said: str, wait_s: float | None = None) -> None:
        """wait_s: how long the endpoint wants to be left alone."""
        super().__init__(said)
        self.trouble, self.said, self.wait_s = trouble, said, wait_s


@dataclass(frozen=True, slots=True)
class Call:
    """One request that a model was sent: how it went, and what it took. Times in seconds."""

    outcome: str
    said: str | None
    tokens_in: int
    tokens_out: int
    elapsed_s: float
    model: str | None


@dataclass(slots=True)
class Asked:
    """One prompt, and all calls that were made for it."""

    prompt: str
    system: str
    shape: Shape | None
    calls: list[Call] = field(default_factory=list)


MEANS = ("json_schema", "json_object", "prompt")

Allow = Callable[[], Awaitable[None]]


class Key:
    """The key of an endpoint: goes to its origin alone, wherever a redirect leads."""

    def __init__(self, base_url: str, key: str) -> None:
        self._origin = _origin(base_url)
        self._key = key

    def headers_for(self, url: str) -> Mapping[str, str]:
        """Return the header that is for this origin and no other."""
        return {"Authorization": f"Bearer {self._key}"} if self._key and _origin(url) == self._origin else {}

    def took(self, url: str, set_cookies: Any) -> bool:
        """Take none."""
        return False


def _origin(url: str) -> str:
    found = canonical(url)
    return parts(found).origin if found is not None else ""


async def anywhere(url: str) -> None:
    """Admit any address: where a model is, is the operator's word."""


def http_for(base: Http, timeout_s: float) -> Http:
    """Return how an endpoint is asked: [http] with its proxy, but patient, and at any address."""
    return replace(base, timeout=timeout_s, allow_networks=ANY, max_body=ANSWER_MOST, http2=False)


class Model:
    """One endpoint. What it can be held to is learnt by asking, once."""

    def __init__(self, fetcher: Fetcher, llm: Llm, http: Http, key: str) -> None:
        self._fetcher = fetcher
        self._llm = llm
        self._http = http_for(http, llm.timeout)
        self._key = Key(llm.base_url, key)
        self._means = 0
        self._tells_usage = True

    @property
    def name(self) -> str:
        """The model's name."""
        return self._llm.model

    def digest(self, asked: Asked) -> str:
        """Return a mark of all that decides on an answer: whoever asks the same gets the same."""
        shape = asked.shape.json_schema if asked.shape is not None else None
        parts = (self._llm.base_url, self._llm.model, self._llm.temperature, asked.system, asked.prompt, shape)
        return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=32).hexdigest()

    async def ask(
        self, asked: Asked, allow: Allow, words: Callable[[bytes], None] | None = None, *, once: bool = False
    ) -> dict[str, Any]:
        """Return the record that a model makes of a prompt.

        allow: waited for before each call; raises NoRecord where the budget is spent. words: given the bytes as they come;
        once: what was said so far was heard by somebody, so it is not asked again for more of it.
        Raises NoRecord.
        """
        tokens, faults, grown, reasked = self._llm.max_tokens, "", 0, 0
        while True:
            await allow()
            try:
                found = await self._call(asked, tokens, faults, words)
            except Incomplete as broken:
                if once or broken.name != "truncated" or grown >= GROWS_MOST or tokens >= TOKENS_MOST:
                    raise NoRecord(Trouble(broken.name), str(broken)) from None
                grown, tokens = (
                    grown + 1,
                    min(2 * tokens, TOKENS_MOST),
                )  # to ask for it again would end at the same place
                continue
            try:
                return self._record(asked, found)
            except Invalid as fault:
                asked.calls[-1] = replace(asked.calls[-1], outcome=Trouble.INVALID, said=str(fault))
                if reasked >= REASKS_MOST:
                    raise NoRecord(Trouble.INVALID, str(fault)) from None
                reasked, faults = reasked + 1, str(fault)

    def _record(self, asked: Asked, text: str) -> dict[str, Any]:
        if asked.shape is None:
            return {"text": text}
        return asked.shape.read(bare(text))

    async def _call(self, asked: Asked, tokens: int, faults: str, words: Callable[[bytes], None] | None) -> str:
        """Ask once, with the strongest means that the endpoint has. Raises Incomplete, NoRecord."""
        while True:
            meant = (self._means, self._tells_usage)
            request = Request(
                f"{self._llm.base_url.rstrip('/')}/chat/completions",
                "POST",
                {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"} | AS_IT_IS,
                json.dumps(self._body(asked, tokens, faults), ensure_ascii=False).encode(),
                trickles=True,
            )
            try:
                fetched = await self._fetcher.fetch(
                    request, self._http, admit=anywhere, visitor=self._key, piece_seen=words
                )
            except VisitFailed as failed:
                ended = gone(self._llm.base_url, failed)
                asked.calls.append(Call(ended.trouble, ended.said, 0, 0, 0.0, self.name))
                raise ended from None
            if fetched.status in (400, 404, 422) and self._less(fetched.body, meant):
                continue
            if fetched.status != 200:
                refused = refusal(fetched)
                asked.calls.append(Call(refused.trouble, refused.said, 0, 0, fetched.elapsed_s, self.name))
                raise refused
            streamed = fetched.content_type == "text/event-stream"
            try:
                found = answer.read(fetched.body, streamed=streamed)
            except Incomplete as broken:
                spent = (broken.tokens_in, broken.tokens_out)
                asked.calls.append(Call(broken.name, str(broken), *spent, fetched.elapsed_s, self.name))
                raise
            given = found.tokens_in if found.tokens_in is not None else _about(asked.prompt + asked.system)
            made = found.tokens_out if found.tokens_out is not None else _about(found.text)
            asked.calls.append(Call("ok", None, given, made, fetched.elapsed_s, self.name or found.model))
            return found.text

    def _body(self, asked: Asked, tokens: int, faults: str) -> dict[str, Any]:
        means = MEANS[self._means] if asked.shape is not None else "none"
        system = asked.system
        if asked.shape is not None and means != "json_schema":
            schema = json.dumps(asked.shape.json_schema, ensure_ascii=False)
            system = f"{system}\n\nAnswer with one JSON object and nothing else. It follows this JSON Schema:\n{schema}".strip()
        prompt = asked.prompt
        if faults:
            prompt += f"\n\nAn answer before this one was not accepted: {faults}\nAnswer again, in full."
        messages = [{"role": "system", "content": system}] if system else []
        body: dict[str, Any] = {
            "model": self._llm.model,
            "messages": [*messages, {"role": "user", "content": prompt}],
            "temperature": self._llm.temperature,
            "max_tokens": tokens,
            "stream": True,
        }
        if self._tells_usage:
            body["stream_options"] = {"include_usage": True}
        if asked.shape is not None and means == "json_schema":
            schema_said = {"name": "record", "strict": True, "schema": asked.shape.json_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema_said}
        elif means == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def _less(self, body: bytes, meant: tuple[int, bool]) -> bool:
        """Ask for less from now on, if that may be what the endpoint did not like. Returns whether less is asked for than was.

        meant: how it was asked. What another one has learnt meanwhile is not learnt again.
        """
        if meant != (self._means, self._tells_usage):
            return True
        said = body[:4000].decode("utf-8", "replace").lower()
        if self._tells_usage and ("stream_options" in said or "include_usage" in said):
            self._tells_usage = False
            return True
        if self._means + 1 < len(MEANS) and any(
            word in said for word in ("response_format", "json_schema", "schema", "grammar")
        ):
            self._means += 1
            log.warning(
                "the endpoint cannot be held to a schema so",
                extra={"by": MEANS[self._means - 1], "now": MEANS[self._means]},
            )
            return True
        return False


def bare(text: str) -> str:
    """Return a text without the fence that models put around JSON."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        text = text[text.index("\n") + 1 : -3].strip()
    return text


def _about(text: str) -> int:
    """How many tokens a text has, where nobody says: about a quarter of its bytes."""
    return len(text.encode()) // 4 + 1


def gone(base_url: str, failed: VisitFailed) -> NoRecord:
    """Return what it means that an endpoint could not be asked."""
    trouble = Trouble.AWAY if failed.failure in NOBODY_THERE else Trouble.TRANSPORT
    said = f"{base_url}: {failed.failure}: {failed.message}"
    if trouble is Trouble.AWAY:
        said += "; start the model's server, or correct base_url"
    return NoRecord(trouble, said)


def refusal(fetched: Fetched) -> NoRecord:
    """Return what it means that an endpoint answered with another status than 200."""
    status, wait_s = fetched.status, retry_after(fetched.headers, datetime.now(UTC))
    said = f"{status}: {' '.join(fetched.body[:300].decode('utf-8', 'replace').split())}"
    if status == 429:
        return NoRecord(Trouble.RATE, said, min(wait_s if wait_s is not None else RATE_WAIT_S, RATE_WAIT_MOST_S))
    if status in (401, 403, 404):
        return NoRecord(Trouble.KEY, said)
    if status in (408, 409, 425) or status >= 500:
        return NoRecord(Trouble.TRANSPORT, said, min(wait_s, RATE_WAIT_MOST_S) if wait_s is not None else None)
    return NoRecord(Trouble.REFUSED, said)
