"""Masters die, step down and hang, and a slot moves, all under load: the limit holds, and the bucket is
in full use again within a second after there is a master."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from calls import (
    SECOND,
    Call,
    Callers,
    Loss,
    admitted_between,
    errors_between,
    late,
    most_beyond,
    possible_between,
    show,
    unanswered,
)
from fleet import wait_until
from redis_groups import Cluster, Node, SentinelGroup

RATE, BURST = 50, 50
LIMIT, KEY = f"{RATE}/s burst {BURST}", "vendor"
TIMEOUT_MS, PAUSE_MS = 400, 50
SLACK_MS = 10.0


@contextmanager
def fleet(folder: Path, url: str) -> Iterator[Callers]:
    callers = Callers(folder, LIMIT, KEY, TIMEOUT_MS, PAUSE_MS)
    try:
        for _ in range(2):
            callers.python(url)
            callers.node(url)
            callers.rust(url)
        callers.python(url, "--asyncio")
        callers.go()
        yield callers
    finally:
        callers.stop()


# How long after all sentinels name the new master its clients may still use the old one, which does
# not know that it has been replaced.
NOTICED_NS = 2 * SECOND


@dataclass
class Failover:
    begun: int
    over: int
    # Whether the old master was alive and went on serving.
    old_served: bool

    @property
    def loss(self) -> Loss:
        """The charges that the new master does not know: a burst at most, and all that the old one
        admits while both serve."""
        if self.old_served:
            noticed = self.over + NOTICED_NS
            return Loss(self.begun, noticed, BURST + RATE * (noticed - self.begun) / SECOND)
        return Loss(self.begun, self.over, BURST)


def judge(calls: dict[str, list[Call]], failovers: list[Failover], end: int) -> None:
    show(calls)
    start = min(call.began for made in calls.values() for call in made)
    print("failovers:", [[round((at - start) / SECOND, 3) for at in (it.begun, it.over)] for it in failovers])
    assert most_beyond(calls, RATE, BURST, [it.loss for it in failovers]) <= 0
    assert late(calls, TIMEOUT_MS, SLACK_MS) == []
    for failover, until in zip(failovers, [*(it.begun for it in failovers[1:]), end], strict=True):
        over, again = failover.over, failover.over + SECOND
        assert again + SECOND // 2 < until, "no time to recover was left"
        assert unanswered(calls, over, again) == []
        assert errors_between(calls, again, until) == []
        used = admitted_between(calls, again, until)
        possible = possible_between(calls, RATE, BURST, again, until)
        # At either end one token may lie just outside of the span.
        assert used >= 0.97 * possible - 2, (used, possible)


def test_a_master_under_sentinel_dies_steps_down_and_hangs(tmp_path: Path) -> None:
    group = SentinelGroup(tmp_path)
    failovers: list[Failover] = []

    def is_replaced(old: Node) -> bool:
        new = group.master()
        return new is not old and new.cli("ROLE").startswith('["master"') and group.is_known(new)

    def fail_over(harm: Callable[[Node], object], old_served: bool = False) -> Node:
        time.sleep(2)
        old, begun = group.master(), time.monotonic_ns()
        harm(old)
        wait_until(lambda: is_replaced(old), "a failover", 20)
        failovers.append(Failover(begun, time.monotonic_ns(), old_served))
        return old

    def has_replicas(count: int) -> bool:
        return group.master().cli("INFO", "replication").count("state=online") == count

    try:
        with fleet(tmp_path, group.url) as callers:
            fail_over(Node.stop)
            wait_until(lambda: has_replicas(1), "a replica of the new master")
            fail_over(lambda _: group.sentinels[0].ask("SENTINEL", "FAILOVER", "gate"), old_served=True)
            wait_until(lambda: has_replicas(1), "the old master as a replica")
            # After its thaw it takes itself for the master for a moment, and serves those of its
            # clients that have not noticed.
            old = fail_over(Node.freeze, old_served=True)
            old.thaw()
            time.sleep(2)
            end = time.monotonic_ns()
            calls = callers.finish()
    finally:
        group.stop()
    judge(calls, failovers, end)


def test_a_slot_moves_in_a_cluster_and_then_its_master_dies(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    slot = cluster.slot(f"tidegate:{{{KEY}}}")
    try:
        with fleet(tmp_path, cluster.url) as callers:
            time.sleep(1)
            moved = time.monotonic_ns()
            home = cluster.owner(slot)
            to = next(it for it in cluster.masters() if it is not home)
            # There and back again, so that each node has imported and has migrated.
            for target in (to, home):
                source = cluster.begin_move(slot, target)
                time.sleep(0.3)
                cluster.move_keys(slot, source, target)
                time.sleep(0.3)
                cluster.end_move(slot, source, target)
                time.sleep(0.3)
            begun = time.monotonic_ns()
            witness = next(it for it in cluster.nodes if it is not home)
            home.stop()
            wait_until(lambda: cluster.owner(slot, witness) is not home, "a failover", 20)
            heir = cluster.owner(slot, witness)
            wait_until(lambda: "cluster_state:ok" in heir.cli("CLUSTER", "INFO"), "a whole cluster", 20)
            over = time.monotonic_ns()
            time.sleep(2.5)
            end = time.monotonic_ns()
            calls = callers.finish()
    finally:
        cluster.stop()
    # A slot that moves takes its buckets along, and no call fails.
    assert errors_between(calls, moved, begun) == []
    judge(calls, [Failover(begun, over, old_served=False)], end)
