"""Functions called in processes of their own: one that never returns, leaks or crashes costs its own call."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scraper.config.settings import Limits
from scraper.offload import caller
from scraper.offload.hand import Died, Hand
from scraper.offload.hands import Hands


class Raised(Exception):
    """The function raised. kind: the class of what it raised; trace: where."""

    def __init__(self, kind: str, said: str, trace: str) -> None:
        super().__init__(f"{kind}: {said}")
        self.kind, self.said, self.trace = kind, said, trace


class Late(Exception):
    """The function did not return in time; the text says where it stood."""


class Callers:
    """Calls functions by their names, within limits."""

    def __init__(self, limits: Limits, base: Path, most: int = 1, modules: Sequence[str] = ()) -> None:
        """base: the directory that users' modules are in. most: how many calls at once, each in a process. modules: of ours."""
        self._modules = tuple(modules)
        self._hands = Hands(self._start, most, limits.memory)
        self._limits, self._base = limits, base
        self.prune, self.close = self._hands.prune, self._hands.close

    async def call(self, path: str, *given: Any, timeout_s: float) -> Any:
        """Return what a function ("module:function") returns for what it is given. All of it goes through pickle.

        Raises Raised, Late, Died if its process ends, VisitFailed (cancelled) if none can be started.
        """
        async with self._hands.places:
            hand = await self._hands.take(fresh=False)
            try:
                async with asyncio.timeout(timeout_s):
                    await hand.send((path, given))
                    answer, memory = await hand.receive()
            except TimeoutError:
                said = f"{path} had not returned after {timeout_s:g} s\n{await hand.stacks()}".rstrip()
                await self._hands.drop(hand)
                raise Late(said) from None
            except BaseException:
                await self._hands.drop(hand)
                raise
            await self._hands.give_back(hand, memory)
            if answer[0] == "returned":
                return answer[1]
            raise Raised(*answer[1:])

    def _start(self) -> Hand:
        return Hand("caller", caller.run, os.getpid(), int(self._limits.memory * 1.5), str(self._base), self._modules)


__all__ = ["Callers", "Died", "Late", "Raised"]
