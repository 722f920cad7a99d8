"""A language model that answers after a while: a process of its own, so that it takes no time of anybody's.

python -m bench.enrichment.endpoint PORT SECONDS
"""

import asyncio
import json
import sys

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
PATIENCE_S = 30.0


def _body() -> bytes:
    text = json.dumps({"choices": [{"delta": {"content": '{"summary": "short", "level": 3}'}}]})
    end = json.dumps(
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 90, "completion_tokens": 12}}
    )
    return f"data: {text}\n\ndata: {end}\n\ndata: [DONE]\n\n".encode()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait_s: float) -> None:
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await reader.readexactly(lengths[0] if lengths else 0)
        await asyncio.sleep(wait_s)
        writer.write(HEAD + _body())
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Answer until ended."""
    port, wait_s = int(sys.argv[1]), float(sys.argv[2])
    server = await asyncio.start_server(lambda r, w: _serve(r, w, wait_s), "127.0.0.1", port, backlog=512)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
