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
def server(certificates: Path, client_certificates: bool) -> Iterator[tuple[int, int]]:
    plain, tls = free_port(), free_port()
    server = subprocess.Popen(
        ["redis-server", "--port", str(plain), "--tls-port", str(tls), "--bind", "127.0.0.1",
         "--tls-cert-file", "server.pem", "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.pem",
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
    ("scheme", "host", "port", "trusted"),
    [
        pytest.param("rediss", "localhost", 1, False, id="an unknown authority"),
        pytest.param("rediss", "127.0.0.1", 1, True, id="another name than the certificate's"),
        pytest.param("rediss", "localhost", 0, True, id="TLS to a plain port"),
        pytest.param("redis", "localhost", 1, True, id="plain to a TLS port"),
    ],
)
def test_anything_else_is_a_store_error(
    certificates: Path, ports: tuple[int, int], scheme: str, host: str, port: int, trusted: bool
) -> None:
    answer = check(f"{scheme}://{host}:{ports[port]}", certificates / "ca.pem" if trusted else None)
    assert answer.startswith(("store_error", "store_timeout")), answer
