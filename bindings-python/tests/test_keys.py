"""Keys of any length and any bytes: a key and its stored form in `keys.json` are one bucket."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from conftest import RedisServer
from test_vectors import VECTORS

from tidegate import Limiter

CASES = json.loads((VECTORS / "keys.json").read_text())["keys"]


def keys_of(case: dict[str, Any]) -> tuple[bytes, str | bytes]:
    key = bytes.fromhex(case["hex"]) * case["times"]
    return key, case["stored"] or key


@pytest.mark.parametrize("limits", [["1/h burst 50"], ["1/h burst 50", "1/d burst 50"]], ids=len)
def test_a_key_and_its_stored_form_are_one_bucket(limits: list[str]) -> None:
    limiter = Limiter(*limits)
    for case in CASES:
        key, stored = keys_of(case)
        before = limiter.check(key, 0).remaining
        assert limiter.check(key).remaining == before - 1
        assert limiter.check(stored).remaining == before - 2
        first = limiter.check([key] * len(limits)).remaining
        assert limiter.check([stored] * len(limits)).remaining == first - 1, case["name"]


def test_redis_has_the_stored_form(redis_server: RedisServer) -> None:
    limiter = Limiter("1/h", store=f"redis://127.0.0.1:{redis_server.port}", prefix="keys")
    with redis.Redis(port=redis_server.port) as client:
        for case in CASES:
            key, stored = keys_of(case)
            assert limiter.check(key)
            stored = stored.encode() if isinstance(stored, str) else stored
            assert client.delete(b"keys:{%s}" % (stored or b"%")) == 1, case["name"]
