"""A shared bucket over TLS: the server's certificate is checked, and a plain connection
to a TLS port, or the reverse, is an error within the timeout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from fleet import free_port, wait_until

CHECK = """
import sys, tidegate
try:
    decision = tidegate.Limiter("5/s", store=sys.argv[1], store_timeout=2.0).check("k")
    print(decision.source, decision.remaining)
except tidegate.StoreError as error:
    print(error.code, error)
"""


OPEN_THREE = """
import logging, sys, threading, tidegate
logged = threading.Event()
class Print(logging.Handler):
    def emit(self, record):
        print(record.levelname, record.getMessage())
        logged.set()
logging.getLogger("tidegate").addHandler(Print())
limiters = [tidegate.Limiter("5/s", store=sys.argv[1]) for _ in range(3)]
assert logged.wait(60)
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (folder / "san").write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
            "-CAcreateserial", "-extfile", "san", "-out", "server.pem")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", "/CN=a client", "-keyout", "client.key", "-out", "client.csr")
    openssl("x509", "-req", "-in", "client.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
            "-CAcreateserial", "-extfile", "san", "-out", "client.pem")
    # The certificates that servers make for themselves, as authorities: one with the name of the
    # host, one with another name, and one that is no longer valid.
    for name, subject, made in (
        ("own", "localhost", "now"), ("renamed", "elsewhere", "now"), ("expired", "localhost", "2020-01-01"),
    ):
        words = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                 "-nodes", "-days", "2", "-subj", f"/CN={subject}", "-addext", f"subjectAltName=DNS:{subject}",
                 "-keyout", f"{name}.key", "-out", f"{name}.pem")
        subprocess.run(["faketime", made, *words], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def ports(certificates: Path) -> Iterator[tuple[int, int]]:
    with server(certificates, client_certificates=False) as ports:
        yield ports


@pytest.fixture(scope="module")
def port_for_certified_clients(certificates: Path) -> Iterator[int]:
    with server(certificates, client_certificates=True) as (_, port):
        yield port


@contextmanager
def server(
    certificates: Path, client_certificates: bool, name: str = "server"
) -> Iterator[tuple[int, int]]:
    plain, tls = free_port(), free_port()
    server = subprocess.Popen(
        ["redis-server", "--port", str(plain), "--tls-port", str(tls), "--bind", "127.0.0.1",
         "--tls-cert-file", f"{name}.pem", "--tls-key-file", f"{name}.key", "--tls-ca-cert-file", "ca.pem",
         "--tls-auth-clients", "yes" if client_certificates else "no", "--save", "", "--appendonly", "no"],
        cwd=certificates, stdout=subprocess.DEVNULL,
    )
    try:
        ping = ["redis-cli", "-p", str(plain), "PING"]
        wait_until(lambda: subprocess.run(ping, capture_output=True, check=False).stdout == b"PONG\n", "the start")
        yield plain, tls
    finally:
        server.kill()
        server.wait()


def check(url: str, authority: Path | None = None) -> str:
    env = dict(os.environ)
    if authority is not None:
        env["SSL_CERT_FILE"] = str(authority)
    command = [sys.executable, "-c", CHECK, url]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.strip()


def test_a_trusted_certificate_is_accepted(certificates: Path, ports: tuple[int, int]) -> None:
    assert check(f"rediss://localhost:{ports[1]}", certificates / "ca.pem") == "redis 4"


def test_the_authority_can_be_named_in_the_url(certificates: Path, ports: tuple[int, int]) -> None:
    authority = quote(str(certificates / "ca.pem"))
    assert check(f"rediss://localhost:{ports[1]}?ca={authority}").startswith("redis ")
    # It is trusted instead of the system's, not besides.
    other = quote(str(certificates / "client.pem"))
    answer = check(f"rediss://localhost:{ports[1]}?ca={other}", certificates / "ca.pem")
    assert answer.startswith("store_error"), answer


def test_a_client_shows_its_certificate(certificates: Path, port_for_certified_clients: int) -> None:
    url = f"rediss://localhost:{port_for_certified_clients}?ca={quote(str(certificates / 'ca.pem'))}"
    own = "&cert={}&key={}".format(*(quote(str(certificates / f"client.{part}")) for part in ("pem", "key")))
    assert check(url + own).startswith("redis ")
    assert check(url).startswith("store_error")


@pytest.mark.parametrize(
    ("scheme", "host", "port", "trusted", "hint"),
    [
        pytest.param("rediss", "localhost", 1, False, "UnknownIssuer", id="an unknown authority"),
        pytest.param("rediss", "127.0.0.1", 1, True, "DnsName", id="another name than the certificate's"),
        pytest.param("rediss", "localhost", 0, True, "without TLS needs redis://", id="TLS to a plain port"),
        pytest.param("redis", "localhost", 1, True, "for TLS needs rediss://", id="plain to a TLS port"),
    ],
)
def test_anything_else_is_a_store_error_that_says_why(
    certificates: Path, ports: tuple[int, int], scheme: str, host: str, port: int, trusted: bool, hint: str
) -> None:
    answer = check(f"{scheme}://{host}:{ports[port]}", certificates / "ca.pem" if trusted else None)
    assert answer.startswith(("store_error", "store_timeout")) and hint in answer, answer
    assert f"{host}:{ports[port]}" in answer


@pytest.mark.parametrize("name", ["own", "renamed"])
def test_a_server_may_be_trusted_by_its_own_certificate(certificates: Path, name: str) -> None:
    authority = {each: quote(str(certificates / f"{each}.pem")) for each in ("own", "renamed", "ca")}
    with server(certificates, client_certificates=False, name=name) as (_, port):
        assert check(f"rediss://localhost:{port}?ca={authority[name]}") == "redis 4"
        for other in set(authority) - {name}:
            answer = check(f"rediss://localhost:{port}?ca={authority[other]}")
            assert answer.startswith("store_error"), (other, answer)


def test_a_server_s_own_certificate_must_still_be_valid(certificates: Path) -> None:
    with server(certificates, client_certificates=False, name="expired") as (_, port):
        answer = check(f"rediss://localhost:{port}?ca={quote(str(certificates / 'expired.pem'))}")
        assert answer.startswith("store_error") and "xpired" in answer, answer


@pytest.mark.parametrize("name", ["own", "renamed", "expired", "server"])
def test_nothing_is_checked_with_verify_none(certificates: Path, name: str) -> None:
    with server(certificates, client_certificates=False, name=name) as (_, port):
        url = f"rediss://localhost:{port}"
        assert check(f"{url}?verify=full").startswith("store_error")
        assert check(f"{url}?verify=none") == "redis 4"
        # The choice is in the log, once for all limiters.
        command = [sys.executable, "-c", OPEN_THREE, f"{url}?verify=none"]
        log = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        expected = f"{url}/0?verify=none was opened with verify=none: its certificate is not checked"
        assert log.splitlines() == [f"WARNING {expected}"], log
