"""The demo's shop: a few dozen products whose prices and stock change every few seconds."""

import hashlib
import html
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADJECTIVES = ("Amber", "Blue", "Copper", "Dotted", "Early", "Feathered", "Glass", "Hazel")
NOUNS = ("bottle cap", "button", "clothes peg", "marble")
SHELVES = ("caps", "buttons", "pegs", "marbles")
CHANGE_EACH_S = 3.0
CHANCE = 0.12


def product(number: int, step: int) -> tuple[str, str, int]:
    """Return title, price and stock of a product at a step of the shop's time; the same for the same step."""
    title = f"{ADJECTIVES[number % 8]} {NOUNS[number // 8]}"
    cents = 250 + random.Random(number).randrange(3000)
    stock = random.Random(-number).randrange(20)
    for past in range(max(0, step - 40), step + 1):
        dice = random.Random(f"{number} {past}")
        if dice.random() < CHANCE:
            cents = max(100, cents + dice.randrange(-200, 201))
            stock = max(0, stock + dice.randrange(-4, 5))
    return title, f"{cents / 100:.2f}", stock


class Handler(BaseHTTPRequestHandler):
    """Answers with the shop's pages."""

    protocol_version = "HTTP/1.1"
    began = time.monotonic()

    def do_GET(self) -> None:
        """Answer; 304 where nothing changed."""
        body = self._page(self.path.strip("/"))
        data = (body or "<h1>There is no such page</h1>").encode()
        etag = f'"{hashlib.blake2b(data, digest_size=8).hexdigest()}"'
        same = body is not None and self.headers.get("If-None-Match") == etag
        self.send_response(404 if body is None else 304 if same else 200)
        self.send_header("ETag", etag)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", "0" if same else str(len(data)))
        self.end_headers()
        if not same:
            self.wfile.write(data)

    def _page(self, path: str) -> str | None:
        step = int((time.monotonic() - self.began) / CHANGE_EACH_S)
        nav = "".join(f'<a href="/shelf/{name}">{name}</a> ' for name in SHELVES)
        head = f"<!doctype html><meta charset=utf-8><title>Bower shop</title><nav>{nav}</nav>"
        if not path:
            return head + "<h1>The bower shop</h1><p>Blue things, mostly.</p>"
        kind, _, name = path.partition("/")
        if kind == "shelf" and name in SHELVES:
            first = SHELVES.index(name) * 8
            rows = (
                f'<li><article><a href="/product/{n}">{product(n, 0)[0]}</a></article>' for n in range(first, first + 8)
            )
            return f"{head}<h1>{name}</h1><ul>{''.join(rows)}</ul>"
        if kind == "product" and name.isdigit() and int(name) < 32:
            title, price, stock = product(int(name), step)
            return (
                f'{head}<article class="product" data-sku="BB-{int(name):03}"><h1>{html.escape(title)}</h1>'
                f'<p class="price">£{price}</p><p class="stock">{stock} in stock</p></article>'
            )
        return None

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Shop:
    """The shop, in a thread."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> str:
        """Open. Returns the address."""
        threading.Thread(target=self._server.serve_forever, name="shop", daemon=True).start()
        return self.url

    def stop(self) -> None:
        """Close."""
        self._server.shutdown()
        self._server.server_close()
