"""The vendor as a process of a Python test: start it with its options, ask for its log, stop it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

TESTS = Path(__file__).resolve().parents[1]


class VendorProcess:
    """`with VendorProcess(limit=10, window=1, style="none") as vendor:` serves at `vendor.url`."""

    def __init__(self, **options: Any) -> None:
        flags = [part for name, value in options.items() for part in flag_of(name, value)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vendor", *flags], cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the vendor ended while starting"
        self.url: str = json.loads(line)["url"]

    def log(self) -> list[dict[str, Any]]:
        """Every request, in order."""
        return self._ask("/_log")

    def counts(self) -> dict[str, Any]:
        return self._ask("/_counts")

    def set(self, **options: Any) -> None:
        """Changes options while it runs."""
        self._ask(f"/_set?{urlencode(options)}", "POST")

    def stop(self) -> None:
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _ask(self, path: str, method: str = "GET") -> Any:
        with urllib.request.urlopen(urllib.request.Request(self.url + path, method=method), timeout=60) as response:
            return json.load(response)

    def __enter__(self) -> VendorProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def flag_of(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    return ([flag] if value else []) if isinstance(value, bool) else [flag, str(value)]
