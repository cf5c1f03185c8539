"""Starts the vendor, tells its address on standard output, and serves until standard input ends."""

from __future__ import annotations

import asyncio
import json
import sys

from vendor.server import Server, options


async def main() -> None:
    given = options().parse_args()
    server = Server(given)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", given.port, backlog=1024)
    host, port = listening.sockets[0].getsockname()
    print(json.dumps({"host": host, "port": port, "url": f"http://{host}:{port}"}), flush=True)
    loop = asyncio.get_running_loop()
    # It never outlives the test that started it, even one that was killed.
    await loop.run_in_executor(None, sys.stdin.read)
    listening.close()


asyncio.run(main())
