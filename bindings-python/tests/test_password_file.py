"""`password_file` of a Redis URL: a password that changes while the limiter is used."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from conftest import RedisServer

from tidegate import InvalidArgument, Limiter, StoreError

PATIENT = 10.0
DEADLINE = 60.0


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis_server.client() as client:
        yield client
        client.execute_command("ACL", "DELUSER", "rotated")


def set_password(admin: redis.Redis, password: str) -> None:
    admin.execute_command("ACL", "SETUSER", "rotated", "reset", "on", f">{password}", "~*", "+@all")


def url(server: RedisServer, file: Path) -> str:
    return f"redis://rotated@127.0.0.1:{server.port}?password_file={file}"


def test_a_rotated_password_needs_no_restart(
    redis_server: RedisServer, admin: redis.Redis, prefix: str, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    set_password(admin, "first")
    file.write_text("first\n")
    with Limiter("1000/d", store=url(redis_server, file), prefix=prefix, store_timeout=PATIENT) as limiter:
        assert limiter.check("k").source == "redis"
        # The server has the new password before the file has it, and closes the old connections.
        set_password(admin, "second")
        admin.execute_command("CLIENT", "KILL", "USER", "rotated")
        deadline = time.monotonic() + DEADLINE
        with pytest.raises(StoreError, match="user and the password"):
            while time.monotonic() < deadline:
                limiter.check("k")
        file.write_text("second\n")
        while True:
            assert time.monotonic() < deadline, "the new password was not read"
            try:
                assert limiter.check("k").source == "redis"
                return
            except StoreError:
                time.sleep(0.01)


def test_a_password_file_is_checked_when_the_limiter_is_made(redis_server: RedisServer, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"password_file .* cannot be read"):
        Limiter("1/s", store=url(redis_server, tmp_path / "none"))
    file = tmp_path / "password"
    file.write_text("s3cret\n")
    both = f"redis://rotated:other@127.0.0.1:{redis_server.port}?password_file={file}"
    with pytest.raises(InvalidArgument, match="give one of them") as refused:
        Limiter("1/s", store=both)
    assert "other" not in str(refused.value)
    assert "s3cret" not in repr(Limiter("1/s", store=url(redis_server, file)))
