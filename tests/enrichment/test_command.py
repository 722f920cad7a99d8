"""`bowerbird enrich`: real processes, killed and stopped, over each database."""

import contextlib
import random
import signal
import sqlite3
import subprocess
from collections.abc import Iterator

import psutil
import pytest

from tests.enrichment.endpoint import Endpoint, fails, says
from tests.enrichment.factory import Factory, task, workers
from tests.postgres import Server
from tests.support import gone, until

PATIENCE_S = 110  # workers step back, so on a busy machine they are slow
everywhere = pytest.mark.databases("sqlite", "pgbouncer")


def run(factory: Factory, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return factory.project.run("enrich", *args, timeout=PATIENCE_S, **env)


def squares(count: int, name: str = "square") -> list[tuple[int, str, int, dict[str, int]]]:
    return [(number, name, 0, {"square": number**2}) for number in range(1, count + 1)]


@everywhere
def test_one_worker_three_and_none_make_the_same_records(factory: Factory) -> None:
    factory.books(40)
    factory.configure(task("one", "whole"), task("three", "whole", workers=3), task("none", "whole", kinds=["a", "b"]))
    for name, count in (("one", "1"), ("three", "3"), ("none", "0")):
        done = run(factory, name, "--workers", count)
        assert done.returncode == 0, done.stderr
        assert f"{name}: " in done.stdout
    one = [(record[0], record[2], record[3]["number"]) for record in factory.records("one")]
    assert one == [(number, place, number) for number in range(1, 41) for place in (0, 1)]
    assert [(record[0], record[2], record[3]["number"]) for record in factory.records("three")] == one
    none = [(record[0], record[2], record[3]["number"]) for record in factory.records("none") if record[1] == "b"]
    assert none == one
    assert factory.counts("none") == {"queued": 0, "done": 80, "failed": 0}


@everywhere
def test_a_storm_of_kills_over_the_workers_costs_no_record_and_makes_none_twice(factory: Factory) -> None:
    factory.books(150)
    factory.configure(task("slow"))
    command = factory.project.start("enrich", "slow", "--workers", "3")
    drawn = random.Random(7)
    killed = 0
    while command.poll() is None and killed < 5:
        before = factory.counts("slow")["done"]
        until(lambda n=before: command.poll() is not None or factory.counts("slow")["done"] >= n + 8, "it goes on")  # type: ignore[misc]
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            drawn.choice(workers(command.pid)).kill()
            killed += 1
    assert command.wait(PATIENCE_S) == 0, factory.project.output()
    assert killed >= 3
    assert factory.records("slow") == squares(150, "slow")
    assert factory.counts("slow") == {"queued": 0, "done": 150, "failed": 0}


def test_who_ends_its_process_over_and_over_is_set_aside_and_nobody_beside_it(factory: Factory) -> None:
    factory.books(6)
    factory.configure(task("deadly"), supervisor="backoff_max = 0.1")
    done = run(factory, "deadly")
    assert done.returncode == 1, done.stderr
    assert factory.reasons("deadly") == {"poison": 1}
    assert "poison: item 3" in done.stderr
    assert [record[0] for record in factory.records("deadly")] == [1, 2, 4, 5, 6]


def test_ctrl_c_gives_back_what_was_in_hand_and_the_same_command_goes_on(factory: Factory) -> None:
    factory.books(400)
    factory.configure(task("slow", workers=2))
    command = factory.project.start("enrich", "slow")
    until(lambda: factory.counts("slow")["done"] > 10, "some are done")
    family = [psutil.Process(command.pid), *psutil.Process(command.pid).children(recursive=True)]
    command.send_signal(signal.SIGINT)
    assert command.wait(PATIENCE_S) == 130
    assert "goes on" in factory.project.output()
    until(lambda: gone(family), "nothing is left of it")
    left = factory.counts("slow")
    assert left["queued"] > 0
    strange = [job for job in factory.jobs("slow") if job["state"] == "claimed" or job["attempts"] > 1]
    assert strange == []
    done = run(factory, "slow")
    assert done.returncode == 0, done.stderr
    assert factory.records("slow") == squares(400, "slow")
    assert f"{left['queued']} done" in done.stdout


def test_kinds_limits_redone_and_retried(factory: Factory) -> None:
    factory.books(4)
    factory.configure(task("whole", kinds=["open", "choice"]), task("odd", attempts=1))

    def said(*args: str) -> tuple[int, str]:
        done = run(factory, *args, "--workers", "0")
        return done.returncode, done.stdout + done.stderr

    assert said("whole", "--kind", "open", "--limit", "3")[0] == 0
    assert [(record[0], record[1]) for record in factory.records("whole")] == [
        (n, "open") for n in (1, 2, 3) for _ in "ab"
    ]
    assert said("whole", "--redo")[1].startswith("whole: 8 done")
    code, text = said("odd")
    assert code == 1
    assert "odd: 2 done, 2 failed" in text
    assert "function: item 2 (ValueError: even)" in text
    (factory.project.path / "mended").touch()
    assert said("odd", "--retry")[1].startswith("odd: 2 done")
    assert len(factory.records("odd")) == 4


def test_no_more_processes_than_max_workers(factory: Factory) -> None:
    factory.books(30)
    factory.configure(task("by"))
    done = run(factory, "by", "--workers", "3", MAX_WORKERS="1")
    assert done.returncode == 0, done.stderr
    assert len({record[3]["by"] for record in factory.records("by")}) == 1


def summing(endpoint: Endpoint, budget: str = "") -> str:
    llm = f'[llm]\nbase_url = "{endpoint.url}"\nmodel = "m"\n'
    return llm + task("sum", None, kind="llm", prompt="{{ item.title }}") + budget


def test_a_key_that_is_refused_ends_a_command_with_one_line_and_tells_no_key(
    factory: Factory, endpoint: Endpoint
) -> None:
    endpoint.answers(fails("401 Unauthorized", "who are you"))
    factory.books(3)
    factory.configure(summing(endpoint))
    done = run(factory, "sum", OPENAI_API_KEY="sk-nobody-may-see")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("bowerbird: ")
    assert "401" in last
    assert "Traceback" not in done.stderr
    assert "sk-nobody" not in done.stdout + done.stderr
    assert factory.counts("sum") == {"queued": 3, "done": 0, "failed": 0}


def test_redo_asks_the_model_again(factory: Factory, endpoint: Endpoint) -> None:
    endpoint.answers(says({"text": "once"}))
    factory.books(3)
    factory.configure(summing(endpoint))
    assert run(factory, "sum").returncode == 0
    endpoint.answers(says({"text": "twice"}))
    assert run(factory, "sum", "--redo", "--limit", "2").stdout.startswith("sum: 2 done")
    assert len(endpoint.log) == 5
    assert sorted(record[3]["text"] for record in factory.records("sum")) == ["once", "twice", "twice"]


def test_several_workers_keep_to_one_budget(factory: Factory, endpoint: Endpoint) -> None:
    endpoint.answers(says({"text": "fine"}))
    factory.books(20)
    factory.configure(summing(endpoint, "batch = 2\nbudget = { calls = 7 }\n"))
    done = run(factory, "sum", "--workers", "2")
    assert done.returncode == 1
    assert "waits for its budget" in done.stderr
    assert len(endpoint.log) == 7
    assert factory.counts("sum") == {"queued": 13, "done": 7, "failed": 0}


@contextlib.contextmanager
def locked(factory: Factory) -> Iterator[None]:
    """Hold SQLite's file for oneself."""
    connection = sqlite3.connect(factory.project.path / "test.db", isolation_level=None, timeout=30)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def test_a_locked_database_is_waited_for(factory: Factory) -> None:
    factory.books(80)
    factory.configure(task("slow"), text="timeout = 0.3")
    command = factory.project.start("enrich", "slow", "--workers", "2")
    until(lambda: factory.counts("slow")["done"] > 5, "some are done")
    with locked(factory):
        before = factory.counts("slow")
        until(lambda: "the database is away" in factory.project.output() or command.poll() is not None, "told")
        assert factory.counts("slow") == before
    assert command.wait(PATIENCE_S) == 0, factory.project.output()
    assert factory.records("slow") == squares(80, "slow")


@pytest.mark.databases("pgbouncer")
def test_a_database_that_is_restarted_is_waited_for(factory: Factory, postgres: Server) -> None:
    factory.books(80)
    factory.configure(task("slow"))
    command = factory.project.start("enrich", "slow", "--workers", "2")
    until(lambda: factory.counts("slow")["done"] > 5, "some are done")
    postgres.restart()
    assert command.wait(PATIENCE_S) == 0, factory.project.output()
    assert factory.records("slow") == squares(80, "slow")
