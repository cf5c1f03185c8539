"""The transport over a Redis client that blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidegate._replies import as_reply, fail_batch

if TYPE_CHECKING:
    from tidegate._tidegate import _Batch


class SyncTransport:
    """Sends each call on its caller's thread, in a batch of its own."""

    # No request ever waits for a batch.
    queue = None

    def __init__(self, client: Any, *, is_cluster: bool) -> None:
        self.is_cluster = is_cluster
        self._client = client

    def send(self, batch: _Batch) -> None:
        """Sends the batch and waits for its replies; the native module calls it."""
        try:
            commands = batch.commands()
            while commands:
                more = batch.take([as_reply(value) for value in self._execute(commands)])
                commands = batch.commands() if more else []
        except Exception as error:
            fail_batch(batch, error)

    def _execute(self, commands: list[list[str | bytes]]) -> list[Any]:
        if len(commands) == 1:
            try:
                return [self._client.execute_command(*commands[0], NEVER_DECODE=True)]
            except Exception as error:
                return [error]
        with self._client.pipeline(transaction=False) as pipeline:
            for words in commands:
                pipeline.execute_command(*words, NEVER_DECODE=True)
            return list(pipeline.execute(raise_on_error=False))
