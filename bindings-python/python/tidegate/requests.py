"""An adapter for requests that keeps to the vendors' limits. It needs the package requests.

>>> import requests
>>> from tidegate import Outbound
>>> from tidegate.requests import OutboundAdapter
>>> session = requests.Session()
>>> session.mount("https://", OutboundAdapter(Outbound("10 in any 1s")))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests
from requests.adapters import BaseAdapter, HTTPAdapter

from tidegate._outbound import MAX_USAGE_BODY, Attempt, CallOptions, Outbound, SyncRun, body_of_sync
from tidegate._responses import is_idempotent, response_of

__all__ = ["OutboundAdapter"]

# From this status on a body may tell why a call was refused.
REFUSED = 400


class OutboundAdapter(BaseAdapter):
    """Sends each request of a requests.Session when it has a slot, and again as the vendor says.

    `outbound` says how, and `adapter` sends, an `HTTPAdapter()` without retries of its own unless given. A request
    whose body is neither text nor bytes is sent once. One that is not idempotent (a POST without an
    Idempotency-Key, say) is repeated only where it cannot have had an effect. The request's own timeout still
    counts, and none is longer than what the call's has left. As requests means it, it bounds a wait for bytes.

    With `stream=True` the call ends when the response is read or closed, and the `usage` hook is not asked.

    A slot that would come too late raises RateLimited.
    """

    def __init__(self, outbound: Outbound, adapter: BaseAdapter | None = None) -> None:
        super().__init__()
        if not isinstance(outbound, Outbound):
            raise TypeError(f"outbound must be an Outbound, not {type(outbound).__name__}")
        self._outbound = outbound
        self._adapter = HTTPAdapter() if adapter is None else adapter

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float | None, float | None] | None = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Sends one request; the session calls it."""
        options = CallOptions(
            None,
            request,
            repeatable=request.body is None or isinstance(request.body, (str, bytes)),
            idempotent=is_idempotent(request.method or "", request.headers),
        )
        run = SyncRun(self._outbound.at(options.host or "")._options, options)

        def attempt(attempt: Attempt) -> requests.Response:
            response = self._adapter.send(
                request,
                stream=stream,
                timeout=bounded(timeout, attempt.timeout),
                verify=verify,
                cert=cert,
                proxies=proxies,
            )
            if response.status_code >= REFUSED or not stream:
                # It may be repeated, and then the connection is needed.
                response.content  # noqa: B018 (it reads the body)
            return response

        response, body = run.exchange(attempt, response_of, body_of_sync)
        if getattr(response, "_content_consumed", False):
            run.finish((body() or b"")[-MAX_USAGE_BODY:] if run.wants_body else None)
        else:
            at_end_of(response, run)
        return response

    def close(self) -> None:
        """Closes the adapter that sends; the Outbound stays open."""
        self._adapter.close()


def at_end_of(response: requests.Response, run: SyncRun) -> None:
    """Ends the call when the response is read to its end, closed or forgotten."""
    raw: Any = response.raw
    release = getattr(raw, "release_conn", None)
    if release is None:
        run.finish(None)
        return

    def released() -> None:
        try:
            release()
        finally:
            run.finish(None)

    raw.release_conn = released
    run.end_with(response)


def bounded(timeout: Any, left: float | None) -> Any:
    """The timeout of a request, no longer than `left` seconds."""
    if left is None:
        return timeout
    connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    return tuple(left if each is None else min(left, each) for each in (connect, read))
