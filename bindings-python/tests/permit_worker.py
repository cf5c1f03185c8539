"""A process of a fleet that shares permits: `work` takes them in threads for ever, `line` waits as it is told."""

import random
import sys
import threading
import time

import redis

from tidegate import Concurrency


def main() -> None:
    url, mode, limit, ttl = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    vendor = Concurrency(limit, ttl=ttl, store=url, prefix="fleet", store_timeout=30)
    client = redis.Redis.from_url(url)
    if mode == "work":
        threads = [threading.Thread(target=work, args=(vendor, client)) for _ in range(int(sys.argv[5]))]
        for thread in threads:
            thread.start()
        return
    for line in sys.stdin:
        threading.Thread(target=take, args=(vendor, client, line.strip())).start()


def work(vendor: Concurrency, client: redis.Redis) -> None:
    while True:
        with vendor.acquire("vendor") as permit:
            client.incr("entered")
            time.sleep(random.uniform(0, 0.02))
            if permit.lost:
                client.incr("over")


def take(vendor: Concurrency, client: redis.Redis, number: str) -> None:
    with vendor.acquire("vendor"):
        client.rpush("order", number)


if __name__ == "__main__":
    main()
