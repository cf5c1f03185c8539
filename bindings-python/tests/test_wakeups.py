"""Wake-ups between the native module and event loops: none is lost, whatever comes in between.

Each test forces the one interleaving in which a wake-up could be lost, and fails if the call that
depends on it is not answered.
"""

from __future__ import annotations

import asyncio
from weakref import ref

import pytest

from tidegate import _async


def test_a_loop_is_never_given_the_completions_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        own = _async._completions_of(one)
        assert own is not None

        def one_while_another_thread_asks_for_the_other() -> asyncio.AbstractEventLoop:
            monkeypatch.undo()
            _async._completions_of(other)
            return one

        latest = (one_while_another_thread_asks_for_the_other, ref(own))
        monkeypatch.setattr(_async, "_latest", latest)
        assert _async._completions_of(one) is own
    finally:
        one.close()
        other.close()
