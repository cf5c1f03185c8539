"""A worker process of test_egress.py: takes messages of a stream to a vendor, which is a list in Redis.

    python egress_worker.py PORT STREAM LIMIT
"""

from __future__ import annotations

import sys
import time

import redis

from tidegate import Limiter
from tidegate.egress import Egress, Message, RedisStreamsQueue


def main(port: int, stream: str, limit: str) -> None:
    client = redis.Redis(port=port, decode_responses=True)

    def call(message: Message) -> None:
        # The vendor's own books: which call came when.
        client.rpush(f"{stream}:calls", f"{message.body['n']} {time.time()}")

    limiter = Limiter(limit, store=f"redis://127.0.0.1:{port}", prefix=stream, store_timeout=5)
    queue = RedisStreamsQueue(client, stream, visibility=1.0, block=0.2)
    Egress(queue, call, limiter=limiter, key="vendor", max_attempts=20).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
