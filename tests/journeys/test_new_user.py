"""What a newcomer does, and what a newcomer does wrong: one clear line each."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.site import Site
from tests.support import Project, Running, gone, rows, until

Serve = Callable[..., Running]


def plain(project: Project, site: Site) -> None:
    site.page("/", "<h1>Hi</h1><p>1</p>")
    project.configure(
        f'[[source]]\nname = "one"\nstart = ["{site.url}/"]\n[[source.item]]\nfields = {{ title = "h1::text", n = "p::text" }}\n'
    )


def one_line(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    """The command failed with one line on stderr that has these words, and no traceback."""
    assert done.returncode != 0
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


def test_the_demo_shows_items_and_changing_prices_and_survives_kills(serve: Serve, project: Project) -> None:
    service = serve(command=[sys.executable, "-m", "scraper", "demo", "--port", str(project.port)])
    service.until_state("scraping")
    until(lambda: len(service.http.get("/api/items").json()["items"]) > 20, "items")
    changes = until(lambda: service.http.get("/api/changes?change=changed").json()["items"], "a change", 60)
    until(lambda: "price" in str(service.http.get("/api/changes?change=changed").json()), "a change of price", 60)
    assert changes[0]["kind"] in ("product", None)
    page = service.http.get("/")
    assert page.status_code == 200
    assert "<progress" in page.text
    family = service.family()
    service.process.send_signal(signal.SIGINT)
    service.process.wait(15)
    until(lambda: gone(family), "all gone", within_s=2.0)


def test_init_scrape_export(project: Project, site: Site) -> None:
    assert project.run("init").returncode == 0
    one_line(project.run("init"), "bowerbird.toml", "not overwritten")
    plain(project, site)
    checked = project.run("sources", "check", "one")
    assert checked.returncode == 0
    assert '"title": "Hi"' in checked.stdout
    done = project.run("scrape")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("one: done, 1 pages, 1 items")
    assert re.search(r"^one +ok", project.run("sources", "list").stdout)
    exported = project.run("export", "one")
    assert '"data": {"n": "1", "title": "Hi"}' in exported.stdout or '"title": "Hi"' in exported.stdout
    table = project.run("export", "--format", "csv").stdout.splitlines()
    assert table[0].startswith("id,source,kind,key,url")
    assert len(table) == 2
    assert project.run("export", "--pages").stdout.count("\n") == 1
    assert project.run("doctor").returncode == 0
    assert project.run("db", "check").returncode == 0


def test_a_source_that_cannot_be_read_is_exit_1(project: Project, site: Site) -> None:
    project.configure(f'[[source]]\nname = "one"\nstart = ["{site.url}/missing"]\n')
    done = project.run("scrape")
    assert done.returncode == 1
    assert "http_4xx" in done.stderr


def test_wrong_configurations_are_told_all_at_once(project: Project) -> None:
    (project.path / "bowerbird.toml").write_text(
        "[http]\nconcurency = 1\ndelay = 'x'\n[[source]]\nname = 'a'\nstart = ['http://x.org/']\ncron = '* *'\n"
        "follow = ['a[']\n[[source]]\nname = 'a'\nstart = ['http://x.org/']\ninclude = ['(']\n"
    )
    for command in (["serve"], ["scrape"], ["doctor"]):
        done = project.run(*command)
        assert done.returncode in (1, 2)
        told = done.stderr + done.stdout
        assert "Traceback" not in told
        for words in (
            'bowerbird.toml:2: http.concurency there is no "concurency"; did you mean "concurrency"?',
            "bowerbird.toml:3: http.delay",
            "bowerbird.toml:7: source[1].cron",
            "bowerbird.toml:8: source[1].follow[1]",
            "bowerbird.toml:12: source[2].include[1]",
        ):
            assert words in told


def test_a_wrong_configuration_under_uvicorn_is_told_without_a_traceback(project: Project) -> None:
    (project.path / "bowerbird.toml").write_text("[http]\ndelay = 'x'\n")
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port", str(project.port)],
        cwd=project.path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert "bowerbird.toml:2: http.delay" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port(project: Project, site: Site) -> None:
    plain(project, site)
    with socket.create_server(("127.0.0.1", project.port)):
        one_line(project.run("serve"), f"127.0.0.1:{project.port}", "choose another --port")


def test_no_service(project: Project, site: Site) -> None:
    plain(project, site)
    done = project.run("status")
    one_line(done, "no service answers", "bowerbird serve")
    assert done.returncode == 3


def test_status_and_control_from_the_command_line(serve: Serve, project: Project, site: Site) -> None:
    plain(project, site)
    serve().until_state("idle", "scraping")
    assert project.run("status").stdout.startswith(("idle", "scraping"))
    assert '"process_alive": true' in project.run("status", "--json").stdout
    assert project.run("stop").returncode == 0
    until(lambda: project.run("status").stdout.startswith("stopped"), "stopped")
    assert project.run("start").returncode == 0


def test_a_broken_configuration_does_not_lock_the_operator_out(serve: Serve, project: Project, site: Site) -> None:
    plain(project, site)
    service = serve()
    service.until_state("idle")
    file = project.path / "bowerbird.toml"
    file.write_text(file.read_text().replace("[http]", "[http]\ndely = 1"))
    assert project.run("status").stdout.startswith("idle")
    assert project.run("pause").stdout.startswith("paused")
    assert project.run("resume").stdout.startswith("idle")
    one_line(project.run("restart"), 'did you mean "delay"?')
    file.write_text("[[[")
    assert project.run("stop", BOWERBIRD_URL=f"http://127.0.0.1:{project.port}").stdout.startswith("stopped")


def test_a_corrupt_database(project: Project, site: Site) -> None:
    plain(project, site)
    (project.path / "bowerbird.db").write_bytes(b"this is no database" * 500)
    for command in ("serve", "scrape", "export"):
        one_line(project.run(command), "bowerbird.db", "restore a backup")
    assert (project.path / "bowerbird.db").read_bytes().startswith(b"this is no database")


def test_a_database_of_a_newer_version_is_not_touched(project: Project, site: Site) -> None:
    plain(project, site)
    assert project.run("db", "upgrade").returncode == 0
    connection = sqlite3.connect(project.path / "bowerbird.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    one_line(project.run("serve"), "newer version")
    assert rows(project, "SELECT version_num FROM alembic_version") == [("9999",)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], check=False).returncode
    ):
        pytest.fail("a tmpfs is needed, and this machine does not let us mount one")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_at_the_start(small_disk: Path, site: Site) -> None:
    project = Project(small_disk)
    plain(project, site)
    with contextlib.suppress(OSError), (small_disk / "fill").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    done = project.run("scrape")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert re.search("full|No space left", done.stderr)


def test_a_disk_that_fills_up_and_is_freed(serve: Serve, small_disk: Path, site: Site, project: Project) -> None:
    """The scraper waits and says so, and goes on by itself; nothing that was stored is lost."""
    noise = random.Random(1).randbytes(60_000).hex()
    for number in range(40):
        links = "".join(f'<a href="/{n}">x</a>' for n in range(40))
        site.page(f"/{number}", f"{links}<p>{number}{noise}</p>")
    project.configure(f'[[source]]\nname = "s"\nstart = ["{site.url}/0"]\nfollow = true\nevery = "1h"\n')
    service = serve(DATABASE_URL=f"sqlite:///{small_disk}/bowerbird.db")
    trouble = until(lambda: service.status()["processes"][0]["trouble"], "the full disk is told")
    assert "full" in trouble
    ready = service.http.get("/readyz")
    assert ready.status_code == 503
    assert "full" in ready.text
    assert service.status()["process_alive"] is True
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    until(lambda: service.status()["processes"][0]["trouble"] is None, "the trouble is over")
    until(lambda: service.http.get("/api/runs").json()["items"][0]["state"] == "done", "the run is done")
    run = service.http.get("/api/runs").json()["items"][0]
    assert (run["pages"], run["failures"]) == (40, 0)
    assert len(service.http.get("/api/pages?limit=100").json()["items"]) == 40
    assert service.status()["restarts"] == 0


def test_a_directory_that_cannot_be_written(project: Project, site: Site) -> None:
    plain(project, site)
    target = project.path / "readonly"
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", target], check=True)
    try:
        one_line(
            project.run("serve", BOWERBIRD_SERVICE__STATE_DIR=str(target / "state")), str(target), "[service] state_dir"
        )
        one_line(project.run("serve", DATABASE_URL=f"sqlite:///{target}/x.db"), str(target), "writable")
    finally:
        subprocess.run(["umount", target], check=True)


def test_the_token_guards_everything_but_healthz(serve: Serve, project: Project, site: Site) -> None:
    plain(project, site)
    service = serve(BOWERBIRD_SERVER__TOKEN="secret-token")
    described = service.http.get("/openapi.json", headers={"Authorization": "Bearer secret-token"}).json()
    for path, calls in described["paths"].items():
        for method in calls:
            answer = service.http.request(method, re.sub(r"{\w+}", "1", path))
            assert answer.status_code == (200 if path == "/healthz" else 401), path
    for path in ("/", "/live", "/docs", "/openapi.json", "/static/live.js", "/nothing"):
        assert service.http.get(path).status_code == 401, path
    assert service.http.get("/", headers={"Authorization": "Bearer secret-token"}).status_code == 200
    assert project.run("status", BOWERBIRD_TOKEN="secret-token").returncode == 0


def test_foreign_pages_change_nothing(serve: Serve, project: Project, site: Site) -> None:
    plain(project, site)
    service = serve()
    for headers in (
        {"Origin": "http://[::1"},
        {"Host": "["},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
    ):
        assert service.http.post("/api/scraper/stop", headers=headers).status_code == 403
    own = {"Origin": f"http://127.0.0.1:{project.port}"}
    assert service.http.post("/api/scraper/pause", headers=own).status_code == 202


def test_a_host_that_others_can_reach_wants_a_token(project: Project, site: Site) -> None:
    plain(project, site)
    one_line(project.run("serve", "--host", "0.0.0.0"), "token", "is required")


def test_errors_are_problem_documents(serve: Serve, project: Project, site: Site) -> None:
    plain(project, site)
    service = serve()
    for method, path, code in (
        ("GET", "/nothing", 404),
        ("GET", "/api/items/99", 404),
        ("GET", "/api/items/x", 422),
        ("GET", "/api/items?limit=0", 422),
        ("GET", "/api/items?cursor=forged", 422),
        ("DELETE", "/api/items", 405),
        ("POST", "/api/scraper/explode", 422),
        ("GET", "/api/sources/none", 404),
        ("POST", "/api/sources/none/run", 404),
        ("GET", f"/api/items/{2**63}", 422),
        ("GET", "/api/items?changed_since=0001-01-01T00:00:00%2B14:00", 422),
        ("GET", "/api/items?q=%00", 422),
    ):
        answer = service.http.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (code, "application/problem+json"), path
        assert answer.json()["detail"]


def test_rows_over_the_api(serve: Serve, project: Project, site: Site) -> None:
    plain(project, site)
    service = serve()
    service.until_state("idle")
    assert service.http.post("/api/sources/one/run").status_code == 202
    until(
        lambda: (
            service.http.get("/api/runs").json()["items"][:1]
            and service.http.get("/api/runs").json()["items"][0]["state"] == "done"
        ),
        "the run",
    )
    run = service.http.get("/api/runs/1").json()
    assert {
        "id",
        "source",
        "state",
        "started_at",
        "finished_at",
        "pages",
        "items",
        "bytes",
        "failures",
        "pages_per_s",
    } <= set(run)
    page = service.http.get("/api/pages/1").json()
    assert {
        "id",
        "source",
        "url",
        "final_url",
        "status",
        "content_type",
        "title",
        "depth",
        "content_hash",
        "bytes",
    } <= set(page)
    assert service.http.get("/api/pages/1/content").text == "<h1>Hi</h1><p>1</p>"
    item = service.http.get("/api/items/1").json()
    assert {"id", "source", "kind", "key", "url", "data", "first_seen", "last_seen", "changed_at", "removed_at"} <= set(
        item
    )
    assert item["data"] == {"title": "Hi", "n": "1"}
    assert len(service.http.get("/api/items/1/history").json()["items"]) == 1
    listed = service.http.get("/api/items", params={"source": "one", "q": "hi", "limit": 1}).json()
    assert (len(listed["items"]), listed["next"]) == (1, None)
    source = service.http.get("/api/sources/one").json()
    assert {"name", "start", "enabled", "every", "cron", "origin", "last_run", "next_at", "health"} <= set(source)
    change = service.http.get("/api/changes").json()["items"][0]
    assert {"id", "at", "source", "of", "kind", "change", "item_id", "page_id", "fields"} <= set(change)
    assert service.http.get("/api/export/one").text.count("\n") == 1
    tried = service.http.post("/api/sources/check", json={"start": [site.url + "/"], "item": [{"fields": {"t": "h1"}}]})
    assert tried.json()["items"][0]["data"] == {"t": "Hi"}
    bodies: list[dict[str, object]] = [
        {"strt": []},
        {"start": ["http://["]},
        {"start": [site.url], "http": {"allow_networks": ["0.0.0.0/0"]}},
        {"start": [site.url], "parser": "this:x"},
        {"start": [site.url], "item": [{"fields": {"t": "a["}}]},
        {"start": [site.url], "cron": "x"},
    ]
    for bad in bodies:
        assert service.http.post("/api/sources/check", json=bad).status_code == 422, bad


def test_a_source_that_is_disabled_is_not_run_and_says_so(serve: Serve, project: Project, site: Site) -> None:
    plain(project, site)
    service = serve()
    service.until_state("idle")
    assert project.run("sources", "disable", "one").returncode == 0
    for path in ("/api/sources/one/run", "/api/sources/actions/run"):
        answer = service.http.post(path, json={"names": ["one"], "dry_run": False})
        assert (answer.status_code, "`bowerbird sources enable one`" in answer.text) == (409, True), answer.text
    one_line(project.run("scrape", "one", timeout=20), "'one' is disabled", "`bowerbird sources enable one`")
    assert project.run("sources", "enable", "one").returncode == 0
    run = service.http.post("/api/sources/one/run").json()
    assert run["run"] == run["id"]
    until(lambda: service.http.get(f"/api/runs/{run['id']}").json()["state"] == "done", "it runs once it is enabled")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def parse(page):\n    yield {}\n", ["shop.py has no pasre", "did you mean 'parse'?"]),
        ("def parse(page:\n", ["shop.py cannot be read", "line 1"]),
        (None, ["there is no such module"]),
    ],
)
@pytest.mark.parametrize("command", ["scrape", "serve"])
def test_a_parser_that_is_not_there_is_told_at_once(
    project: Project, site: Site, text: str | None, words: list[str], command: str
) -> None:
    project.configure(f'[[source]]\nname = "one"\nstart = ["{site.url}/"]\nparser = "shop:pasre"\n')
    if text is not None:
        (project.path / "shop.py").write_text(text)
    one_line(project.run(command), "'shop:pasre'", *words)


def test_what_a_removed_source_left_is_exported_by_its_name(project: Project, site: Site) -> None:
    plain(project, site)
    assert project.run("scrape").returncode == 0
    (project.path / "bowerbird.toml").write_text(
        (project.path / "bowerbird.toml").read_text().replace('"one"', '"other"')
    )
    assert project.run("export", "one", "--pages").stdout.count("\n") >= 1
    one_line(project.run("export", "three"), "'three'")


def test_with_the_service_running_scrape_leaves_the_work_to_it(serve: Serve, project: Project, site: Site) -> None:
    plain(project, site)
    service = serve()
    service.until_state("idle")
    done = project.run("scrape")
    assert done.returncode == 0, done.stderr
    assert service.http.get("/api/runs/1").json()["state"] == "done"
    assert isinstance(service.http, httpx.Client)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["token", "create", "me", "--days", "99999999999"], "36500"),
        (["failures", "retry", "99999999999999999999"], "9223372036854775807"),
        (["db", "copy", "foo"], "'foo' is no database"),
        (["db", "copy", ""], "is no database"),
        (["failures", "list", "--source", "nope"], "'nope'"),
        (["sources", "--json", "check", "one"], "--json comes after check"),
        (["sources", "add", "http://a.example/", "--select", "li"], "--select: of items without fields"),
        (["sources", "add", "--from", "more.toml", "--every", "1h", "--tag", "x"], "--every, --tag: with --from"),
        (["sources", "add", "http://a.example/", "--field", "a=b", "--field", "a=i"], "'a' is there twice"),
        (["status", "--config", "zz.toml"], "zz.toml: there is no such file"),
    ],
)
def test_what_cannot_be_is_one_clear_error(command: list[str], words: str, project: Project, site: Site) -> None:
    plain(project, site)
    assert project.run("db", "upgrade").returncode == 0
    done = project.run(*command)
    assert done.returncode in (1, 2)
    assert words in " ".join(done.stderr.replace("\u2502", " ").split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["export", "failures", "search owls", "failures retry --all"])
def test_who_asks_what_was_stored_makes_no_database(command: str, project: Project) -> None:
    one_line(project.run(*command.split()), "bowerbird.db: there is no such database", "`bowerbird serve`")
    assert not list(project.path.glob("*.db*"))


def test_lists_by_default_take_the_options_of_their_command(project: Project, site: Site) -> None:
    plain(project, site)
    assert project.run("db", "upgrade").returncode == 0
    config = ["--config", str(project.path / "bowerbird.toml")]
    assert json.loads(project.run("sources", *config, "--json").stdout)[0]["name"] == "one"
    assert project.run("failures", "--source", "one", "--json", *config).returncode == 0


def test_a_source_that_is_disabled_is_not_run_without_a_service_either(project: Project, site: Site) -> None:
    plain(project, site)
    assert project.run("db", "upgrade").returncode == 0
    assert project.run("scrape", "one").returncode == 0
    assert project.run("sources", "disable", "one").returncode == 0
    one_line(project.run("scrape", "one", timeout=20), "'one' is disabled", "`bowerbird sources enable one`")
