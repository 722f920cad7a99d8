"""What the figures of a crawl should be. Pure."""

from collections.abc import Callable

from bench.targets import Results, Target


def _times(peer: str) -> Callable[[Results], float]:
    def value(results: Results) -> float:
        crawlers = results["race"]["crawlers"]
        return float(crawlers["bowerbird"]["pages_per_s"] / crawlers[peer]["pages_per_s"])

    return value


def _wrong(results: Results) -> float:
    ours = results["race"]["crawlers"]["bowerbird"]
    names = ("lost", "doubled", "refetched", "products_lost", "products_doubled", "products_wrong")
    return float(sum(ours[name] for name in names))


ALL = (
    Target("times as fast as Scrapy", 10, _times("scrapy")),
    Target("times as fast as careful Scrapy", 5, _times("scrapy-careful")),
    Target("times as fast as the handwritten one", 1.5, _times("handwritten")),
    Target("times as fast as Colly", 2, _times("colly")),
    Target("CPU s per 1,000 pages", 1.1, lambda r: r["race"]["crawlers"]["bowerbird"]["cpu_s_per_1000"], at_most=True),
    Target("lost, doubled, wrong or fetched twice", 0, _wrong, at_most=True),
    Target("two processes to one, two hosts", 1.6, lambda r: r["two_processes"]["ratio"]),
    Target("second pass: share of the bytes", 0.02, lambda r: r["second_pass"]["bytes_share"], at_most=True),
    Target("second pass: times as fast", 3, lambda r: r["second_pass"]["times_faster"]),
    Target(
        "slow hosts: share of the limit, or of what a core allows",
        0.9,
        lambda r: (
            r["slow_hosts"]["pages_per_s"]
            / min(r["slow_hosts"]["limit_pages_per_s"], r["slow_hosts"]["core_pages_per_s"])
        ),
    ),
)
