"""gevent: over redis-py, other greenlets run while a check waits for Redis."""

from __future__ import annotations

import subprocess
import sys

from conftest import CHILD_DEADLINE, RedisServer

# Patched as a worker of gunicorn or Celery is, before anything else is imported.
PATCHED = """
from gevent import monkey
monkey.patch_all()

import os, signal, sys
import gevent, redis
from tidegate import Limiter, StoreTimeout

url, server = sys.argv[1], int(sys.argv[2])
"""

OVER_REDIS_PY = (
    PATCHED
    + """
limits = {"prefix": "gevent"}
client = redis.Redis.from_url(url, socket_timeout=60)
limiter, other = Limiter("10/d", store=client, **limits), Limiter("10/d", store=client, prefix="other")
limiter.check("user")
os.kill(server, signal.SIGSTOP)
calls = [gevent.spawn(limiter.check, "user") for _ in range(3)]
calls += [gevent.spawn(other.check, "user"), gevent.spawn(limiter.check_many, ["user", "user"])]
calls += [gevent.spawn(limiter.acquire, "user"), gevent.spawn(limiter.reserve, "user")]
ticks = 0
for _ in range(50):
    gevent.sleep(0.001)
    ticks += 1
pending = sum(not call.ready() for call in calls)
os.kill(server, signal.SIGCONT)
gevent.joinall(calls, timeout=50, raise_error=True)
print(ticks, pending, limiter.peek("user", 0).remaining, other.peek("user", 0).remaining)
"""
)

OVER_A_URL = (
    PATCHED
    + """
limiter = Limiter("10/d", store=url, store_timeout=0.2)
os.kill(server, signal.SIGSTOP)
try:
    limiter.check("user")
except StoreTimeout:
    print("timeout")
finally:
    os.kill(server, signal.SIGCONT)
"""
)


def run(program: str, redis_server: RedisServer) -> str:
    command = [sys.executable, "-c", program, redis_server.url, str(redis_server.pid)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=CHILD_DEADLINE).stdout.strip()


def test_other_greenlets_run_while_redis_py_waits(redis_server: RedisServer) -> None:
    assert run(OVER_REDIS_PY, redis_server) == "50 7 2 9"


def test_a_url_holds_the_hub_up_for_no_longer_than_the_store_timeout(redis_server: RedisServer) -> None:
    assert run(OVER_A_URL, redis_server) == "timeout"
