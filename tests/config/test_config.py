"""Configuration: every fault at once, with its place and its remedy."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.config import units
from scraper.config.load import line_numbers, load, server_of
from scraper.config.settings import Settings, http_of, plain
from scraper.config.shape import Fault, build
from scraper.errors import BadConfig
from scraper.startup import settings_of

CONTRACT = """\
[server]
host = "127.0.0.1"
port = 5000
token = ""
[service]
state_dir = ""
[database]
url = "sqlite:///bowerbird.db"
pool_size = 5
max_overflow = 20
timeout = 30.0
pool_recycle = 3600
transaction_pooler = false
[supervisor]
processes = 1
start_method = "spawn"
stop_timeout = 5.0
heartbeat_timeout = 30.0
restart = "always"
backoff_max = 60.0
max_restarts = 10
restart_window = 60.0
[limits]
memory = "1 GiB"
cpu_percent = 0
open_files = 0
[http]
user_agent = "bowerbird/{version} (+{url})"
concurrency = 32
per_host = 2
delay = 0.5
auto_throttle = true
timeout = 20.0
max_body = "10 MiB"
retries = 3
obey_robots = true
allow_networks = []
proxy = ""
[[source]]
name = "books"
start = ["https://books.toscrape.com/"]
sitemaps = []
every = "1h"
follow = ["ul.nav a", "article h3 a", "li.next a"]
include = []
exclude = []
max_depth = 10
max_pages = 10000
enabled = true
render = false
http = { delay = 0.2 }
[[source.item]]
kind = "book"
select = "article.product_page"
key = ["upc"]
[source.item.fields]
upc = "td::text"
title = "h1::text"
price = { css = "p.price_color::text", type = "decimal" }
tags  = { css = "a.tag::text", many = true }
stock = { xpath = "//p[@class='instock']/text()", default = "" }
brand = { jsonld = "brand.name" }
[llm]
base_url = "http://127.0.0.1:8080/v1"
model = "name"
api_key_env = "OPENAI_API_KEY"
[[enrich]]
task = "digest"
over = "pages"
source = "books"
kind = "llm"
prompt = "Summarise in one line: {{ text }}"
workers = 3
budget = { calls = 1000 }
when = "asked"
[enrich.schema]
summary = "str"
level = "int"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(here: Path, text: str, **env: str) -> list[str]:
    (here / "bowerbird.toml").write_text(text)
    with pytest.raises(BadConfig) as caught:
        load(environ=env, review=lambda _: ())
    return str(caught.value).splitlines()


def test_the_documented_configuration_is_the_default(here: Path) -> None:
    (here / "bowerbird.toml").write_text(CONTRACT)
    settings = settings_of().settings
    default = Settings()
    for table in ("server", "service", "supervisor", "limits", "http"):
        assert getattr(settings, table) == getattr(default, table), table
    assert settings.database.url == f"sqlite:///{here}/bowerbird.db"
    source = settings.source[0]
    assert (source.every, http_of(settings.http, source).delay, settings.http.delay) == (3600.0, 0.2, 0.5)
    assert source.item[0].fields["price"].type == "decimal"


def test_what_goes_to_the_child_is_plain_and_comes_back_the_same(here: Path) -> None:
    (here / "bowerbird.toml").write_text(CONTRACT)
    settings = settings_of().settings
    faults: list[Fault] = []
    assert build(Settings, plain(settings), (), faults) == settings, faults

    def check(value: Any) -> None:
        assert isinstance(value, dict | list | str | int | float | bool)
        for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            check(member)

    check(plain(settings))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[sever]\nport = 1", ':1: sever there is no "sever"; did you mean "server"?'),
        ("[http]\n\ntimout = 1", ':3: http.timout there is no "timout"; did you mean "timeout"?'),
        ("[http]\ntimeout = '5 parsecs'", ":2: http.timeout '5 parsecs' is no duration"),
        ("[http]\nmax_body = '5 parsecs'", ":2: http.max_body '5 parsecs' is no size"),
        ("[http]\nretries = 1.5", ":2: http.retries wants a whole number, not 1.5"),
        ("[limits]\nopen_files = 1", ":2: limits.open_files wants at least 64, or 0 for as many as the system gives"),
        ("[http]\nretries = true", ":2: http.retries wants a whole number, not True"),
        ("[http]\nobey_robots = 1", ":2: http.obey_robots wants true or false, not 1"),
        ("[http]\ndelay = nan", ":2: http.delay wants a finite number, not nan"),
        ("[http]\nallow_networks = ['10.0.0.1/8']", ":2: http.allow_networks[1] '10.0.0.1/8' is no network"),
        ("http = 5", ":1: http wants a table, not 5"),
        ("[supervisor]\nrestart = 'alway'", ":2: supervisor.restart 'alway' is none of always, on-failure, never"),
        ("[server]\nhost = '0.0.0.0'", ":1: server.token is required because the host 0.0.0.0"),
        ("[server]\nhost = ''", "server.token is required"),
        ("[server]\ntoken = 't\u00f6k'", ":2: server.token wants printable ASCII"),
        ("[http]\nproxy = 'http://12 7.0.0.1:7731'", ":2: http.proxy 'http://12 7.0.0.1:7731' is no proxy"),
        ("[http]\nproxy = 'http://:7731'", ":2: http.proxy 'http://:7731' is no proxy"),
        ("[database]\nurl = 'sqlite://'", ":2: database.url must name a file"),
        ("[[source]]\nname = 'a'\nstart = 'http://x'", ":3: source[1].start wants a list"),
        ("[[source]]\nname = 'a'\nstart = ['x']", ":3: source[1].start[1] 'x' is no web address"),
        ("[[source]]\nstart = ['http://x/']", ':1: source[1] "name" is missing'),
        ("[[source]]\nname = 'a'", ":1: source[1].start is missing"),
        ("[[source]]\nname = 'a'\nstart = ['http://x/']\nevery = 0", ":4: source[1].every 0.0 is too small"),
        ("[[source]]\nname = 'a'\nstart = ['http://x/']\nhttp = { dely = 1 }", 'did you mean "delay"?'),
        ("[[source]]\nname = 'a'\nstart = ['http://x/']\n[[source.item]]\nfields = {}", ":5: source[1].item[1].fields is empty"),
        ("a = 1\n[http\n", ":2: is not valid TOML"),
        ("a = " + "[" * 5000, "is not valid TOML"),
        ("a = 1" + "0" * 5000, "is not valid TOML"),
        ("[http]\nconcurrency = 2000000", ":2: http.concurrency 2000000 is too big"),
        ("[limits]\nbrowsers = 1.5", ":2: limits.browsers wants a whole number"),
        ("[limits]\nbrowsers = 3000000", ":2: limits.browsers 3000000 is too big"),
        ("[http]\nuser_agent = '/x'", ":2: http.user_agent wants a name"),
        ('[service]\nstate_dir = "a\\u0000b"', ":2: service.state_dir has a NUL character"),
        ("[[source]]\nname = 'a'\nstart = ['http://[']", ":3: source[1].start[1] 'http://[' is no address"),
        ("[[source]]\nname = 'a'\nstart = ['http://a:99999/']", "is no address"),
        ("[[source]]\nname = 'a'\nstart = ['http://u:p@a/']", "is no address"),
        ("[[source]]\nname='a'\nstart=['http://a/']\n[[source.item]]\nfields = { a = { css = 'a', default = nan } }", "wants a finite number"),
    ],
)  # fmt: skip
def test_faults(here: Path, text: str, expected: str) -> None:
    found = problems(here, text)
    assert len(found) == 1
    assert expected in found[0]


def test_selectors_and_schedules_are_checked_too(here: Path) -> None:
    (here / "bowerbird.toml").write_text(
        "[[source]]\nname = 'a'\nstart = ['http://x/']\ncron = '* * *'\nfollow = ['a[']\n"
        "[[source.item]]\nselect = { xpath = '//[' }\n[source.item.fields]\na = 'p::nothing'\nb = { json = 'a[' }\n"
        "c = { jsonld = 'a.' }\nd = { css = 'a', xpath = '//a' }\ne = { css = 'a', re = '(' }\n"
    )
    with pytest.raises(BadConfig) as caught:
        settings_of()
    assert sorted(int(line.split(":")[1]) for line in str(caught.value).splitlines()) == [4, 5, 7, 9, 10, 11, 12, 13]


def test_what_could_never_find_anything_is_a_fault(here: Path) -> None:
    never = [
        "{ css = 'svg|a' }",
        "{ xpath = '$a' }",
        "{ json = 'nope(a)' }",
        "{ json = 'join(a)' }",
        "{ json = '[].{b: nope(c)}' }",
    ]
    never.append("{ css = 'a', re = '' }")
    sound = [
        "{ css = '*|a' }",
        "{ json = 'max_by(a, &b).c' }",
        "{ json = 'not_null(a, b, c)' }",
        "{ jsonld = \"a[?contains(b, 'c')]\" }",
    ]
    fields = "".join(f"f{number} = {expression}\n" for number, expression in enumerate(never + sound))
    (here / "bowerbird.toml").write_text(
        f"[[source]]\nname = 'a'\nstart = ['http://x/']\n[[source.item]]\n[source.item.fields]\n{fields}"
    )
    with pytest.raises(BadConfig) as caught:
        settings_of()
    assert sorted(int(line.split(":")[1]) for line in str(caught.value).splitlines()) == list(range(6, 12))


def test_what_is_sound_in_a_faulty_source_is_looked_at_too(here: Path) -> None:
    (here / "bowerbird.toml").write_text(
        "[[source]]\nname = 'a'\nstart = ['http://x/']\nmax_depth = 'x'\nfollow = ['a[']\n[[source.item]]\nkind = 'A B'\n"
        "[source.item.fields]\na = 'p::nothing'\nb = { css = 'b', typ = 'int' }\n"
    )
    with pytest.raises(BadConfig) as caught:
        settings_of()
    assert sorted(int(line.split(":")[1]) for line in str(caught.value).splitlines()) == [4, 5, 7, 9, 10]


def test_a_duplicate_source(here: Path) -> None:
    twice = "[[source]]\nname = 'a'\nstart = ['http://x/']\n" * 2
    assert "'a' is there twice" in problems(here, twice)[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('A=1\nBOWERBIRD_SERVER__TOKEN = "abc\n', ".env:2: cannot be understood; write NAME=value"),
        ("A=1\n\nDATABASE_URL\n", ".env:3: DATABASE_URL has no value; write DATABASE_URL=value"),
    ],
)
def test_a_line_of_env_that_sets_nothing_is_refused(here: Path, text: str, said: str) -> None:
    (here / ".env").write_text(text)
    with pytest.raises(BadConfig) as refused:
        load(environ={})
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "driver", ["sqlite+pysqlcipher://:pw@/", "sqlite+aiosqlite:///", "postgresql+asyncpg://h/", "postgres://h/"]
)
def test_a_driver_that_is_not_ours_is_refused(here: Path, driver: str) -> None:
    with pytest.raises(BadConfig, match=r"://' is no database that is known; write sqlite:///FILE"):
        load(environ={"DATABASE_URL": driver + "x"})


def test_a_database_address_that_is_none_is_blamed_on_where_it_stands(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "bowerbird.toml").write_text('[database]\nurl = "postgresql+psycopg://h:bad/x"\n')
    with pytest.raises(BadConfig, match=r"bowerbird\.toml: \[database\] url: is no address"):
        settings_of()
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://h:worse/x")
    with pytest.raises(BadConfig, match=r"^DATABASE_URL: is no address"):
        settings_of()


def test_the_environment(here: Path) -> None:
    (here / "bowerbird.toml").write_text("[http]\nconcurrency = 3\ndelay = 1\n")
    (here / ".env").write_text("POOL_SIZE=7\nSQLITE_TIMEOUT='12'\nBOWERBIRD_HTTP__DELAY=9\n")
    env = {"BOWERBIRD_HTTP__DELAY": "2s", "DATABASE_URL": "sqlite:///x.db", "BOWERBIRD_HTTP__OBEY_ROBOTS": "false"}
    env |= {"BOWERBIRD_HTTP__ALLOW_NETWORKS": "10.0.0.0/8,127.0.0.0/8", "ENVIRONMENT": "production", "MAX_WORKERS": "2"}
    settings = load(environ=env).settings
    assert (settings.http.concurrency, settings.http.delay, settings.http.obey_robots) == (3, 2.0, False)
    assert settings.http.allow_networks == ("10.0.0.0/8", "127.0.0.0/8")
    assert (settings.database.pool_size, settings.database.timeout, settings.database.url) == (
        7,
        12.0,
        "sqlite:///x.db",
    )
    assert (settings.production, settings.max_workers) == (True, 2)
    assert "did you mean BOWERBIRD_HTTP__DELAY?" in problems(here, "", BOWERBIRD_HTTP__DELY="1")[0]
    assert problems(here, "", POOL_SIZE="many") == ["POOL_SIZE: wants a whole number, not 'many'"]


def test_where_a_service_listens_is_known_or_an_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a command would stop the service of somebody else."""
    assert server_of().port == 5000
    (here / "bowerbird.toml").write_text("[server]\nport = 5077\n[http]\ndelay = 'x'\n")
    assert server_of().port == 5077  # other faults are not its affair
    (here / "bowerbird.toml").write_text("[server]\nprot = 5077\n")
    with pytest.raises(BadConfig, match=r'bowerbird.toml:2: server.prot there is no "prot"'):
        server_of()
    (here / "bowerbird.toml").unlink()
    monkeypatch.setenv("BOWERBIRD_SERVER__PORT", "abc")
    with pytest.raises(BadConfig, match="BOWERBIRD_SERVER__PORT: wants a whole number"):
        server_of()
    monkeypatch.delenv("BOWERBIRD_SERVER__PORT")
    monkeypatch.setenv("BOWERBIRD_CONFIG", "zz.toml")
    with pytest.raises(BadConfig, match=r"zz.toml: there is no such file"):
        server_of()
    monkeypatch.setenv("BOWERBIRD_URL", "http://127.0.0.1:9/")
    assert server_of().port == 5000  # nobody looks there


def test_files_that_cannot_be_read(here: Path) -> None:
    for name, make, words in (
        ("missing.toml", lambda path: None, "there is no such file"),
        ("folder.toml", lambda path: path.mkdir(), "cannot be read"),
        ("latin.toml", lambda path: path.write_bytes(b"a = '\xe4'"), "not UTF-8"),
    ):
        make(here / name)
        with pytest.raises(BadConfig) as caught:
            load(here / name, environ={})
        assert words in str(caught.value)


def test_lines_of_nested_tables() -> None:
    text = (
        'a = 1\n[b]\nc = """\n[no]\nd = 1\n"""\ne = 2\n[[s]]\n[[s.i]]\n[s.i.f]\nx = 1\n[[s]]\n[[s.i]]\n[s.i.f]\nx = 1\n'
    )
    found = line_numbers(text)
    assert (found["a",], found["b", "e"], found["s", 0, "i", 0, "f", "x"], found["s", 1, "i", 0, "f", "x"]) == (
        1,
        7,
        11,
        15,
    )
    assert ("no",) not in found


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
TABLES = ["server", "service", "database", "supervisor", "limits", "http", "source", "llm", "enrich", "environment"]


@given(st.dictionaries(st.sampled_from(TABLES), json_like))
def test_nothing_that_is_given_raises(document: dict[str, Any]) -> None:
    faults: list[Fault] = []
    made = build(Settings, document, (), faults)
    assert (made is None) == bool(faults)


SETTINGS = [(table, key) for table, keys in asdict(Settings()).items() if isinstance(keys, dict) for key in keys]


@given(st.sampled_from(SETTINGS), json_like)
def test_no_value_of_a_setting_raises(setting: tuple[str, str], value: Any) -> None:
    faults: list[Fault] = []
    made = build(Settings, {setting[0]: {setting[1]: value}}, (), faults)
    assert (made is None) == bool(faults)


@given(st.floats(0.001, 1e6).map(lambda n: round(n, 3)), st.sampled_from(["s", "m", "h", "d"]))
def test_durations(number: float, unit: str) -> None:
    size = {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    if number * size < 9e9:
        assert units.duration(f"{number:f} {unit}") == pytest.approx(number * size, rel=1e-6)


def test_words_for_quantities() -> None:
    assert units.duration("1h 30m") == 5400
    assert units.duration(2) == 2
    assert units.size("10 MiB") == 10 * 2**20
    assert units.size("1.5 kB") == 1500
    bad: object
    for bad in ("", "h", "1", "1 x", "-1s", True, None, [], "1h nonsense"):
        with pytest.raises(ValueError, match="duration"):
            units.duration(bad)


def test_a_route_after_the_hash_is_no_page(here: Path) -> None:
    (here / "bowerbird.toml").write_text("[[source]]\nname = 'a'\nstart = ['http://x/#/prices']\nrender = true\n")
    with pytest.raises(BadConfig, match="told apart by what is before #"):
        settings_of()


def test_a_link_is_read_where_it_leads_by_now(tmp_path: Path) -> None:
    for name, every in (("one", "1h"), ("two", "2h")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bowerbird.toml").write_text(
            f'[[source]]\nname = "s"\nstart = ["http://a.org/"]\nevery = "{every}"\n'
        )
    link = tmp_path / "bowerbird.toml"
    link.symlink_to("one/bowerbird.toml")
    loaded = load(link)
    link.unlink()
    link.symlink_to("two/bowerbird.toml")
    again = load(loaded.path)
    assert [each.settings.source[0].every for each in (loaded, again)] == [3600, 7200]
    assert loaded.base == again.base == tmp_path


@pytest.mark.parametrize("proxy", ["http://u:p@h:notaport", "http://[::1", "socks4://u:SECRET@h:1"])
def test_what_is_no_proxy_is_said_without_its_password(tmp_path: Path, proxy: str) -> None:
    file = tmp_path / "bowerbird.toml"
    file.write_text(f'[http]\nproxy = "{proxy}"\n')
    with pytest.raises(BadConfig, match="is no proxy") as caught:
        load(file, environ={})
    assert "SECRET" not in str(caught.value)


def test_the_password_of_a_proxy_is_a_variable_or_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "bowerbird.toml"
    file.write_text('[http]\nproxy = "http://u:${PROXY}@h:1"\n')
    assert load(file, environ={"PROXY": "p"}).settings.http.proxy == "http://u:p@h:1"
    with pytest.raises(BadConfig, match="the variable PROXY, which is not set"):
        load(file, environ={})
