"""OpenTelemetry, by FastAPI's own switch: traces go to a receiver of the protocol."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any

import pytest

from tests.support import Project, Running

Received = Queue[tuple[str, bytes]]
Serve = Callable[..., Running]


@pytest.fixture
def receiver() -> Iterator[tuple[str, Received]]:
    """A receiver of OTLP over HTTP: its address, and what came."""
    received: Received = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.put((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", received
        server.shutdown()
        thread.join()


def test_requests_are_traced_where_the_environment_says_so(
    serve: Serve, project: Project, receiver: tuple[str, Received]
) -> None:
    address, received = receiver
    project.configure("")
    service = serve(OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_METRICS_EXPORTER="none", OTEL_BSP_SCHEDULE_DELAY="100")
    assert service.http.get("/healthz").status_code == 200
    assert service.http.get("/api/runs").status_code == 200
    traces = b""
    while b"/api/runs" not in traces:
        path, body = received.get(timeout=20)
        traces += body if path == "/v1/traces" else b""
    assert b"/healthz" not in traces


def test_an_exporter_that_cannot_be_is_told_and_keeps_nothing_up(serve: Serve, project: Project) -> None:
    project.configure("")
    service = serve(OTEL_EXPORTER_OTLP_ENDPOINT="nowhere")
    assert service.http.get("/api/runs").status_code == 200
    assert "Invalid OTLP traces endpoint" in project.output()
