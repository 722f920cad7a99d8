"""One job, from what it is over to its records. No transaction is open while anything here is waited for."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from scraper import clean
from scraper.config.settings import Embed, Enrich, Http, Settings
from scraper.crawl import robots
from scraper.crawl.fetcher import Fetcher, Request, user_agent
from scraper.database import documents, hosts
from scraper.database.vectors import Passages
from scraper.enrichment import embedder, prompt, shape
from scraper.enrichment.chunks import passages
from scraper.enrichment.model import Asked, Call, Key, Model, NoRecord, Trouble, anywhere, gone, http_for, refusal
from scraper.enrichment.pace import Turn
from scraper.enrichment.subject import READER, Subject, of_item, of_page
from scraper.errors import BadConfig, VisitFailed
from scraper.offload.callers import Callers, Died, Late, Raised
from scraper.template import BadTemplate
from scraper.urls import parts

READ_S = 20.0
SENT_AT_ONCE = 64  # passages in one request
PASSAGES_MOST = 2000
RECORDS_MOST = 1000
AI_INPUT = "ai-input"
UNANSWERED = (Trouble.RATE, Trouble.AWAY, Trouble.KEY)  # what cost nothing


@dataclass(slots=True)
class Made:
    """What came of a job. digest, answer: what is kept, so that the same prompt is not paid for again."""

    records: list[dict[str, Any]] = field(default_factory=list)
    model: str | None = None
    passages: Passages | None = None
    digest: str | None = None
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What work asks the database: each is one short unit. allow: takes a call out of a task's budget; give_back: puts it back."""

    answered: Callable[[str], Awaitable[str | None]]
    robots: Callable[[str], Awaitable[hosts.StoredRobots | None]]
    allow: Callable[[Enrich], Awaitable[None]]
    give_back: Callable[[Enrich], Awaitable[None]]


class Work:
    """Makes records. One for each worker: it keeps connections, processes and a model between jobs."""

    def __init__(
        self, settings: Settings, base: Path, variables: Mapping[str, str], fetcher: Fetcher, memory: Memory, most: int
    ) -> None:
        """base: the directory of the configuration. most: how many functions are called at once."""
        self._settings, self._base, self._variables = settings, base, variables
        self._fetcher, self._memory = fetcher, memory
        self.callers = Callers(settings.limits, base, most, [CALLED.partition(":")[0]])
        llm = settings.llm
        self.model = Model(fetcher, llm, settings.http, variables.get(llm.api_key_env, ""))

    async def make(
        self, task: Enrich, kind: str, row: documents.Subject, calls: list[Call], turn: Turn, *, anew: bool = False
    ) -> Made:
        """Return what a task makes of a page or an item. calls: what a model was asked is added to it.

        turn: taken for what costs a model or a processor time, once all else is ready. anew: a model is asked even if it has
        answered the same before. Raises NoRecord.
        """
        if task.kind == "llm" or (task.kind == "embed" and self._settings.embed.base_url):
            await self._heed(row.url)
        subject = await self._subject(row, kind)
        if task.kind == "llm":
            return await self._llm(task, subject, calls, turn, anew=anew)
        async with turn.taken():
            return await (self._embed(subject, row, calls) if task.kind == "embed" else self._function(task, subject))

    async def _heed(self, url: str) -> None:
        """Do not give to a model what its site does not want given to one. Raises NoRecord."""
        found = await self._memory.robots(parts(url).origin)
        if not is_for_models(found, self._settings.http):
            raise NoRecord(Trouble.SIGNAL, f"{parts(url).origin}/robots.txt says Content-Signal: {AI_INPUT}=no")

    async def _subject(self, row: documents.Subject, kind: str) -> Subject:
        """Raises NoRecord."""
        if row.of == "item":
            return of_item(row, kind)
        try:
            reading = await self.callers.call(READER, row.url, row.headers, row.body, timeout_s=READ_S)
        except (Raised, Late, Died) as error:
            raise NoRecord(Trouble.UNREADABLE, f"its main text cannot be read: {error}") from None
        except VisitFailed as error:
            raise NoRecord(Trouble.AWAY, error.message) from None
        return of_page(row, kind, reading)

    async def _llm(self, task: Enrich, subject: Subject, calls: list[Call], turn: Turn, *, anew: bool) -> Made:
        try:
            made = shape.of_task(task)
            asked = Asked(
                prompt.filled(task.prompt, subject.values), prompt.filled(task.system, subject.values), made, calls
            )
        except BadTemplate as error:
            raise NoRecord(Trouble.PROMPT, str(error)) from None
        except BadConfig as error:
            raise NoRecord(Trouble.LACKING, str(error)) from None
        digest = self.model.digest(asked)
        if not anew and (kept := await self._memory.answered(digest)) is not None:
            try:
                return Made(_records(task, made.read(kept)), self.model.name)
            except shape.Invalid:
                pass  # of an earlier shape of the same name
        async with turn.taken():
            try:
                record = await self.model.ask(asked, lambda: self._memory.allow(task))
            except NoRecord as ended:
                if ended.trouble in UNANSWERED:
                    await self._memory.give_back(task)
                raise
        return Made(_records(task, record), asked.calls[-1].model, digest=digest, answer=json.dumps(record))

    async def _embed(self, subject: Subject, row: documents.Subject, calls: list[Call]) -> Made:
        settings = self._settings.embed
        text = f"{subject.title}\n\n{subject.text}" if subject.title else subject.text
        texts = passages(clean.text(text), settings.chunk)[:PASSAGES_MOST]
        began = asyncio.get_running_loop().time()
        vectors = await self.vectors(texts)
        elapsed_s = asyncio.get_running_loop().time() - began
        name = embedder.name_of(settings)
        calls.append(Call("ok", None, 0, 0, elapsed_s, name))
        kept = Passages(row.of, row.id, row.source, row.kind, row.url, subject.title, row.at, texts, vectors)
        record = {"passages": len(texts), "dimensions": len(vectors[0]) // 4 if vectors else 0}
        return Made([record], name, kept)

    async def vectors(self, texts: list[str]) -> list[bytes]:
        """Return the vectors of texts. Raises NoRecord."""
        settings = self._settings.embed
        try:
            if not settings.base_url:
                return await asyncio.to_thread(embedder.embed_here, settings, str(self._base), texts)
            return await remote_vectors(self._fetcher, settings, self._settings.http, self._variables, texts)
        except embedder.Lacking as error:
            raise NoRecord(Trouble.LACKING, str(error)) from None

    async def _function(self, task: Enrich, subject: Subject) -> Made:
        assert task.function is not None
        try:
            found = await self.callers.call(CALLED, task.function, subject, timeout_s=task.timeout)
            records = [_checked(task, record) for record in found]
        except Raised as error:
            trouble = Trouble.LACKING if error.kind == "ModuleNotFoundError" else Trouble.FUNCTION
            raise NoRecord(trouble, f"{error}\n{error.trace}".rstrip()) from None
        except Late as error:
            raise NoRecord(Trouble.TIMEOUT, str(error).replace(CALLED, task.function, 1)) from None
        except Died as error:
            raise NoRecord(Trouble.FUNCTION, f"its process died: {error}") from None
        except shape.Invalid as error:
            raise NoRecord(Trouble.INVALID, str(error)) from None
        except BadConfig as error:
            raise NoRecord(Trouble.LACKING, str(error)) from None
        except VisitFailed as error:
            raise NoRecord(Trouble.AWAY, error.message) from None
        return Made(records)

    async def close(self) -> None:
        """End the processes."""
        await self.callers.close()


def is_for_models(found: hosts.StoredRobots | None, http: Http) -> bool:
    """Say whether a site lets what it says be given to a model, by its robots.txt as it was read last (https://contentsignals.org/)."""
    if found is None or not 200 <= found.status < 300:
        return True
    agent = robots.agent_token(user_agent(http.user_agent))
    return robots.signals(found.text, agent).get(AI_INPUT) is not False


async def remote_vectors(
    fetcher: Fetcher, settings: Embed, http: Http, variables: Mapping[str, str], texts: list[str]
) -> list[bytes]:
    """Return the vectors of texts by an endpoint. Raises NoRecord, Lacking."""
    key = Key(settings.base_url, variables.get(settings.api_key_env, ""))
    patient = http_for(http, settings.timeout)
    made: list[bytes] = []
    for start in range(0, len(texts), SENT_AT_ONCE):
        some = texts[start : start + SENT_AT_ONCE]
        body = embedder.request_body(settings, some)
        request = Request(
            f"{settings.base_url.rstrip('/')}/embeddings",
            "POST",
            {"Content-Type": "application/json"},
            body,
            trickles=True,
        )
        try:
            fetched = await fetcher.fetch(request, patient, admit=anywhere, visitor=key)
        except VisitFailed as failed:
            raise gone(settings.base_url, failed) from None
        if fetched.status != 200:
            raise refusal(fetched)
        try:
            made += embedder.read_response(fetched.body, len(some))
        except (ValueError, KeyError, TypeError) as error:
            raise NoRecord(Trouble.TRANSPORT, f"what the endpoint answered are no vectors: {error}") from None
    return made


CALLED = "scraper.enrichment.work:call"


def call(path: str, subject: Subject) -> list[dict[str, Any]]:
    """Call a task's function, in a process of its own, and return its records as plain values. Raises what it raises."""
    import importlib  # noqa: PLC0415  in that process alone

    module, _, name = path.partition(":")
    found = getattr(importlib.import_module(module), name)(subject)
    if found is None:
        return []
    listed = [found] if isinstance(found, dict | BaseModel) else list(found)
    plain = [one.model_dump(mode="json") if isinstance(one, BaseModel) else one for one in listed[:RECORDS_MOST]]
    if wrong := next((one for one in plain if not isinstance(one, dict)), None):
        raise TypeError(f"{path} gave {type(wrong).__name__}; a record is a dict or a pydantic model")
    done: list[dict[str, Any]] = [clean.value(one) for one in plain]
    return done


def _checked(task: Enrich, record: dict[str, Any]) -> dict[str, Any]:
    """Raises Invalid, BadConfig."""
    return record if task.schema is None else shape.of_task(replace(task, many=False)).read(json.dumps(record))


def _records(task: Enrich, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Raises NoRecord."""
    try:
        cleaned: dict[str, Any] = clean.value(found)
    except ValueError as error:
        raise NoRecord(Trouble.INVALID, f"what the model answered is {error}") from None
    return list(cleaned["records"]) if task.many else [cleaned]
