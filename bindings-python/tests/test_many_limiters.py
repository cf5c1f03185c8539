"""A program with thousands of limiters on one URL has one connection, and little memory for each limiter."""

from __future__ import annotations

import subprocess
import sys

import pytest
import redis
from conftest import RedisServer

LIMITERS = 3000
# Each had a connection once, which took twenty times as much.
MOST_BYTES = 4_000
# Prints the bytes of memory for each limiter, and goes on when its input has a line.
PROGRAM = """
import asyncio, sys
from pathlib import Path
from tidegate import AsyncLimiter, Limiter

url, count, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]

def memory():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) * 1024

def make(number):
    kind_of_limiter = AsyncLimiter if kind == "asyncio" else Limiter
    return kind_of_limiter("5/min", store=url, prefix=f"rule-{number}", store_timeout=30)

async def each(limiters):
    for limiter in limiters:
        assert await limiter.check("user")

def use(limiters):
    if kind == "asyncio":
        asyncio.run(each(limiters))
    else:
        assert all(limiter.check("user") for limiter in limiters)

first = [make(number) for number in range(10)]
use(first)
before = memory()
limiters = [make(number) for number in range(10, count)]
use(limiters)
print((memory() - before) // len(limiters), flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_thousands_of_limiters_on_one_url_have_one_connection(own_redis: RedisServer, kind: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, own_redis.url, str(LIMITERS), kind],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with program:
        assert program.stdout is not None
        bytes_each = int(program.stdout.readline())
        with redis.Redis(port=own_redis.port) as admin:
            own = admin.client_id()
            connections = [it for it in admin.client_list() if int(it["id"]) != own]
        program.communicate("end\n")
    print(f"{LIMITERS} limiters in Python ({kind}): {len(connections)} connection, {bytes_each} bytes each")
    assert program.returncode == 0
    assert len(connections) == 1
    assert bytes_each <= MOST_BYTES
