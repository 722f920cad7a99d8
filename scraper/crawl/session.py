"""What a source brings along to its own origins, and to no other: headers, cookies, a login."""

import asyncio
import re
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from email.message import Message
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import quote, quote_plus, urlencode
from urllib.request import Request as Envelope

from scraper.config.masking import HIDDEN
from scraper.config.secrets import filled
from scraper.config.settings import Http, Source
from scraper.crawl.fetcher import Admit, Fetcher, Request, refuse_overloaded
from scraper.errors import Failure, VisitFailed
from scraper.urls import canonical, parts

COOKIES_A_HOST = 50
COOKIE_BYTES = 4096
HEADER_BYTES = 8192
LOGIN_SOONEST_S = 1.0
LOGIN_AGAIN_S = 60.0  # a site that refuses us is not tried in a tight circle
_ADDRESS = re.compile(r"[0-9.]+|.*:.*")
_DOMAIN = re.compile(r";\s*domain\s*=[^;]*", re.IGNORECASE)
REFUSALS = (Failure.HTTP_4XX, Failure.EXTRACT, Failure.BAD_REDIRECT)


def _screen(status: int, headers: Mapping[str, str]) -> None:
    refuse_overloaded(status, headers, datetime.now(UTC))


def _fitting(cookies: str) -> str:
    """As many whole cookies as a header may hold."""
    if len(cookies) <= HEADER_BYTES:
        return cookies
    whole, _, _ = cookies[: HEADER_BYTES + 1].rpartition(";")
    return whole


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
        self._headers = {name: filled(value, variables) for name, value in source.headers.items()}
        self._cookies = {name: filled(value, variables) for name, value in source.cookies.items()}
        self._form = (
            {name: filled(value, variables) for name, value in source.login.form.items()} if source.login else {}
        )
        self._jar = CookieJar(DefaultCookiePolicy(rfc2965=False, strict_domain=True))  # none for all of .co.uk
        self._lock = asyncio.Lock()
        self._logged_in_at = self._refused_at = float("-inf")
        self._refused: VisitFailed | None = None
        self._held = False
        self._rest_s = LOGIN_SOONEST_S
        self.plain = not (self._keeps or self._headers or self._cookies)

    # -- what the fetcher asks

    def headers_for(self, url: str) -> Mapping[str, str]:
        """Return the headers that are for this URL's origin and no other."""
        if self.plain:
            return {}
        ours = parts(url).origin in self._origins
        headers = dict(self._headers) if ours else {}
        cookies = [f"{name}={value}" for name, value in self._cookies.items()] if ours else []
        if self._keeps:
            envelope = Envelope(url)
            self._jar.add_cookie_header(envelope)
            cookies += [kept] if (kept := envelope.get_header("Cookie")) else []
        if cookies:
            headers["Cookie"] = _fitting("; ".join(cookies))
        return headers

    def took(self, url: str, set_cookies: Sequence[str]) -> bool:
        """Note the cookies that a response set. Returns whether they are kept."""
        if not self._keeps:
            return False
        fit = [value for value in set_cookies if len(value) <= COOKIE_BYTES][:COOKIES_A_HOST]
        if _ADDRESS.fullmatch(parts(url).host):  # of an address no part is a domain (RFC 6265 section 5.1.3)
            fit = [_DOMAIN.sub("", value) for value in fit]
        here = parts(url).host
        secure = {one.name for one in self._jar if one.secure and f".{here}".endswith(f".{one.domain.lstrip('.')}")}
        fit = [value for value in fit if _may_set(value, url, secure)]
        envelope = Envelope(url)
        for value in fit:  # one by one, in order: a later one may take back an earlier one
            self._jar.extract_cookies(_Received([value]), envelope)  # type: ignore[arg-type]  # it asks for info() alone
        host = parts(url).host
        host = f"[{host}]" if ":" in host else host
        host = host if "." in host else f"{host}.local"  # as the jar has it
        kept = [cookie for cookie in self._jar if host.endswith(cookie.domain) or cookie.domain.endswith(host)]
        for cookie in kept[: max(0, len(kept) - COOKIES_A_HOST)]:
            self._jar.clear(cookie.domain, cookie.path, cookie.name)
        return True

    # -- the login

    def is_refusal(self, failure: VisitFailed | None, final_url: str | None) -> bool:
        """Say whether an answer means that we are not logged in (any more)."""
        if self._login is None:
            return False
        if failure is not None:
            return failure.failure is Failure.HTTP_4XX and failure.message[:3] in ("401", "403")
        return (
            final_url is not None
            and final_url.partition("?")[0] == (canonical(self._login.url) or "").partition("?")[0]
        )

    def showed(self, *, again: bool, refused: bool) -> None:
        """Note how a page was answered. again: after a login that was made anew for it.

        A login that showed us pages may be made anew when it ends; where that does not help, a page is not for us, and a login
        is made anew for the likes of it ever later.
        """
        self._held = self._held or not refused
        if again:
            self._rest_s = min(LOGIN_AGAIN_S, self._rest_s * 2) if refused else LOGIN_SOONEST_S

    async def log_in(self, fetcher: Fetcher, http: Http, enter: Admit, *, refused_at: float | None = None) -> None:
        """Log in if there is a login and that was not done yet, or did not hold. Raises VisitFailed.

        refused_at: when a page was asked for that was refused, in monotonic seconds; None: none was.
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
            try:
                await self._log_in(fetcher, http, enter, canonical(self._login.url) or self._login.url)
            except VisitFailed as error:
                said = self._without_secrets(error.message)
                refused = VisitFailed(error.failure, said, retry_after_s=error.retry_after_s, answered=error.answered)
                if refused.failure in REFUSALS:
                    self._refused, self._refused_at = refused, time.monotonic()
                raise refused from None
            self._logged_in_at, self._held = time.monotonic(), False

    async def _rest(self, now: float, url: str) -> None:
        """Wait until a login may be made anew. Raises VisitFailed where that is no use."""
        since_s = now - self._logged_in_at
        useless = not self._held or self._rest_s >= LOGIN_AGAIN_S
        if useless and since_s < LOGIN_AGAIN_S:
            raise VisitFailed(Failure.HTTP_4XX, f"401 or 403 in spite of the login at {url}")
        await asyncio.sleep(max(0.0, self._rest_s - since_s))

    def _without_secrets(self, text: str) -> str:
        """A text without what is filled into the form, as it stands or as it is in addresses."""
        for said in self._form.values():
            for form in (said, quote_plus(said), quote(said)) if said else ():
                text = text.replace(form, HIDDEN)
        return text

    async def _log_in(self, fetcher: Fetcher, http: Http, enter: Admit, url: str) -> None:
        from scraper.extract.forms import form_with  # noqa: PLC0415  lxml, only for those who log in
        from scraper.extract.page import Page  # noqa: PLC0415

        await enter(url)
        page = Page.of(await fetcher.fetch(Request(url), http, admit=enter, visitor=self, may_take=_screen))
        form = await asyncio.to_thread(form_with, page, self._form)  # to parse a large page takes a while
        if form is None:
            named = ", ".join(self._form)
            raise VisitFailed(Failure.EXTRACT, f"login: {url} has no form with the fields {named}")
        if parts(form.action).origin not in self._origins:
            raise VisitFailed(Failure.BAD_REDIRECT, f"login: the form of {url} goes to another origin, {form.action}")
        fields = urlencode({**form.fields, **self._form})
        if form.method == "GET":
            request = Request(form.action.partition("?")[0] + "?" + fields)
        else:
            kind = {"Content-Type": "application/x-www-form-urlencoded", "Referer": url}
            request = Request(form.action, "POST", kind, fields.encode())
        await enter(request.url)
        answer = Page.of(await fetcher.fetch(request, http, admit=enter, visitor=self, may_take=_screen))
        asked_again = await asyncio.to_thread(form_with, answer, self._form)
        if answer.status >= 400 or asked_again is not None:
            raise VisitFailed(Failure.HTTP_4XX, f"login: {url} did not take user and password (status {answer.status})")
