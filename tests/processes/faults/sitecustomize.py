"""Loaded by every Python process of a service under test: has the scraper do what the test says while it reads a page.

FAULT is Python that defines fault(url), which is called in the scraper's own process, on its event loop.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Sequence
from typing import Any

BROKEN = "scraper.crawl.visit"


def _break(module: types.ModuleType, code: str) -> None:
    names: dict[str, Any] = {}
    exec(compile(code, "fault.py", "exec"), names)  # noqa: S102  the fault is the test's own
    whole = module.Visitor._read

    async def read(self: Any, claim: Any, work: Any, fetched: Any, before: Any) -> Any:
        self._mark(claim.url_id, claim.url)
        try:
            names["fault"](fetched.final_url)
        finally:
            self._mark(0, claim.url)
        return await whole(self, claim, work, fetched, before)

    module.Visitor._read = read


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader, code: str) -> None:
        self._loader = loader
        self._code = code

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        self._loader.exec_module(module)
        _break(module, self._code)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != BROKEN:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, os.environ["FAULT"])
        return spec


if os.environ.get("FAULT"):
    sys.meta_path.insert(0, _Finder())
