"""Vectors of what was stored, by the small model that runs here or by an endpoint, and questions that are answered by them."""

import json
import math
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scraper.config.settings import Embed, Enrich
from scraper.database import vectors
from scraper.database.connection import now
from scraper.enrichment import embedder
from scraper.enrichment.embedder import Lacking, name_of, read_response
from scraper.enrichment.runner import Away
from scraper.search.find import Question, find, retrieve
from scraper.search.semantic import Matrix
from tests.enrichment.factory import Factory
from tests.enrichment.shop import Shop
from tests.export import stock
from tests.site import Request, Site
from tests.support import Running

pytestmark = pytest.mark.usefixtures("impatient")
TASK = Enrich(task="passages", kind="embed")
WIDE = 384
PAGES = {
    "http://shop.test/owls": "Owls are birds that hunt mice in the dark. They see very well at night.",
    "http://shop.test/bread": "Knead the dough, let it rise for an hour, and bake it in a hot oven.",
    "http://shop.test/engine": "The pistons of this motor are driven by burning petrol in its cylinders.",
}
QUESTIONS = {"nocturnal predators": "owls", "how to make a loaf": "bread", "how does a car run": "engine"}


@pytest.fixture
def pages(shop: Shop) -> Shop:
    for url, text in PAGES.items():
        shop.page(f"<title>Page</title><p>{text}</p>", url)
    return shop


def floats(vector: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))


@pytest.mark.databases("sqlite", "pgbouncer")
def test_the_small_model_finds_what_is_meant_in_other_words(pages: Shop) -> None:
    pages.do(TASK)
    assert [record[3] for record in pages.records("passages")] == [{"passages": 1, "dimensions": WIDE}] * 3
    matrix = Matrix(name_of(Embed()))
    for question, expected in QUESTIONS.items():
        (vector,) = embedder.embed_here(Embed(), str(pages.base), [question])
        asked = Question(question, "semantic", vector=vector)
        assert find(pages.db, asked, now(), matrix)[0]["url"].endswith(expected)
        assert retrieve(pages.db, asked, now(), matrix)[0]["text"].endswith(PAGES[f"http://shop.test/{expected}"])


def test_a_text_has_the_same_vector_alone_and_beside_others(tmp_path: Path) -> None:
    texts = ["Owls.", "A much longer text about bread and its many makers. " * 20, "", "Owls."]
    together = embedder.embed_here(Embed(), str(tmp_path), texts)
    alone = [embedder.embed_here(Embed(), str(tmp_path), [text])[0] for text in texts]
    assert together == alone
    assert together[0] == together[3]
    for vector in together:
        assert len(floats(vector)) == WIDE
        assert math.hypot(*floats(vector)) == pytest.approx(1, abs=1e-4)


def fake(site: Site, change: Callable[[dict[str, Any]], Any] = lambda found: found) -> str:
    """An endpoint whose vectors are made of the lengths of texts; what it answers may be changed."""

    def reply(request: Request) -> bytes:
        asked = json.loads(request.body)
        rows = [{"index": n, "embedding": [len(text), 1.0]} for n, text in enumerate(asked["input"])]
        body = json.dumps(change({"data": rows[::-1]})).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    site.raw("/v1/embeddings", reply)
    return f"{site.url}/v1"


def test_an_endpoint_makes_vectors_with_the_key_in_its_own_order(
    pages: Shop, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-vectors")
    pages.use(embed=Embed(base_url=fake(site), model="lengths", chunk=100))
    pages.page("<p>" + "A sentence of some length it is. " * 200, "http://shop.test/long")
    pages.do(TASK)
    assert len(site.log) == 4 + 1  # sixty-four at a time
    assert site.log[0].headers["authorization"] == "Bearer sk-for-vectors"
    rows = pages.db.read(lambda c: vectors.after(c, "lengths", 0))
    texts = pages.db.read(lambda c: vectors.passages(c, [row.chunk_id for row in rows]))
    assert len(rows) > 60
    for row in rows:
        first, second = floats(row.vector)
        assert first / second == pytest.approx(len(texts[row.chunk_id]["text"]), rel=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda found: {"data": found["data"][1:]}, id="too few"),
        pytest.param(lambda _: {"error": "no"}, id="none"),
        pytest.param(lambda _: [], id="something else"),
        pytest.param(lambda found: {"data": [{**row, "embedding": []} for row in found["data"]]}, id="empty"),
        pytest.param(lambda found: {"data": [{**row, "embedding": "a"} for row in found["data"]]}, id="words"),
        pytest.param(
            lambda found: {"data": [{**row, "embedding": [float("nan"), 1]} for row in found["data"]]}, id="nan"
        ),
        pytest.param(
            lambda found: {"data": [{**row, "embedding": [[1.0], [2.0]]} for row in found["data"]]}, id="nested"
        ),
        pytest.param(lambda found: {"data": [{**row, "embedding": {"a": 1}} for row in found["data"]]}, id="a table"),
        pytest.param(lambda found: {"data": [{**row, "index": "x"} for row in found["data"]]}, id="no numbers"),
        pytest.param(lambda found: {"data": [{**row, "index": None} for row in found["data"]]}, id="no number at all"),
    ],
)
def test_what_is_no_vector_is_a_trouble_with_a_name(
    change: Callable[[dict[str, Any]], Any], pages: Shop, site: Site
) -> None:
    pages.use(embed=Embed(base_url=fake(site, change), model="odd"))
    pages.do(replace(TASK, attempts=1))
    assert {job["reason"] for job in pages.jobs("passages")} == {"transport"}
    assert pages.db.read(lambda c: vectors.newest(c, "odd")) == 0


def test_vectors_of_several_lengths_are_none() -> None:
    rows = [{"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": [1, 2, 3]}]
    with pytest.raises(ValueError, match="one length"):
        read_response(json.dumps({"data": rows}).encode(), 2)


def test_another_model_makes_vectors_beside_those_of_the_first(pages: Shop, site: Site) -> None:
    pages.do(TASK)
    pages.use(embed=Embed(base_url=fake(site), model="lengths"))
    pages.do(TASK)
    assert pages.db.read(lambda c: vectors.count(c, "lengths")) == 3
    assert pages.db.read(lambda c: vectors.count(c, name_of(Embed()))) == 3


@pytest.mark.parametrize("lacking", ["numpy", "onnxruntime", "tokenizers"])
def test_without_the_extra_a_command_says_what_to_install(
    lacking: str, pages: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder._loaded.cache_clear()
    monkeypatch.setitem(sys.modules, lacking, None)
    with pytest.raises(Away, match=r"bowerbird\[embed\]"):
        pages.do(TASK)
    assert pages.counts("passages") == {"queued": 3, "done": 0, "failed": 0}


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(Lacking, match="there is no"):
        embedder.local(Embed(path="nowhere"), tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(Lacking, match="cannot be loaded"):
        embedder.local(Embed(path="."), tmp_path)


REFUSE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numpy", "onnxruntime", "tokenizers"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
"""


def test_commands_search_by_meaning_and_say_what_lacks_in_one_line(factory: Factory, tmp_path: Path) -> None:
    for url, text in PAGES.items():
        stock.page(factory.db, url, f"<p>{text}</p>".encode())
    factory.configure('[[enrich]]\ntask = "passages"\nkind = "embed"\nbatch = 2\n')

    def run(*args: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return factory.project.run(*args, timeout=110, **env)

    made = run("enrich", "passages", "--workers", "0")
    assert made.returncode == 0, made.stderr
    assert "tokenizers" not in made.stderr  # that a process was forked after its use: it tells so at length
    found = run("search", "--mode", "semantic", "--json", "nocturnal predators")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout.splitlines()[0])["url"] == "http://shop.test/owls"
    assert "tokenizers" not in found.stderr
    (tmp_path / "sitecustomize.py").write_text(REFUSE)
    lacking = run("search", "--mode", "semantic", "owls", PYTHONPATH=str(tmp_path))
    assert lacking.returncode == 1
    assert "bowerbird[embed]" in lacking.stderr
    assert len(lacking.stderr.strip().splitlines()) == 1


def test_a_service_searches_by_meaning_or_says_why_not(factory: Factory, serve: Callable[..., Running]) -> None:
    factory.configure('[[enrich]]\ntask = "passages"\nkind = "embed"\n')
    service = serve()
    http = service.http
    http.timeout = 60
    for mode in ("semantic", "hybrid"):
        none = http.get("/api/search", params={"q": "predators", "mode": mode})
        assert none.status_code == 409
        assert none.headers["content-type"] == "application/problem+json"
        assert "kind embed" in none.json()["detail"]
    assert http.get("/api/retrieve", params={"q": "predators"}).json()["items"] == []
    for url, text in PAGES.items():
        stock.page(factory.db, url, f"<p>{text}</p>".encode())
    made = factory.project.run("enrich", "passages", "--workers", "1", timeout=110)
    assert made.returncode == 0, made.stderr
    for question, expected in QUESTIONS.items():
        (first, *_) = http.get("/api/search", params={"q": question, "mode": "semantic"}).json()["items"]
        assert first["url"].endswith(expected)
        (passage, *_) = http.get("/api/retrieve", params={"q": question}).json()["items"]
        assert passage["text"].endswith(PAGES[f"http://shop.test/{expected}"])
    assert "tokenizers" not in factory.project.output()
