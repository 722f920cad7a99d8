"""A project whose scraper is always scraping."""

import pytest

from tests.site import Request, Site, html
from tests.support import Project


def endless(site: Site) -> str:
    """A site without end."""

    def page(request: Request) -> bytes:
        number = int(request.path.strip("/") or 0)
        links = "".join(f'<a href="/{n}">{n}</a>' for n in (number + 1, number * 2 + 1))
        return html(f"<title>{number}</title>{links}")

    site.raw("*", page, close=False)
    site.raw("/robots.txt", html("", status="404 Not Found"), close=False)
    return f'[[source]]\nname = "endless"\nstart = ["{site.url}/0"]\nfollow = true\nevery = "1s"\nmax_depth = 9999\n'


@pytest.fixture
def endless_source(site: Site) -> str:
    return endless(site)


@pytest.fixture
def scraping(project: Project, endless_source: str) -> Project:
    project.configure(endless_source, http="delay = 0.05", supervisor="heartbeat_timeout = 3.0")
    return project
