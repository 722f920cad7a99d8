"""URLs, outcomes, robots, schedules, addresses: decisions without a clock or a network."""

import ipaddress
import time
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.config.settings import Http, Source
from scraper.crawl.addresses import may_ask, networks
from scraper.crawl.outcome import OUTCOMES, Cure, verdict
from scraper.crawl.robots import Robots, Rules, agent_token, decoded
from scraper.crawl.schedule import cron_fault, next_due
from scraper.crawl.work import Work
from scraper.errors import Failure
from scraper.records import Manners
from scraper.urls import Scope, canonical, fingerprint, host_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("reference", "base", "expected"),
    [
        ("HTTP://EXAMPLE.com:80/a/../b#c", None, "http://example.com/b"),
        ("../x?q=1#f", "https://a.org/b/c/d", "https://a.org/b/x?q=1"),
        ("//b.org", "https://a.org/", "https://b.org/"),
        ("?q", "http://a.org/x", "http://a.org/x?q"),
        (" \n/x\t", "http://a.org/", "http://a.org/x"),
        ("http://ex\u00e4mple.com/\u00e4", None, "http://xn--exmple-cua.com/%C3%A4"),
        ("http://", None, None),
        ("http://a b/", None, None),
        ("nothing", None, None),
        ("http://a.org/" + "x" * 3000, None, None),
    ],
)
def test_canonical(reference: str, base: str | None, expected: str | None) -> None:
    assert canonical(reference, base) == expected


@given(st.text(max_size=60))
def test_canonical_is_idempotent_and_never_raises(text: str) -> None:
    url = canonical(text, "http://example.com/a/b")
    if url is not None:
        assert canonical(url) == url
        fingerprint(url)


def test_a_fingerprint_is_of_the_page_not_of_its_spelling() -> None:
    same = ["http://a.org/%7Ex?b=2&a=1", "http://a.org/~x?a=1&b=2"]
    assert len({fingerprint(url) for url in same}) == 1
    assert fingerprint("http://a.org/%e4") == fingerprint("http://a.org/%E4")
    different = ["http://a.org/x", "http://a.org/X", "http://a.org/x/", "http://a.org/x?a", "https://a.org/x"]
    assert len({fingerprint(url) for url in different}) == 5
    assert len(fingerprint("http://a.org/")) == 16


def test_hosts_and_scope() -> None:
    assert host_of("http://a.org/x") == host_of("https://a.org/") == "a.org"
    assert host_of("http://a.org:8080/") == "a.org:8080"
    assert host_of("http://a.org:80/") == host_of("https://a.org:443/") == host_of("http://a.org:0080/") == "a.org"
    assert host_of("http://a.org:443/") == "a.org:443"
    assert host_of("https://a.org:80/") == "a.org:80"
    assert host_of("http://127.0.0.1:4430/") == "127.0.0.1:4430"
    scope = Scope(frozenset({"a.org"}))
    assert scope.admits("https://a.org/x")
    assert not scope.admits("https://b.org/x")
    assert not scope.admits("mailto:x@a.org")


def test_every_failure_has_an_outcome() -> None:
    assert set(OUTCOMES) == set(Failure)


@given(st.sampled_from(Failure), st.integers(1, 50), st.integers(0, 20), st.none() | st.floats(0, 1e9), st.floats(0, 1))
def test_verdicts_are_bounded(
    failure: Failure, attempts: int, retries: int, retry_after: float | None, jitter: float
) -> None:
    found = verdict(failure, attempts, retries, retry_after, jitter)
    assert (found.retry_in_s is None) == (OUTCOMES[failure] is Cure.GIVE_UP or attempts > retries)
    assert found.retry_in_s is None or 0 <= found.retry_in_s <= 86400
    assert 0 <= found.host_pause_s <= 86400


def test_retry_after_is_obeyed() -> None:
    assert verdict(Failure.RATE_LIMITED, 1, 3, 120.0, 0.0).retry_in_s == 120.0
    assert verdict(Failure.RATE_LIMITED, 1, 3, 120.0, 0.0).host_pause_s == 120.0
    assert verdict(Failure.HTTP_5XX, 1, 3, 60.0, 0.0).host_pause_s == 60.0
    assert verdict(Failure.HTTP_5XX, 1, 3, None, 1.0).retry_in_s == 2.0
    assert verdict(Failure.RATE_LIMITED, 1, 3, 100_000.0, 0.0).host_pause_s == 86400.0  # a day, and no sooner
    assert verdict(Failure.RATE_LIMITED, 1, 3, 1e9, 1.0).host_pause_s < 60.0  # a mistake


@pytest.mark.parametrize(
    ("status", "allowed"), [(200, False), (404, True), (403, True), (500, False), (429, False), (0, False)]
)
def test_what_a_robots_status_means(status: int, allowed: bool) -> None:
    rules = Rules(Robots(status, "User-agent: *\nDisallow: /"))
    assert rules.allows("http://a.org/x", "bowerbird") is allowed


def test_robots_rules() -> None:
    text = "\ufeffUser-agent: BowerBird\nAllow: /a/b\nDisallow: /a\nCrawl-delay: 500\nUser-agent: *\nDisallow: /"
    rules = Rules(Robots(200, decoded(text.encode())))
    assert rules.allows("http://x.org/a/b", "bowerbird")
    assert not rules.allows("http://x.org/a/c", "bowerbird")
    assert not rules.allows("http://x.org/z", "other")
    assert rules.crawl_delay("bowerbird") == 500.0
    assert agent_token("bowerbird/1.0 (+http://x)") == "bowerbird"


@pytest.mark.parametrize(
    "line",
    [
        "Disallow /no",
        "Disallow\t/no",
        "DISALLOW : /no",
        "Dissallow: /no",
        "Disalow: /no",
        "disallaw /no",
        "Disallow /no:x\nDisallow: /no",
    ],
)
@pytest.mark.parametrize("agent", ["User-agent: *", "User-agent *", "User agent: *", "useragent: *"])
def test_robots_as_people_write_it_is_understood(agent: str, line: str) -> None:
    rules = Rules(Robots(200, f"{agent}\n{line}\nsitemap http://x.org/map.xml\nsome words\n"))
    assert not rules.allows("http://x.org/no", "bowerbird")
    assert rules.allows("http://x.org/yes", "bowerbird")


@pytest.mark.parametrize(
    "name",
    ["Bowerbird", "bowerbird/2.0", "Bowerbird 1.0", "bowerbird*", "Bowerbird (+http://x)", "bowerbird, otherbot"],
)
def test_a_robot_that_is_named_with_a_version_or_a_remark_is_meant(name: str) -> None:
    rules = Rules(Robots(200, f"User-agent: {name}\nDisallow: /\nUser-agent: *\nAllow: /"))
    assert not rules.allows("http://x.org/", "bowerbird")
    assert rules.allows("http://x.org/", "bowerbirds")


@pytest.mark.parametrize(("name", "all_"), [("*", True), ("* x", True), ("*bot", False), ("", False), ("/", False)])
def test_everybody_is_a_star_alone(name: str, all_: bool) -> None:
    assert Rules(Robots(200, f"User-agent: {name}\nDisallow: /")).allows("http://x.org/", "bowerbird") is not all_


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        ("Crawl delay: 7", 7),
        ("Crawl-delay 7", 7),
        ("Request-rate: 1/3", 3),
        ("Request-rate: 2/1m", 30),
        ("Request-rate: 1/3\nCrawl-delay: 5", 5),
        ("Request-rate: 0/3", 0),
        ("Request-rate: often", 0),
        ("Crawl-delay: soon", 0),
        ("Crawl-delay: nan", 0),
        ("Crawl-delay: -5", 0),
        ("Crawl-delay: 9\nCrawl-delay: 2", 9),
        ("Crawl-delay: 2\nDisallow: /no\nUser-agent: *\nCrawl-delay: 9", 9),
    ],
)
def test_how_often_a_robots_lets_us_ask(lines: str, seconds: float) -> None:
    assert Rules(Robots(200, f"User-agent: *\n{lines}")).crawl_delay("bowerbird") == seconds


def test_no_rule_of_a_long_robots_is_lost() -> None:
    many = "".join(f"Disallow: /private/{n}\n" for n in range(20_000))
    rules = Rules(Robots(200, f"User-agent: *\n{many}Disallow: /admin\n"))
    assert not rules.allows("http://x.org/admin", "bowerbird")
    assert rules.allows("http://x.org/other", "bowerbird")
    many = "".join(f"Disallow: /p{n}/*.html$\n" for n in range(6000))
    rules = Rules(Robots(200, f"User-agent: *\n{many}"))
    assert rules.allows("http://x.org/p1/x", "bowerbird")
    assert not rules.allows("http://x.org/p5999/x.html", "bowerbird")


@pytest.mark.parametrize("rules", ["disallow: /x\n", "disallow: /x\n" * 18_000])
def test_a_robots_of_many_names_costs_no_time(rules: str) -> None:
    began = time.process_time()
    text = "".join(f"useragent:a{n}\n" for n in range(18_000)) + rules
    assert Rules(Robots(200, text)).allows("http://x.org/x", "bowerbird")
    assert time.process_time() - began < 3


@given(st.binary(max_size=500))
def test_no_robots_text_raises(body: bytes) -> None:
    Rules(Robots(200, decoded(body))).allows("http://x.org/a", "bowerbird")


def test_schedules() -> None:
    assert next_due(3600, None, None, NOW) == NOW
    assert next_due(3600, None, NOW, NOW) == NOW + timedelta(hours=1)
    assert next_due(None, None, None, NOW) is None
    assert next_due(None, "*/15 * * * *", None, NOW) == NOW + timedelta(minutes=15)
    berlin = datetime(2026, 3, 29, 1, 30, tzinfo=ZoneInfo("Europe/Berlin"))  # the clock jumps from 2 to 3
    found = next_due(None, "30 2 * * *", None, berlin)
    assert found is not None
    assert found > berlin
    assert cron_fault("*/15 * * * *", NOW) is None
    assert "five fields" in str(cron_fault("* *", NOW))
    assert cron_fault("0 0 31 2 *", NOW) is not None


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("198.18.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:7f00:1::", False),
        ("ff02::1", False),
    ],
)
def test_addresses(address: str, allowed: bool) -> None:
    assert may_ask(ipaddress.ip_address(address), ()) is allowed


def test_allowed_networks() -> None:
    lan = networks(("192.168.1.0/24",))
    assert may_ask(ipaddress.ip_address("192.168.1.7"), lan)
    assert may_ask(ipaddress.ip_address("::ffff:192.168.1.7"), lan)
    assert not may_ask(ipaddress.ip_address("192.168.2.7"), lan)


def test_pages_are_read_by_the_date_of_the_day() -> None:
    work = Work.of(Source(name="s", start=("http://a.org/",)), Http(), {})
    reader = work.reader()
    assert work.reader() is reader
    work._read_by = Manners("bowerbird", date(2020, 1, 1))  # read last on another day
    assert work.reader() is not reader
