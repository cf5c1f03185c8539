"""A real `tidegate serve`, for the tests with Envoy."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_SECONDS = 60
STOP_SECONDS = 20


def binary() -> pathlib.Path:
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = pathlib.Path(os.environ.get("TIDEGATE_BINARY", target / "release" / "tidegate"))
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: scripts/build.sh cli builds it")
    return path


class QuotaService:
    """Serves while entered, on memory unless a `store` is given.

    `rules` is the text of a rules file; otherwise give a `--limit`.
    """

    def __init__(self, *options: str, rules: str = "", store: str = "memory://") -> None:
        self._options = list(options)
        self._store = store
        self._rules = rules
        self._process: subprocess.Popen[bytes] | None = None
        self.port = self.http = 0

    def __enter__(self) -> QuotaService:
        self._directory = tempfile.TemporaryDirectory(prefix="tidegate-serve-")
        self._path = pathlib.Path(self._directory.name)
        if self._rules:
            self.write_rules(self._rules)
            self._options += ["--rules", str(self._path / "rules.toml")]
        with (self._path / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    binary(), "serve", "--store", self._store,
                    "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
                    "--ports-file", self._path / "ports", *self._options,
                ],
                stderr=log,
            )  # fmt: skip
        ports = self._path / "ports"
        deadline = time.monotonic() + START_SECONDS
        while not ports.exists():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.01)
        found = json.loads(ports.read_text())
        self.port, self.http = found["grpc"], found["http"]
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self.send(signal.SIGKILL)
        self._process.wait(STOP_SECONDS)
        self._directory.cleanup()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def write_rules(self, rules: str) -> None:
        (self._path / "rules.toml").write_text(rules)

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(STOP_SECONDS)

    def log(self) -> str:
        return (self._path / "log").read_text(errors="replace")

    def metrics(self) -> dict[str, int]:
        """The metrics by name and labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: int(value) for name, value in samples}
