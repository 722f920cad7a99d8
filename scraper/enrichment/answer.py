"""What a language model answered, put together from a stream. Only a complete answer is one. Pure.

The format is that of OpenAI's chat completions, as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

DONE = "[DONE]"
SAID_MOST = 300
TOKENS_MOST = 10**9


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. Tokens are None where the endpoint does not say."""

    text: str
    tokens_in: int | None
    tokens_out: int | None
    model: str | None


class Incomplete(Exception):
    """An answer that is not whole. name: "truncated", "transport" or "refused"; tokens: what was paid for it all the same."""

    def __init__(self, name: str, said: str, tokens_in: int = 0, tokens_out: int = 0) -> None:
        super().__init__(said)
        self.name = name
        self.tokens_in, self.tokens_out = tokens_in, tokens_out


def events(body: bytes) -> Iterator[str]:
    """Yield the data of each event of a stream; one that was cut off before its empty line is none."""
    text = body.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    *blocks, _ = text.split("\n\n")
    for block in blocks:
        data = [line[5:].removeprefix(" ") for line in block.split("\n") if line.startswith("data:")]
        if data:
            yield "\n".join(data)


def piece(data: str) -> str:
    """Return the words that one event adds to the answer."""
    try:
        choice = _first(json.loads(data))
    except ValueError:
        return ""
    found = _member(choice.get("delta"), "content")
    return found if isinstance(found, str) else ""


def sound(text: str) -> str:
    """Return a text in which halves of a character that came apart (surrogates) are whole again, and such without the other half a mark."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def read(body: bytes, *, streamed: bool) -> Answer:
    """Return what the body of a response says. streamed: as events, or as one document. Raises Incomplete.

    Complete is what ended well on every level: the transport (that is the caller's to know), the stream by its mark, and
    the model by its reason to stop.
    """
    gathered = _Gathered()
    if streamed:
        ended = False
        for data in events(body):
            if data.strip() == DONE:
                ended = True
                break
            gathered.take(_document(data), "delta")
        if not ended:
            raise gathered.incomplete("transport", "the stream ended without its mark, [DONE]")
    else:
        gathered.take(_document(body.decode("utf-8", "replace")), "message")
    return gathered.answer()


def _document(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise Incomplete("transport", f"a part of the answer is no JSON: {text[:SAID_MOST]!r}") from None
    if not isinstance(found, dict):
        raise Incomplete("transport", f"a part of the answer is no object: {text[:SAID_MOST]!r}")
    return found


def _first(found: Any) -> dict[str, Any]:
    choices = found.get("choices") if isinstance(found, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _member(found: Any, name: str) -> Any:
    return found.get(name) if isinstance(found, dict) else None


def _count(found: Any) -> int | None:
    """A number of tokens that can be one; what an endpoint says is a stranger's word, and goes into a column."""
    return found if type(found) is int and 0 <= found <= TOKENS_MOST else None


class _Gathered:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self.refusal: list[str] = []
        self.reason: str | None = None
        self.tokens: tuple[int, int] | None = None
        self.model: str | None = None

    def take(self, found: dict[str, Any], where: str) -> None:
        if (error := found.get("error")) is not None:
            said = _member(error, "message") or str(error)
            raise self.incomplete("transport", f"the endpoint broke off: {str(said)[:SAID_MOST]}")
        choice = _first(found)
        message = choice.get(where)
        for name, into in (("content", self.parts), ("refusal", self.refusal)):
            if isinstance(text := _member(message, name), str):
                into.append(text)
        self.reason = choice.get("finish_reason") or self.reason
        given, made = (_count(_member(found.get("usage"), name)) for name in ("prompt_tokens", "completion_tokens"))
        if given is not None and made is not None:
            self.tokens = (given, made)
        if isinstance(found.get("model"), str):
            self.model = found["model"]

    def incomplete(self, name: str, said: str) -> Incomplete:
        return Incomplete(name, said, *(self.tokens or (0, 0)))

    def answer(self) -> Answer:
        if self.refusal or self.reason == "content_filter":
            said = "".join(self.refusal)[:SAID_MOST]
            raise self.incomplete(
                "refused", f"the model refused: {said}" if said else "the endpoint's filter held it back"
            )
        if self.reason == "length":
            raise self.incomplete("truncated", "the answer is longer than max_tokens allows")
        if self.reason != "stop":
            raise self.incomplete("transport", f"the answer ended for no reason of the model's own: {self.reason}")
        given, made = self.tokens or (None, None)
        return Answer(sound("".join(self.parts)), given, made, self.model)
