"""What a source brings along to its own origins, and to no other: headers, cookies, a login."""

import asyncio
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from email.message import Message
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import quote, quote_plus
from urllib.request import Request as Envelope

from scraper.config.masking import HIDDEN
from scraper.config.secrets import filled
from scraper.config.settings import Http, Source
from scraper.crawl.fetcher import Admit, Fetcher, Request, refuse_overloaded
from scraper.errors import Failure, PutOff, VisitFailed
from scraper.records import Fetched
from scraper.urls import canonical, parts

COOKIES_A_HOST = 180  # as browsers have it
COOKIE_BYTES = 4096  # of name and value (RFC 6265bis section 5.6), without the attributes
ATTRIBUTES_BYTES = 4096
HEADER_BYTES = 16 * 1024
LOGIN_SOONEST_S = 1.0
LOGIN_AGAIN_S = 60.0  # a site that refuses us is not tried in a tight circle
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
_ADDRESS = re.compile(r"[0-9.]+|.*:.*")
_DOMAIN = re.compile(r";\s*domain\s*=[^;]*", re.IGNORECASE)
# A login that helps nothing on so many pages in a row is of no use; fewer may be due to one that ends it for all: a link to log out.
IN_VAIN = 5
SECRET_LEAST = 4  # what is shorter is in too many words to be hidden


Heed = Callable[[Mapping[str, str]], None]


def _fitting(cookies: str) -> str:
    """As many whole cookies as a header may hold."""
    if len(cookies) <= HEADER_BYTES:
        return cookies
    whole, _, _ = cookies[: HEADER_BYTES + 1].rpartition(";")
    return whole


def _fits(said: str) -> bool:
    cookie, _, attributes = said.partition(";")
    return len(cookie) <= COOKIE_BYTES and len(attributes) <= ATTRIBUTES_BYTES


def _as_meant(said: str) -> str:
    """A cookie whose path is one: what does not begin with a slash counts as none (RFC 6265 section 5.2.4), quotes are none of it."""
    parts = said.split(";")
    meant = parts[:1]
    for part in parts[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == "path":
            path = value.strip().removeprefix('"').removesuffix('"').strip()
            part = f" Path={path}" if path.startswith("/") else ""
        if part:
            meant.append(part)
    return ";".join(meant)


def _may_set(said: str, url: str, secure: Collection[str]) -> bool:
    """Whether a response may set a cookie (RFC 6265bis section 5.7). secure: the names of those that only https may change."""
    name, _, attributes = said.partition(";")
    name = name.partition("=")[0].strip()
    flags = {part.partition("=")[0].strip().lower(): part.partition("=")[2].strip() for part in attributes.split(";")}
    if url.startswith("http:") and ("secure" in flags or name in secure):
        return False
    prefix = name.lower()
    if prefix.startswith(("__secure-", "__host-")) and "secure" not in flags:
        return False
    return not prefix.startswith("__host-") or ("domain" not in flags and flags.get("path") == "/")


class _Received:
    """A response as the cookie jar wants to see it."""

    def __init__(self, set_cookies: Sequence[str]) -> None:
        self._headers = Message()
        for value in set_cookies:
            self._headers["Set-Cookie"] = value

    def info(self) -> Message:
        """Return the headers."""
        return self._headers


class Session:
    """One source's standing with its sites. Cookies live as long as the process; a login is made anew after that."""

    def __init__(self, source: Source, http: Http, variables: Mapping[str, str]) -> None:
        """variables: where "${NAME}" is looked up. Raises KeyError for one that is not set."""
        self._login = source.login
        self._keeps = http.cookies or source.login is not None
        asked = [*source.start, *source.sitemaps, *([source.login.url] if source.login else [])]
        self._origins = {parts(url).origin for text in asked if (url := canonical(text))}
        self._headers = {name: _in_line(filled(value, variables)) for name, value in source.headers.items()}
        self._cookies = {name: _in_line(filled(value, variables)) for name, value in source.cookies.items()}
        self._form = (
            {name: filled(value, variables) for name, value in source.login.form.items()} if source.login else {}
        )
        # None for all of .co.uk; and one without a Domain is its host's alone (RFC 6265 section 5.4).
        alone = DefaultCookiePolicy.DomainStrictNonDomain
        self._jar = CookieJar(DefaultCookiePolicy(rfc2965=False, strict_domain=True, strict_ns_domain=alone))
        self._lock = asyncio.Lock()
        self._logged_in_at = self._refused_at = float("-inf")
        self._refused: VisitFailed | None = None
        self._ever_held = False  # whether a page was shown after a login
        self._in_vain = 0  # pages in a row that were refused right after a login that was made for them
        self._rest_s = LOGIN_SOONEST_S
        self._pages: set[str] = set()  # that have the form
        if source.login is not None:
            self._pages.add(_bare(canonical(source.login.url) or source.login.url))
        self._form_tells = True  # that a page with the form is for strangers
        self.plain = not (self._keeps or self._headers or self._cookies)

    # -- what the fetcher asks

    def headers_for(self, url: str) -> Mapping[str, str]:
        """Return the headers that are for this URL's origin and no other."""
        if self.plain:
            return {}
        ours = parts(url).origin in self._origins
        headers = dict(self._headers) if ours else {}
        given = dict(self._cookies) if ours else {}
        kept = ""
        if self._keeps:
            envelope = Envelope(url)
            self._jar.add_cookie_header(envelope)
            kept = envelope.get_header("Cookie") or ""
            for name in {pair.partition("=")[0].strip() for pair in kept.split(";")}:
                given.pop(name, None)  # the site has set another one meanwhile
        cookies = [f"{name}={value}" for name, value in given.items()] + ([kept] if kept else [])
        if cookies:
            headers["Cookie"] = _fitting("; ".join(cookies))
        return headers

    def took(self, url: str, set_cookies: Sequence[str]) -> bool:
        """Note the cookies that a response set. Returns whether they are kept."""
        if not self._keeps:
            return False
        here = parts(url).host
        fit = [_as_meant(value) for value in set_cookies if _fits(value)]
        # Of an address no part is a domain (RFC 6265 section 5.1.3), and of a name without a dot neither.
        if _ADDRESS.fullmatch(here) or "." not in here:
            fit = [_DOMAIN.sub("", value) for value in fit]
        secure = {one.name for one in self._jar if one.secure and f".{here}".endswith(f".{one.domain.lstrip('.')}")}
        fit = [value for value in fit if _may_set(value, url, secure)]
        envelope = Envelope(url)
        for value in fit:  # one by one, in order: a later one may take back an earlier one
            self._jar.extract_cookies(_Received([value]), envelope)  # type: ignore[arg-type]  # it asks for info() alone
        host = f"[{here}]" if ":" in here else here
        host = host if "." in host else f"{host}.local"  # as the jar has it
        kept = [cookie for cookie in self._jar if host.endswith(cookie.domain) or cookie.domain.endswith(host)]
        for cookie in kept[: max(0, len(kept) - COOKIES_A_HOST)]:
            self._jar.clear(cookie.domain, cookie.path, cookie.name)
        return True

    # -- the login

    def is_refusal(self, failure: VisitFailed) -> bool:
        """Say whether a failure means that we are not logged in (any more)."""
        return self._login is not None and failure.failure is Failure.HTTP_4XX and failure.message[:3] in ("401", "403")

    async def refusal(self, asked: str, fetched: Fetched, *, again: bool) -> VisitFailed | None:
        """Return why an answer means that we are not logged in (any more): it is the login page, or has its form; None if it does not.

        again: a login was made anew for it. A form that is there all the same says nothing, on this site.
        """
        if self._login is None or _bare(asked) in self._pages:
            return None
        if _bare(fetched.final_url) in self._pages:
            said = f"leads to the login at {self._login.url}, in spite of the login"
            return VisitFailed(Failure.HTTP_4XX, said, answered=True)
        if not self._form_tells or not all(name.encode() in fetched.body for name in self._form):
            return None
        from scraper.extract.forms import form_with  # noqa: PLC0415  lxml, only for those who log in
        from scraper.extract.page import Page  # noqa: PLC0415

        if await asyncio.to_thread(form_with, Page.of(fetched), self._form) is None:
            return None
        if again:
            self._form_tells = False
            return None
        return VisitFailed(Failure.HTTP_4XX, "shows the form of the login", answered=True)

    def showed(self, *, again: bool, refused: bool) -> None:
        """Note how a page was answered. again: after a login that was made anew for it.

        Where a login does not help, a page is not for us, and a login is made anew for the likes of it ever later.
        """
        if again:
            self._rest_s = min(LOGIN_AGAIN_S, self._rest_s * 2) if refused else LOGIN_SOONEST_S
            self._in_vain += refused
        if not refused:
            self._in_vain, self._ever_held = 0, True

    async def log_in(
        self,
        fetcher: Fetcher,
        http: Http,
        enter: Admit,
        heed: Heed = lambda headers: None,
        *,
        refused_at: float | None = None,
    ) -> None:
        """Log in if there is a login and that was not done yet, or did not hold. Raises VisitFailed.

        heed: called with the headers of each answer. refused_at: when a page was asked for that was refused, in monotonic
        seconds; None: none was.
        """
        if self._login is None:
            return
        began = time.monotonic()
        async with self._lock:
            since = began if refused_at is None else refused_at  # a refusal says nothing of a login that came later
            if self._logged_in_at > since or (refused_at is None and self._logged_in_at > float("-inf")):
                return
            await self._rest(began, self._login.url)
            if self._refused is not None and time.monotonic() - self._refused_at < LOGIN_AGAIN_S:
                # Who asks again and again is locked out.
                raise VisitFailed(self._refused.failure, self._refused.message)
            sent = False

            def sends() -> None:
                nonlocal sent
                sent = True

            try:
                await self._log_in(fetcher, http, enter, heed, canonical(self._login.url) or self._login.url, sends)
            except PutOff:
                raise
            except VisitFailed as error:
                said = self._without_secrets(error.message)
                said = said if said.startswith("login: ") else f"login: {said}"
                refused = VisitFailed(error.failure, said, retry_after_s=error.retry_after_s, answered=error.answered)
                if sent or refused.failure in (Failure.HTTP_4XX, Failure.EXTRACT, Failure.BAD_REDIRECT):
                    self._refused, self._refused_at = refused, time.monotonic()
                raise refused from None
            self._logged_in_at = time.monotonic()

    async def _rest(self, now: float, url: str) -> None:
        """Wait until a login may be made anew. Raises VisitFailed where that is no use."""
        since_s = now - self._logged_in_at
        useless = not self._ever_held or self._in_vain >= IN_VAIN or self._rest_s >= LOGIN_AGAIN_S
        if useless and since_s < LOGIN_AGAIN_S:
            raise VisitFailed(Failure.HTTP_4XX, f"refused, or led to the login, in spite of the login at {url}")
        await asyncio.sleep(max(0.0, self._rest_s - since_s))

    def _without_secrets(self, text: str) -> str:
        """A text without what is filled into the form, as it stands or as it is in addresses."""
        for said in self._form.values():
            if len(said) < SECRET_LEAST:
                continue
            forms = {said, quote_plus(said), quote(said), quote(said.encode("latin-1", "replace"))}
            for form in sorted(forms, key=len, reverse=True):
                text = re.sub(re.escape(form), HIDDEN, text, flags=re.IGNORECASE)
        return text

    async def _log_in(
        self, fetcher: Fetcher, http: Http, enter: Admit, heed: Heed, url: str, sends: Callable[[], None]
    ) -> None:
        """sends: called before the form is sent."""

        def screen(status: int, headers: Mapping[str, str]) -> None:
            heed(headers)
            refuse_overloaded(status, headers, datetime.now(UTC))

        from scraper.extract.forms import form_with  # noqa: PLC0415  lxml, only for those who log in
        from scraper.extract.page import Page  # noqa: PLC0415

        await enter(url)
        ask = partial(fetcher.fetch, http=http, visitor=self, may_take=screen, redirected=heed)
        page = Page.of(await ask(Request(url), admit=enter))
        form = await asyncio.to_thread(form_with, page, self._form)  # to parse a large page takes a while
        if form is None and self._ever_held and page.status < 400 and _bare(page.url) not in self._pages:
            return  # it leads on who is logged in
        if form is None:
            named = ", ".join(self._form)
            answered = f" (status {page.status})" if page.status >= 400 else ""
            raise VisitFailed(Failure.EXTRACT, f"login: {url} has no form with the fields {named}{answered}")
        self._pages.add(_bare(page.url))
        if parts(form.action).origin not in self._origins:
            raise VisitFailed(Failure.BAD_REDIRECT, f"login: the form of {url} goes to another origin, {form.action}")
        fields = form.filled(self._form)
        if form.method == "GET":
            request = Request(form.action.partition("?")[0] + "?" + fields)
        else:
            kind = {"Content-Type": "application/x-www-form-urlencoded", "Referer": url}
            request = Request(form.action, "POST", kind, fields.encode())
        await enter(request.url)
        sends()
        led_on_to: list[str] = []

        async def led_on(target: str) -> None:
            led_on_to.append(target)
            await enter(target)

        try:
            landed = await ask(request, admit=led_on)
        except VisitFailed as error:
            away = error.failure is Failure.BAD_REDIRECT or not led_on_to or _bare(led_on_to[-1]) in self._pages
            if away:
                raise
            return  # the form was taken; what is wrong with the page after it, other pages need not have
        answer = Page.of(landed)
        asked_again = await asyncio.to_thread(form_with, answer, self._form)
        if answer.status >= 400 or asked_again is not None:
            raise VisitFailed(Failure.HTTP_4XX, f"login: {url} did not take user and password (status {answer.status})")


def _in_line(value: str) -> str:
    """A value without what would end its line: what a variable holds is known only now (RFC 9110 section 5.5)."""
    return _CONTROLS.sub(" ", value).strip()


def _bare(url: str) -> str:
    return url.partition("?")[0]
