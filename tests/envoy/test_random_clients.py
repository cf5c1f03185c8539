"""Random hostile requests through a real Envoy with both filters: every limit holds exactly.

The model counts what each bucket has spent, and nothing else. It knows neither digests nor escapes: two
keys are the same bucket if they are the same bytes.
"""

from __future__ import annotations

import collections
import os
import random

from conftest import fetch
from quota_service import QuotaService

REQUESTS = 1200
# No token comes back while the test runs.
LIMITS = {"filter": 7, "api_key": 5, "address": 150}
RULES = f"""
[[rules]]
domain = "tidegate"
match = ["key"]
limits = ["{LIMITS["filter"]}/d"]

[[rules]]
domain = "edge"
match = ["api_key"]
limits = ["{LIMITS["api_key"]}/d"]

[[rules]]
domain = "edge"
match = ["remote_address"]
limits = ["{LIMITS["address"]}/d"]
"""
RATE_LIMITS = [
    {"actions": [{"remote_address": {}}]},
    {"actions": [{"request_headers": {"header_name": "k", "descriptor_key": "api_key"}}]},
]
FILTER = {"key": {"header": "k"}, "service": {"cluster": "tidegate", "timeout": "30s"}}


class Model:
    """The buckets of all limits."""

    def __init__(self) -> None:
        self.spent: collections.Counter[tuple[str, str | bytes]] = collections.Counter()

    def spend(self, limit: str, key: str | bytes) -> bool:
        if self.spent[limit, key] == LIMITS[limit]:
            return False
        self.spent[limit, key] += 1
        return True

    def status(self, values: list[bytes], source: str) -> int:
        if len(values) > 1:
            return 400
        if values and not self.spend("filter", values[0]):
            return 429
        # The descriptors are charged one by one: one that refuses does not spare the other.
        answers = [self.spend("address", source)]
        answers += [self.spend("api_key", value) for value in values]
        return 200 if all(answers) else 429


def hostile_keys(choose: random.Random) -> list[bytes]:
    """Keys of every length and form; some are the digest, the escape or a part of another."""
    allowed = bytes([*range(0x21, 0x7F), *range(0x80, 0x100)])
    keys = [b"", b"%", b"%%", b"%/", b"a", b"a,a", b"{}", b"sha256:", b"sha256:" + b"0" * 64]
    for length in (1, 2, 70, 71, 72, 1023, 1024, 1025, 1026, 4000, 20_000):
        key = bytes(choose.choices(allowed, k=length))
        keys += [key, key[:-1] + b"\xff", b"x" * length, "é".encode() * (length // 2 + 1)]
    return list(dict.fromkeys(keys))


def test_every_limit_holds_exactly_whatever_clients_send(start):
    seed = int(os.environ.get("ENVOY_SEED", random.SystemRandom().randrange(2**32)))
    choose, model = random.Random(seed), Model()
    keys = hostile_keys(choose)
    sources = [f"127.0.0.{number}" for number in range(1, 9)]
    with QuotaService(rules=RULES) as service:
        envoy = start(FILTER, rate_limits=RATE_LIMITS, rls_port=service.port)
        found: collections.Counter[int] = collections.Counter()
        for number in range(REQUESTS):
            source = choose.choice(sources)
            count = choose.choices([0, 1, 2, 3], [1, 20, 2, 1])[0]
            values = choose.choices(keys, k=count)
            status = fetch(envoy, headers=[("k", value) for value in values], source=source).status
            expected = model.status(values, source)
            shown = [value[:80] for value in values]
            assert status == expected, f"ENVOY_SEED={seed}: request {number} of {source}: {shown}"
            found[status] += 1
        assert min(found[200], found[400], found[429]) > 50, f"ENVOY_SEED={seed}: {found}"
        assert service.metrics()['tidegate_requests_total{code="error"}'] == 0
        counters = envoy.counters()
        assert (counters["service_error"], counters["breaker_open"]) == (0, 0)
        # Somebody who has not been there yet has all tokens.
        honest = [("k", "honest")]
        fresh = [fetch(envoy, headers=honest, source="127.0.1.1").status for _ in range(6)]
        assert fresh == [200] * 5 + [429]


LOCAL = "5/d"
DESCRIPTORS = [
    {"query_parameters": {"query_parameter_name": "user", "descriptor_key": "user"}},
    {"cookie": {"name": "session", "descriptor_key": "session"}},
    {"request_headers": {"header_name": "k", "descriptor_key": "k", "skip_if_absent": True}},
]


def spelled(choose: random.Random, value: bytes, plain: bytes) -> str:
    """The value in the encoding of forms; the bytes of `plain` may stand for themselves."""
    return "".join(
        chr(byte) if byte in plain and choose.random() < 0.7 else f"%{byte:02x}"
        for byte in value
    )


def test_every_local_limit_holds_exactly_however_clients_spell_their_keys(start):
    """Each value has one bucket, whatever its spelling; a repeated one is refused."""
    seed = int(os.environ.get("ENVOY_SEED", random.SystemRandom().randrange(2**32)))
    choose = random.Random(seed)
    config = {
        "descriptors": [
            {"actions": [DESCRIPTORS[0]], "local": {"limits": [LOCAL]}},
            {"actions": [DESCRIPTORS[1]], "local": {"limits": [LOCAL]}},
            {"actions": [DESCRIPTORS[2], {"path": {}}], "local": {"limits": [LOCAL]}},
        ]
    }
    envoy = start(config)
    values = [b"", b"a", b"A", b"%61", b"a b", b"a&user=b", b"\xff\x00", b"a;session=b", b"\"", b"x" * 1500]
    values += [choose.randbytes(choose.choice([1, 2, 1024, 1025])) for _ in range(6)]
    letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
    spent: collections.Counter[tuple[str, bytes, str]] = collections.Counter()
    found: collections.Counter[int] = collections.Counter()
    for number in range(1000):
        users = choose.choices(values, k=choose.choices([0, 1, 2], [3, 12, 1])[0])
        sessions = choose.choices(values, k=choose.choices([0, 1, 2], [3, 12, 1])[0])
        headers = choose.choices([b"1", b"2", b"1,2"], k=choose.choices([0, 1, 2], [3, 12, 1])[0])
        path = choose.choice(["/a", "/b", "/c"])
        pairs = [f"{spelled(choose, b'user', letters)}={spelled(choose, user, letters)}" for user in users]
        pairs += choose.choices(["x=1", "users=2", "", "User=3"], k=2)
        choose.shuffle(pairs)
        crumbs = []
        for session in sessions:
            value = spelled(choose, session, letters)
            crumbs.append(f"session={value}" if choose.random() < 0.5 else f'session="{value}"')
        crumbs += choose.choices(["x=1", "sessions=2", "Session=3", "session"[:-1]], k=2)
        choose.shuffle(crumbs)
        sent = [("k", value) for value in headers] + [("cookie", choose.choice(["; ", ";"]).join(crumbs))]
        status = fetch(envoy, f"{path}?{'&'.join(pairs)}", headers=sent).status

        keys = [("user", user, "") for user in users] + [("session", s, "") for s in sessions]
        keys.append(("k", headers[0] if headers else b"", path + str(len(headers))))
        if max(len(users), len(sessions), len(headers)) > 1:
            expected = 400
        elif any(spent[key] == 5 for key in keys):
            expected = 429
        else:
            spent.update(keys)
            expected = 200
        assert status == expected, f"ENVOY_SEED={seed}: request {number}: {keys}"
        found[status] += 1
    assert min(found[200], found[400], found[429]) > 20, f"ENVOY_SEED={seed}: {found}"
    assert envoy.counters()["evicted"] == 0
