"""A real documentation site, that nobody here wrote, behind a real server: every page once, whatever is killed."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import psutil
import pytest

from tests.support import Project, free_port, rows, until

DOCS = Path("/usr/share/doc/python3-doc/html")
NGINX = """\
daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 256; }}
http {{
  include /etc/nginx/mime.types; access_log {dir}/access.log; gzip on; gzip_types *;
  client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4;
  scgi_temp_path {dir}/t5;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


class Anchors(HTMLParser):
    """The href of each <a> of a page, by another parser than ours."""

    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hrefs += [value for name, value in attrs if tag == "a" and name == "href" and value]


def reachable(root: Path, start: str) -> set[str]:
    """The paths of the HTML files that links lead to, counted from the files themselves."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        file = root / unquote(path)
        if path in found or not path.endswith(".html") or not file.is_file():
            continue
        found.add(path)
        parser = Anchors()
        parser.feed(file.read_text(encoding="utf-8"))
        for href in parser.hrefs:
            target = urlsplit(urldefrag(urljoin(f"http://docs/{path}", href))[0])
            if target.netloc == "docs" and target.scheme == "http":
                waiting.append(target.path.lstrip("/"))
    return found


@pytest.fixture
def docs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert nginx, "nginx is needed: apt-get install nginx-light"
    assert DOCS.is_dir(), "the documentation is needed: apt-get install python3-doc"
    folder = tmp_path_factory.mktemp("nginx")
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(dir=folder, port=port, root=DOCS.resolve()))
    folder.chmod(0o755)
    with subprocess.Popen(
        [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL
    ) as server:
        until(lambda: (folder / "nginx.pid").is_file() and (folder / "nginx.pid").read_text().strip(), "nginx")
        yield f"http://127.0.0.1:{port}"
        server.terminate()


def configure(project: Project, docs: str) -> None:
    project.configure(
        f'[[source]]\nname = "docs"\nstart = ["{docs}/index.html"]\nfollow = true\nmax_depth = 99\n',
        http="delay = 0\nper_host = 8",
    )


def stored(project: Project, docs: str) -> list[str]:
    return [url.removeprefix(docs + "/") for (url,) in rows(project, "SELECT final_url FROM pages")]


def test_every_page_is_stored_once_though_the_scraper_is_killed_ten_times(project: Project, docs: str) -> None:
    configure(project, docs)
    expected = reachable(DOCS, "index.html")
    assert len(expected) > 300
    dice = random.Random(7)
    seen = 0
    for _ in range(10):
        process = project.start("scrape")
        scraper = until(lambda p=process: _scraper(p.pid), "the scraper process")  # type: ignore[misc]
        goal = seen + dice.randrange(5, 45)
        until(lambda g=goal: _count(project) >= g, f"{goal} pages")  # type: ignore[misc]
        if dice.random() < 0.5:  # the whole command
            process.send_signal(signal.SIGKILL)
            process.wait()
        else:  # the scraper alone, and then the command, so that the next one finds both cases
            scraper.kill()
            until(lambda p=process, s=scraper: (q := _scraper(p.pid)) and q.pid != s.pid, "a new scraper")  # type: ignore[misc]
            process.kill()
            process.wait()
        seen = _count(project)
    assert seen < len(expected), "the kills came too late to say anything"
    done = project.run("scrape", timeout=120)
    assert done.returncode == 0, done.stderr
    found = stored(project, docs)
    assert sorted(found) == sorted(expected)
    assert rows(project, "SELECT state, pages FROM runs") == [("done", len(expected))]
    assert project.run("db", "check").returncode == 0


def _count(project: Project) -> int:
    try:
        return int(rows(project, "SELECT count(*) FROM pages")[0][0])
    except sqlite3.OperationalError:  # there is no table yet
        return 0


def _scraper(pid: int) -> psutil.Process | None:
    for child in psutil.Process(pid).children():
        try:
            if any(file.path.endswith("scraper-0.lock") for file in child.open_files()):
                return child
        except psutil.Error:
            continue
    return None
