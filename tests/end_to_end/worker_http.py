"""Clients of a web service behind Envoy, over several connections and with one vendor key.

    worker_http.py ENVOY_PORT KEY SECONDS ATTEMPTS_PER_SECOND CONNECTIONS

It talks to its parent process as worker.py does. A 200 counts as admitted, a 429 as refused.
"""

from __future__ import annotations

import http.client
import sys
import threading
import time

from worker import Counts, wait_for_go


def attempt(connection: http.client.HTTPConnection, key: str) -> int:
    connection.request("GET", "/", headers={"x-vendor": key})
    response = connection.getresponse()
    response.read()
    return response.status


def main() -> None:
    port, key, seconds, attempts, connections = sys.argv[1:6]
    pause = float(connections) / float(attempts)
    counts, lock = Counts(), threading.Lock()
    clients = [http.client.HTTPConnection("127.0.0.1", int(port), timeout=5) for _ in range(int(connections))]
    for client in clients:
        attempt(client, "warm-up")
    wait_for_go()
    end = time.monotonic() + float(seconds)

    def run(client: http.client.HTTPConnection) -> None:
        while time.monotonic() < end:
            began = time.perf_counter()
            try:
                status = attempt(client, key)
            except (OSError, http.client.HTTPException) as error:
                status, client = repr(error), http.client.HTTPConnection("127.0.0.1", int(port), timeout=5)
            with lock:
                counts.took(began)
                if status == 200:
                    counts.admitted += 1
                elif status == 429:
                    counts.refused += 1
                else:
                    counts.errors += 1
                    counts.last_error = f"HTTP {status}"
                counts.tell()
            time.sleep(max(0.0, pause - (time.perf_counter() - began)))

    threads = [threading.Thread(target=run, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts.tell(final=True)


if __name__ == "__main__":
    main()
