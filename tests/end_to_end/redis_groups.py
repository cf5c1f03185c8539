"""Groups of real redis-servers of the test's own: one with its data on disk, a cluster, and a
master with replicas under Sentinel."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from fleet import wait_until

BUS = 10_000


class Node:
    """A redis-server or a sentinel, in a folder of its own."""

    def __init__(self, folder: Path, port: int, *arguments: str) -> None:
        self.port, self.folder, self._arguments = port, folder / str(port), arguments
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Starts the server and waits until it has loaded its data and answers."""
        command = ["redis-server", *self._arguments, "--port", str(self.port), "--bind", "127.0.0.1",
                   "--daemonize", "no"]
        self._process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL)
        wait_until(lambda: self.cli("PING") == "PONG", "a server's start", poll=0.005)

    def stop(self) -> None:
        """Kills the server, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stops it without closing its connections, like a machine that hangs."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def cli(self, *words: str) -> str:
        """The server's answer, or an empty text if there is none: a server may be down or hang."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 2) as link:
            parts = [word.encode() for word in words]
            link.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
            with link.makefile("rb") as answers:
                answer = read_answer(answers.readline, answers.read)
                return answer if isinstance(answer, str) else json.dumps(answer)
        return ""

    def ask(self, *words: str) -> str:
        answer = self.cli(*words)
        if not answer or answer.startswith("-"):
            raise RuntimeError(f"{words[:2]} on port {self.port}: {answer or 'no answer'}")
        return answer


def read_answer(line: Callable[[], bytes], read: Callable[[int], bytes]) -> object:
    """Reads a RESP2 answer; errors keep their `-`."""
    head = line().decode().rstrip("\r\n")
    kind, rest = head[:1], head[1:]
    if kind == "$" and rest != "-1":
        return read(int(rest) + 2)[:-2].decode(errors="replace")
    if kind == "*" and rest != "-1":
        return [read_answer(line, read) for _ in range(int(rest))]
    if kind in ("$", "*"):
        return None
    if kind == ":":
        return int(rest)
    return head if kind in ("-", "") else rest


class PersistentServer(Node):
    """A server that has every write on disk before it answers, so that a crash loses none."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, free_port(), "--save", "", "--appendonly", "yes", "--appendfsync", "always")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def lose_all(self) -> None:
        """Deletes its data, while it is stopped."""
        shutil.rmtree(self.folder / "appendonlydir")


class Cluster:
    """A cluster of three masters, each with a replica."""

    def __init__(self, folder: Path) -> None:
        self.nodes: list[Node] = []
        for _ in range(6):
            port = free_port()
            self.nodes.append(Node(
                folder, port, "--cluster-enabled", "yes", "--cluster-port", str(port + BUS),
                "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0",
                "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0",
            ))
        hosts = [f"127.0.0.1:{node.port}" for node in self.nodes]
        self.url = "redis+cluster://" + ",".join(hosts[:3])
        subprocess.run(
            ["redis-cli", "--cluster", "create", *hosts, "--cluster-replicas", "1", "--cluster-yes"],
            check=True, capture_output=True, timeout=60,
        )
        wait_until(lambda: all(map(self._is_whole, self.nodes)), "a whole cluster")

    def _is_whole(self, node: Node) -> bool:
        info, ranges = node.cli("CLUSTER", "INFO"), json.loads(node.cli("CLUSTER", "SLOTS") or "[]")
        return "cluster_state:ok" in info and len(ranges) == 3 and all(len(it) == 4 for it in ranges)

    def owner(self, slot: int, witness: Node | None = None) -> Node:
        """The node that serves the slot, as another one that is alive says."""
        for node in [witness] if witness else self.nodes:
            for first, last, (_, port, *_), *_ in json.loads(node.cli("CLUSTER", "SLOTS") or "[]"):
                if first <= slot <= last:
                    return next(it for it in self.nodes if it.port == port)
        raise RuntimeError(f"nobody serves slot {slot}")

    def masters(self) -> list[Node]:
        return [node for node in self.nodes if node.cli("ROLE").startswith('["master"')]

    def slot(self, key: str) -> int:
        return int(self.nodes[0].ask("CLUSTER", "KEYSLOT", key))

    def begin_move(self, slot: int, to: Node) -> Node:
        """Begins to move a slot: its keys may be at either node from now on. Returns the node that
        it leaves."""
        source = self.owner(slot)
        source_id, target_id = (node.ask("CLUSTER", "MYID") for node in (source, to))
        to.ask("CLUSTER", "SETSLOT", str(slot), "IMPORTING", source_id)
        source.ask("CLUSTER", "SETSLOT", str(slot), "MIGRATING", target_id)
        return source

    def move_keys(self, slot: int, source: Node, to: Node) -> None:
        keys = json.loads(source.ask("CLUSTER", "GETKEYSINSLOT", str(slot), "1000"))
        if keys:
            source.ask("MIGRATE", "127.0.0.1", str(to.port), "", "0", "5000", "KEYS", *keys)

    def end_move(self, slot: int, source: Node, to: Node) -> None:
        for node in (to, source):
            node.ask("CLUSTER", "SETSLOT", str(slot), "NODE", to.ask("CLUSTER", "MYID"))

    def stop(self) -> None:
        stop_all(self.nodes)


class SentinelGroup:
    """A master, two replicas, and three sentinels that act after half a second."""

    def __init__(self, folder: Path) -> None:
        common = ("--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")
        master = free_port()
        self.servers = [Node(folder, master, *common)]
        for _ in range(2):
            self.servers.append(Node(folder, free_port(), *common, "--replicaof", "127.0.0.1", str(master)))
        wait_until(lambda: self.servers[0].cli("INFO", "replication").count("state=online") == 2, "replicas")
        self.sentinels: list[Node] = []
        for _ in range(3):
            port = free_port()
            (folder / str(port)).mkdir()
            (folder / str(port) / "sentinel.conf").write_text(
                f"sentinel monitor gate 127.0.0.1 {master} 2\n"
                "sentinel down-after-milliseconds gate 500\n"
                "sentinel failover-timeout gate 3000\n"
                "sentinel parallel-syncs gate 2\n"
            )
            self.sentinels.append(Node(folder, port, "sentinel.conf", "--sentinel"))
        wait_until(
            lambda: all("slaves=2,sentinels=3" in it.cli("INFO", "sentinel") for it in self.sentinels),
            "sentinels that know each other",
        )
        hosts = ",".join(f"127.0.0.1:{it.port}" for it in self.sentinels)
        self.url = f"redis+sentinel://{hosts}/gate"

    def master(self) -> Node:
        """The master, as named by the first sentinel that answers. A sentinel can hang for seconds
        while it writes its configuration to a busy disk."""
        for named in map(self._named_by, self.sentinels):
            if named is not None:
                return named
        raise RuntimeError("no sentinel answers")

    def is_known(self, master: Node) -> bool:
        """Whether every sentinel names this server as the master."""
        return all(self._named_by(it) is master for it in self.sentinels)

    def _named_by(self, sentinel: Node) -> Node | None:
        if not (answer := sentinel.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "gate")):
            return None
        _, port = json.loads(answer)
        return next(it for it in self.servers if it.port == int(port))

    def stop(self) -> None:
        stop_all([*self.sentinels, *self.servers])


def stop_all(nodes: Sequence[Node]) -> None:
    for node in nodes:
        node.stop()


def free_port() -> int:
    """A free port whose bus port, 10,000 above it, is free too.

    It is bound only later, so that both are below the range that the system gives out by itself.
    """
    while True:
        port = random.randrange(11_000, 21_000)
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + BUS))
            return port
