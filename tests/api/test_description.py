"""What /openapi.json says is what the calls do, whatever is asked."""

from collections.abc import Callable
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.site import Site
from tests.support import Project, Running

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 12
ENDLESS = {"/api/events"}  # it is a stream


def test_every_call_does_what_its_description_says(project: Project, serve: Callable[..., Running], site: Site) -> None:
    site.page("/", "<title>a</title>")
    project.configure(f'[[source]]\nname = "books"\nstart = ["{site.url}/"]\n')
    service = serve()
    base = f"http://127.0.0.1:{project.port}"
    schema = schemathesis.openapi.from_dict(httpx.get(f"{base}/openapi.json").json())
    asked = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        if operation.path in ENDLESS:
            continue

        @settings(
            max_examples=EXAMPLES,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy())
        def ask(case: schemathesis.Case[Any]) -> None:
            case.validate_response(case.call(base_url=base), checks=CHECKS)

        ask()
        asked += 1
    assert asked > 40
    assert service.status()["owner_pid"] is not None
    assert "Traceback" not in project.output()
