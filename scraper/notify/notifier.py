"""The one who looks and sends, beside the API, in the service that owns the scraper."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from scraper.config.settings import Http, Notify
from scraper.crawl.fetcher import Fetcher
from scraper.database import Db, notices
from scraper.notify.look import due, look
from scraper.notify.send import Refused, deliver
from scraper.steady import steadily

LOOK_EACH_S = 2.0
SENT_AT_ONCE = 16
SENT_OF_A_RULE = 4  # so that a receiver who hangs keeps nobody else waiting
SENDING_MOST_S = 100.0  # less than it is ours
TIDY_EACH = 1800  # looks

log = logging.getLogger(__name__)


class Notifier:
    """Looks for what there is to tell, and delivers it. All on the event loop; the database is asked in threads."""

    def __init__(self, db: Db, orders: Callable[[], tuple[Sequence[Notify], Http, Mapping[str, str]] | None]) -> None:
        """orders: the rules, how requests are made and the variables; None: another service does it."""
        self._db = db
        self._orders = orders
        self._looks = 0
        self._sending: dict[str, set[asyncio.Task[None]]] = {}
        self._held: dict[str, datetime] = {}  # rules whose receiver asked to be left alone, until when

    async def run(self) -> None:
        """Look and send for ever."""
        fetcher = Fetcher()
        try:
            await steadily("notifications", partial(self._turn, fetcher))
        finally:
            await self.settle(cancel=True)
            await fetcher.close()

    async def settle(self, *, cancel: bool = False) -> None:
        """Wait until what is being sent is sent or refused. cancel: it is left, and sent again later."""
        while tasks := [task for sending in self._sending.values() for task in sending]:
            for task in tasks if cancel else ():
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)  # lets them be struck off

    async def _turn(self, fetcher: Fetcher) -> float:
        """Look and send once. Returns for how long to rest then, in seconds."""
        orders = await asyncio.to_thread(self._orders)
        if orders is None:
            return LOOK_EACH_S
        if self._looks % TIDY_EACH == 0:
            await self._in_thread(notices.forget, [rule.name for rule in orders[0]])
        self._looks += 1
        if not orders[0]:
            return LOOK_EACH_S
        more = await self._look(orders[0])
        return 0.0 if await self._send(fetcher, *orders) or more else LOOK_EACH_S

    async def _in_thread(self, verb: Callable[..., Any], *values: Any) -> None:
        await asyncio.to_thread(self._db.write, lambda c: verb(c, self._db.now(), *values))

    async def _look(self, rules: Sequence[Notify]) -> bool:
        return await asyncio.to_thread(self._db.write, lambda c: look(c, rules, self._db.now()))

    async def _send(self, fetcher: Fetcher, rules: Sequence[Notify], http: Http, variables: Mapping[str, str]) -> bool:
        known = {rule.name: rule for rule in rules}
        any_found = False
        while found := await self._claimed():
            any_found = True
            for row in found:
                task = asyncio.create_task(self._one(fetcher, known.get(row.rule), http, variables, row))
                self._sending.setdefault(row.rule, set()).add(task)
                task.add_done_callback(partial(self._sent, row.rule))
        sending = {task for tasks in self._sending.values() for task in tasks}
        if any_found and sending:
            await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED, timeout=LOOK_EACH_S)
        return any_found

    async def _claimed(self) -> Sequence[Any]:
        """A few messages that are due, of rules that do not have many under way already."""
        self._held = {name: until for name, until in self._held.items() if until > self._db.now()}
        busy = [name for name, sending in self._sending.items() if len(sending) >= SENT_OF_A_RULE]
        busy += self._held
        room = min(SENT_OF_A_RULE, SENT_AT_ONCE - sum(map(len, self._sending.values())))
        if room <= 0:
            return ()
        return await asyncio.to_thread(self._db.write, lambda c: notices.claim(c, self._db.now(), room, busy))

    def _sent(self, rule: str, task: "asyncio.Task[None]") -> None:
        self._sending[rule].discard(task)
        if not self._sending[rule]:
            del self._sending[rule]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("what became of a notification could not be noted", exc_info=error)

    async def _one(
        self, fetcher: Fetcher, rule: Notify | None, http: Http, variables: Mapping[str, str], row: Any
    ) -> None:
        sent, final, answer, wait_s = False, False, "", 0.0
        at = self._db.now()
        if rule is not None and (until := due(rule, at)) > at:
            await self._in_thread(notices.put_off, row.id, until)
            return
        try:
            if rule is None:
                raise Refused("its rule is not in the configuration any more", final=True)
            async with asyncio.timeout(SENDING_MOST_S):
                answer = await deliver(fetcher, rule, http, variables, _number(row), row.payload)
            sent = True
        except TimeoutError:
            answer = f"it was not taken within {SENDING_MOST_S:g} s"
        except Refused as error:
            answer, final, wait_s = str(error), error.final, error.wait_s
            log.warning("a notification was not delivered", extra={"rule": row.rule, "reason": answer})
        except Exception as error:  # one message must not end all others: a service of Apprise may raise anything
            answer = f"{type(error).__name__}: {error}"
            log.exception("a notification was not delivered", extra={"rule": row.rule})
        await asyncio.to_thread(
            self._db.write,
            lambda c: notices.settle(c, row.id, self._db.now(), answer, sent=sent, final=final),
        )
        if wait_s:
            self._held[row.rule] = self._db.now() + timedelta(seconds=wait_s)
            await self._in_thread(notices.hold, row.rule, wait_s)


def _number(row: Any) -> str:
    """What tells a message from all others, those of other databases too, which count from one as we do."""
    return f"{row.id}_{row.made_at:%Y%m%d%H%M%S%f}"
