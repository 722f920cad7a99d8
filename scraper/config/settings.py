"""The shape of every setting, with its default. Names and meanings are those of the guide."""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal

from scraper.config import rules, units
from scraper.config.shape import Fault, Refused, build
from scraper.config.units import duration, size

Check = Iterator[tuple[str, str]]
LOOPBACK_NAMES = ("localhost",)  # an empty name is every address


RESERVED = ("new", "actions")  # as names of sources
OPEN_FILES_LEAST = 64  # with fewer a process does not even start
Name = Annotated[str, rules.name]
Regex = Annotated[str, rules.regex]
WebAddress = Annotated[str, rules.web]
Positive = Annotated[int, rules.whole, rules.least(1)]
Count = Annotated[int, rules.whole, rules.least(0)]
Seconds = Annotated[float, duration, rules.least(0)]
SomeSeconds = Annotated[float, duration, rules.least(0.1)]
SomeSize = Annotated[int, size, rules.least(1024)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the API and the dashboard listen."""

    host: str = "127.0.0.1"
    port: Annotated[int, rules.port] = 5000
    token: str = ""

    @property
    def loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host in LOOPBACK_NAMES

    def check(self) -> Check:
        if not self.loopback and not self.token:
            yield "token", f"is required because the host {self.host} can be reached from other machines"
        if not self.token.isascii() or not self.token.isprintable() or self.token != self.token.strip():
            yield "token", "wants printable ASCII characters and no blanks around them: it is sent in a header"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDir:
    """Where the service keeps its lock, status and wishes."""

    state_dir: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Where everything is stored. Times in seconds."""

    url: str = "sqlite:///bowerbird.db"
    pool_size: Positive = 5
    max_overflow: Count = 20
    timeout: Seconds = 30.0
    pool_recycle: Seconds = 3600.0
    transaction_pooler: bool = False

    def check(self) -> Check:
        if not re.match(r"(sqlite(\+pysqlite)?|postgresql(\+psycopg)?)://", self.url):
            scheme, found, _ = self.url.partition("://")
            shown = scheme + found if found else scheme.split("@")[-1]
            yield "url", f"{shown!r} is no database that is known; write sqlite:///FILE or postgresql+psycopg://..."
        elif re.match(r"sqlite(\+\w+)?://(/(:memory:.*)?)?$", self.url):
            yield "url", "must name a file: the scraper is a process of its own, and memory is not shared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """How scraper processes are started, watched and ended. Times in seconds."""

    processes: Annotated[int, rules.whole, rules.least(1), rules.most(64)] = 1
    start_method: Literal["spawn"] = "spawn"
    stop_timeout: SomeSeconds = 5.0
    heartbeat_timeout: Annotated[float, duration, rules.least(3)] = 30.0
    restart: Literal["always", "on-failure", "never"] = "always"
    backoff_max: SomeSeconds = 60.0
    max_restarts: Positive = 10
    restart_window: SomeSeconds = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one scraper process may use."""

    memory: Annotated[int, size, rules.least(64 * 2**20)] = 2**30
    cpu_percent: Annotated[float, rules.least(0)] = 0
    open_files: Count = 0
    parse_timeout: SomeSeconds = 10.0
    render_timeout: SomeSeconds = 60.0
    browsers: Annotated[int, rules.whole, rules.least(1), rules.most(100)] = 3

    def check(self) -> Check:
        if 0 < self.open_files < OPEN_FILES_LEAST:
            yield "open_files", f"wants at least {OPEN_FILES_LEAST}, or 0 for as many as the system gives"


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """How sites are asked. Times in seconds, sizes in bytes."""

    user_agent: str = "bowerbird/{version} (+{url})"
    concurrency: Annotated[int, rules.whole, rules.least(1), rules.most(10_000)] = 32
    per_host: Annotated[int, rules.whole, rules.least(1), rules.most(1000)] = 2
    delay: Seconds = 0.5
    auto_throttle: bool = True
    timeout: SomeSeconds = 20.0
    max_body: SomeSize = 10 * 2**20
    retries: Count = 3
    obey_robots: bool = True
    allow_networks: tuple[Annotated[str, rules.network], ...] = ()
    proxy: Annotated[str, rules.proxy] = ""
    http2: Annotated[bool, rules.http2] = False
    cookies: bool = False

    def check(self) -> Check:
        if not self.user_agent.isascii() or not self.user_agent.isprintable() or not self.user_agent.strip():
            yield "user_agent", "wants printable ASCII characters"
        elif not self.user_agent.strip().partition("/")[0].partition(" ")[0]:
            yield "user_agent", "wants a name before the first / or space: it is what a robots.txt calls us"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """Where a value stands in a page: exactly one of the four; or json in what css or xpath finds, a script for example."""

    css: str | None = None
    xpath: str | None = None
    jsonld: str | None = None
    json: str | None = None

    def check(self) -> Check:
        given = [name for name in ("css", "xpath", "jsonld", "json") if getattr(self, name) is not None]
        if len(given) != 1 and given not in (["css", "json"], ["xpath", "json"]):
            yield "", "wants exactly one of css, xpath, jsonld, json; or css or xpath, and json into what that finds"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRule(Expression):
    """How one field of an item is read."""

    type: Literal["str", "int", "float", "decimal", "bool", "date", "url"] | None = None
    re: Regex | None = None
    many: bool = False
    default: Annotated[object, rules.simple] = None


def _short(cls: type[Any]) -> Any:
    """A text stands for the table ``{ css = text }``."""

    def rule(value: Any) -> Any:
        faults: list[Fault] = []
        made = build(cls, {"css": value} if isinstance(value, str) else value, (), faults)
        if faults:
            raise Refused("; ".join(f"{'.'.join(map(str, path))} {text}".strip() for path, text in faults))
        return made

    return rule


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRule:
    """Which items a page holds, and their fields."""

    kind: Name = "item"
    fields: dict[str, Annotated[FieldRule, _short(FieldRule)]]
    select: Annotated[Expression, _short(Expression)] | None = None
    key: tuple[str, ...] = ()
    quiet: tuple[str, ...] = ()

    def check(self) -> Check:
        if not self.fields:
            yield "fields", 'is empty; name at least one field, for example title = "h1::text"'
        for key, names in (("key", self.key), ("quiet", self.quiet)):
            for name in names:
                if name not in self.fields:
                    yield key, f"names {name!r}, which is no field; there are: {', '.join(self.fields)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What on a page is no news: all but some parts of it, parts, words, numbers; and so many changed words."""

    only: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    patterns: tuple[Regex, ...] = ()
    numbers: bool = False
    words: Count = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recheck:
    """How often each page is looked at, at the most and at the least, by how often it changes. In seconds."""

    soonest: Annotated[float, duration, rules.least(1)] = 3600.0
    latest: Annotated[float, duration, rules.least(1)] = 30 * 86400.0

    def check(self) -> Check:
        if self.latest < self.soonest:
            yield "latest", "is shorter than soonest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What is kept of the past of each source; 0: all of it. Age in seconds, size in bytes."""

    versions: Count = 0
    age: Annotated[float, duration, rules.least(0)] = 0.0
    size: Annotated[int, units.size] = 0  # `size` itself is this field, where annotations are looked up


def _overrides(cls: type[Any]) -> Any:
    """Some keys of a table, for one source alone."""

    def rule(value: Any) -> dict[str, Any]:
        faults: list[Fault] = []
        made = build(cls, value, (), faults)
        if faults or made is None:
            raise Refused("; ".join(f"{'.'.join(map(str, path))}: {text}" for path, text in faults))
        return {name: getattr(made, name) for name in value}

    return rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A form to be filled in before anything else is asked. Values may name variables: "${SHOP_PASSWORD}"."""

    url: WebAddress
    form: dict[str, str]

    def check(self) -> Check:
        if not self.form:
            yield "form", 'is empty; name its fields, for example { user = "me", password = "${SHOP_PASSWORD}" }'


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is watched: where it starts, what is followed, which items its pages hold."""

    name: Name
    start: tuple[WebAddress, ...] = ()
    sitemaps: tuple[WebAddress, ...] = ()
    every: Annotated[float, duration, rules.least(1)] | None = None
    cron: str | None = None
    follow: tuple[str, ...] | bool = False
    include: tuple[Regex, ...] = ()
    exclude: tuple[Regex, ...] = ()
    max_depth: Count = 10
    max_pages: Positive = 10000
    enabled: bool = True
    window: tuple[Annotated[str, rules.window], ...] = ()
    zone: Annotated[str, rules.zone] = ""
    pages_per_day: Count = 0
    bytes_per_day: Annotated[int, size] = 0
    headers: dict[str, Annotated[str, rules.header_value]] = field(default_factory=dict)
    cookies: dict[str, Annotated[str, rules.header_value]] = field(default_factory=dict)
    login: Login | None = None
    render: bool = False
    http: Annotated[dict[str, Any], _overrides(Http)] = field(default_factory=dict)
    retention: Annotated[dict[str, Any], _overrides(Retention)] = field(default_factory=dict)
    item: tuple[ItemRule, ...] = ()
    parser: Annotated[str, rules.import_path] | None = None
    noise: Noise = field(default_factory=Noise)
    recheck: Recheck | None = None
    tags: tuple[Name, ...] = ()

    def check(self) -> Check:
        if self.name in RESERVED:
            yield "name", f"{self.name!r} is an address of the API and the dashboard: take another one"
        if not self.start and not self.sitemaps:
            yield "start", "is missing; name at least one address to start from"
        if self.every is not None and self.cron is not None:
            yield "cron", 'and "every" exclude each other; keep one'
        for name in self.headers:
            if fault := rules.header_fault(name):
                yield "headers", fault
        if self.parser and self.item:
            yield "parser", "and [[source.item]] exclude each other; keep one"
        if self.render and (fault := rules.render_fault()):
            yield "render", fault


Told = Literal["created", "changed", "removed", "returned", "moved", "failing", "alarm", "scraper"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Whom to tell of what. Times in seconds."""

    name: Name
    url: str
    secret: str = ""
    on: tuple[Told, ...] = ("changed", "removed", "returned", "moved", "failing", "alarm", "scraper")
    source: tuple[str, ...] = ()
    where: str = ""
    after: Annotated[int, rules.whole, rules.least(1), rules.most(30)] = 1
    repeat: Seconds = 0.0
    digest: Seconds = 0.0
    quiet: tuple[Annotated[str, rules.window], ...] = ()
    zone: Annotated[str, rules.zone] = ""
    template: str = ""

    def check(self) -> Check:
        if not re.match(r"(?i)\$\{\w+\}|[a-z][a-z0-9+.-]*://\S", self.url):
            yield "url", "is no address; write https://... for a webhook, or one of Apprise's, for example mailto://..."
        if self.secret.startswith("whsec_") and not re.fullmatch(
            r"whsec_(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", self.secret
        ):
            yield "secret", "is no base64 after whsec_"


def secrets_of(source: Source) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield every value of a source that may name a variable of the environment, with its place."""
    for name, value in source.headers.items():
        yield ("headers", name), value
    for name, value in source.cookies.items():
        yield ("cookies", name), value
    for name, value in source.login.form.items() if source.login is not None else ():
        yield ("login", "form", name), value
    if proxy := source.http.get("proxy"):
        yield ("http", "proxy"), str(proxy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Llm:
    """Any OpenAI-compatible endpoint. timeout in seconds; prices for a million tokens, in whatever money the budget is."""

    base_url: WebAddress = "http://127.0.0.1:8080/v1"
    model: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    timeout: SomeSeconds = 120.0
    max_tokens: Positive = 1024
    temperature: Annotated[float, rules.least(0), rules.most(2)] = 0.0
    price_in: Annotated[float, rules.least(0)] = 0.0
    price_out: Annotated[float, rules.least(0)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Embed:
    """What makes vectors of texts: an endpoint like OpenAI's, or the small model of the extra, or one in a folder."""

    base_url: Annotated[str, rules.web_or_nothing] = ""
    model: str = ""
    path: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    timeout: SomeSeconds = 60.0
    chunk: Annotated[int, rules.whole, rules.least(100), rules.most(20_000)] = 800


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What an enrichment task may spend."""

    calls: Positive | None = None
    tokens: Positive | None = None
    money: Annotated[float, rules.least(0)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrich:
    """One enrichment task."""

    task: Name
    over: Literal["pages", "items"] = "pages"
    source: str | None = None
    where: str | None = None
    kind: Literal["llm", "embed", "python"] = "llm"
    prompt: str = ""
    system: str = ""
    function: Annotated[str, rules.import_path] | None = None
    kinds: tuple[Name, ...] = ()
    many: bool = False
    workers: Annotated[int, rules.whole, rules.least(0), rules.most(64)] = 1
    batch: Annotated[int, rules.whole, rules.least(1), rules.most(500)] = 1
    attempts: Annotated[int, rules.whole, rules.least(1), rules.most(20)] = 4
    timeout: SomeSeconds = 60.0
    budget: Budget | None = None
    when: str = "asked"
    schema: Annotated[str, rules.import_path] | dict[str, object] | None = None

    def check(self) -> Check:
        if self.kind == "llm" and not self.prompt.strip():
            yield "prompt", 'is missing; write for example "Summarise in one line: {{ text }}"'
        if self.kind == "python" and self.function is None:
            yield "function", 'is missing; name it as "module:function"'
        if self.kind != "llm":
            for key in ("prompt", "system", "many", "budget"):
                if getattr(self, key):
                    yield key, f'belongs to kind = "llm", and this is {self.kind!r}'
        if self.kind != "python" and self.function is not None:
            yield "function", f'belongs to kind = "python", and this is {self.kind!r}'
        if self.kind == "embed" and (self.schema or self.kinds):
            yield "schema" if self.schema else "kinds", "has no meaning for vectors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of the configuration."""

    server: Server = field(default_factory=Server)
    service: ServiceDir = field(default_factory=ServiceDir)
    database: Database = field(default_factory=Database)
    supervisor: Supervision = field(default_factory=Supervision)
    limits: Limits = field(default_factory=Limits)
    http: Http = field(default_factory=Http)
    retention: Retention = field(default_factory=Retention)
    source: tuple[Source, ...] = ()
    llm: Llm = field(default_factory=Llm)
    embed: Embed = field(default_factory=Embed)
    enrich: tuple[Enrich, ...] = ()
    notify: tuple[Notify, ...] = ()
    max_workers: Positive | None = None
    environment: Literal["development", "production"] = "development"

    @property
    def production(self) -> bool:
        return self.environment == "production"

    def check(self) -> Check:
        named = (
            ("source", [s.name for s in self.source]),
            ("enrich", [e.task for e in self.enrich]),
            ("notify", [n.name for n in self.notify]),
        )
        for key, names in named:
            for name in sorted({name for name in names if names.count(name) > 1}):
                yield key, f"{name!r} is there twice; each name may be used once"


def http_of(base: Http, source: Source) -> Http:
    """Return the [http] settings of one source: the general ones with its own on top."""
    return replace(base, **source.http)


def retention_of(base: Retention, source: Source) -> Retention:
    """Return the [retention] settings of one source: the general ones with its own on top."""
    return replace(base, **source.retention)


def plain(settings: Any) -> dict[str, Any]:
    """Return a settings dataclass as plain dicts, lists, texts and numbers; build() takes it back.

    What is None is left out: it stands for a key that was not given.
    """
    return {name: _plain(value) for name, value in asdict(settings).items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items() if member is not None}
    if isinstance(value, tuple | list):
        return [_plain(member) for member in value]
    return value
