"""What live streams cost the process that serves them, while the scraper works at full speed."""

import asyncio
import statistics
import time
from collections import Counter
from typing import Any

from bench.interface.service import Running

PATH = "/api/events?kind=pulse,process,service,run,alarm"  # as the dashboard opens them: api/static/live.js
STREAMS = 100
SETTLE_S = 2.0


async def _follow(port: int, told: Counter[bytes], number: int, ended: asyncio.Event) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"stream {number}: {head[:200]!r}")

    async def read() -> None:
        while line := await reader.readline():
            if line.startswith(b"event: "):
                told[line[7:].strip()] += 1

    reading = asyncio.create_task(read())
    await ended.wait()
    reading.cancel()
    writer.close()


async def _cpu(running: Running, seconds: float) -> float:
    before, began = running.cpu_s(), time.monotonic()
    await asyncio.sleep(seconds)
    return (running.cpu_s() - before) / (time.monotonic() - began)


async def _with_streams(running: Running, seconds: float) -> tuple[float, Counter[bytes]]:
    told: Counter[bytes] = Counter()
    ended = asyncio.Event()
    tasks = [asyncio.create_task(_follow(running.port, told, n, ended)) for n in range(STREAMS)]
    await asyncio.sleep(SETTLE_S)
    before = told.copy()
    used = await _cpu(running, seconds)
    ended.set()
    await asyncio.gather(*tasks)
    return used, told - before


def cost(running: Running, seconds: float, pairs: int) -> dict[str, Any]:
    """Return the share of a core that the answering process takes, without streams and with them, in turn."""
    without, beside, told = [], [], Counter[bytes]()
    for _ in range(pairs):
        without.append(asyncio.run(_cpu(running, seconds)))
        used, more = asyncio.run(_with_streams(running, seconds))
        beside.append(used)
        told += more
        time.sleep(SETTLE_S)  # those that were closed are noticed
    return {
        "streams": STREAMS,
        "cpu_without": round(statistics.median(without), 4),
        "cpu_with": round(statistics.median(beside), 4),
        "cpu_of_streams": round(statistics.median(b - a for a, b in zip(without, beside, strict=True)), 4),
        "told_per_stream_and_s": {
            kind.decode(): round(n / STREAMS / seconds / pairs, 2) for kind, n in sorted(told.items())
        },
    }
