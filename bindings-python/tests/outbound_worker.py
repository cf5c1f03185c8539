"""One process of a fleet that calls the vendor of `tests/vendor`: it is ready, starts when told, and reports its calls.

The argument is JSON: `vendor` and `store` (URLs), `prefix`, `limit`, `calls`, `mode` (a method of Worker) and the
`options` of Retry. What it reports, on one line, is the times at which calls left and holds were stored, on the
system's monotonic clock, and the statuses.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit

from tidegate import Attempt, Outbound, RateLimited, Retry


class Worker:
    def __init__(self, given: dict[str, Any]) -> None:
        url = urlsplit(given["vendor"])
        self.connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
        self.outbound = Outbound(
            given["limit"],
            store=given["store"],
            prefix=given["prefix"],
            store_timeout=30,
            retry=Retry(**given["options"]),
        )
        self.client = given["client"]
        self.left: list[float] = []
        self.held: list[float] = []
        self.statuses: list[int] = []

    def request(self) -> http.client.HTTPResponse:
        self.left.append(time.monotonic())
        self.connection.request("GET", "/call", headers={"X-Client": self.client})
        response = self.connection.getresponse()
        response.read()
        return response

    def send(self) -> None:
        self.statuses.append(self.outbound.send(lambda _: self.request(), key="vendor").status)

    def block(self) -> None:
        with self.outbound.call("vendor") as call:
            response = self.request()
            if call.response(response.status, response.headers).hold:
                self.held.append(time.monotonic())
        self.statuses.append(response.status)

    def brief(self) -> None:
        """A call that may take a second, waits and retries included."""
        began = time.monotonic()

        def function(attempt: Attempt) -> http.client.HTTPResponse:
            left = attempt.timeout or 0
            if left <= 0 or time.monotonic() - began > 1.0 + 0.25:
                raise ValueError("it left after the deadline")
            return self.request()

        try:
            self.statuses.append(self.outbound.send(function, key="vendor", timeout=1.0).status)
        except RateLimited:
            self.statuses.append(0)


def main() -> None:
    given = json.loads(sys.argv[1])
    worker = Worker(given)
    worker.outbound.limiter.ping()
    print("ready", flush=True)
    sys.stdin.readline()
    call = getattr(worker, given["mode"])
    for _ in range(given["calls"]):
        call()
    print(json.dumps({"left": worker.left, "held": worker.held, "statuses": worker.statuses}), flush=True)


if __name__ == "__main__":
    main()
