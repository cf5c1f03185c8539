//! Groups of real redis-servers that a test starts: a cluster, and a master under Sentinel.

mod secured;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use redis::{Cmd, Connection, FromRedisValue};

pub use secured::Secured;

const DEADLINE: Duration = Duration::from_secs(40);

/// How long a node may be silent before the others consider it dead, in milliseconds.
const NODE_TIMEOUT: &str = "1000";

/// A server or sentinel, which keeps its files in a folder of its own.
pub struct Node {
    /// The port for clients, with TLS if the group is secured.
    pub port: u16,
    /// The port for the test.
    admin: u16,
    is_secured: bool,
    process: Child,
}

impl Node {
    fn start(folder: &Path, port: u16, secured: Option<&Secured>, arguments: &[&str]) -> Self {
        let own = folder.join(port.to_string());
        fs::create_dir_all(&own).expect("a folder");
        let admin = if secured.is_some() { free_ports() } else { port };
        let is_sentinel = arguments.contains(&"--sentinel");
        let process = Command::new("redis-server")
            .args(arguments)
            .args(["--port", &admin.to_string(), "--bind", "127.0.0.1", "--daemonize", "no"])
            .args(secured.iter().flat_map(|secured| secured.arguments(port, is_sentinel)))
            .current_dir(own)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server runs; install it with: apt-get install redis-server");
        Self { port, admin, is_secured: secured.is_some(), process }
    }

    /// Sends a command and answers the reply.
    ///
    /// # Panics
    /// When the reply is an error or of another type.
    pub fn ask<T: FromRedisValue>(&self, command: &mut Cmd) -> T {
        command.query(&mut self.connect()).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    fn answers(&self) -> bool {
        let connected = self.client().get_connection();
        connected.and_then(|mut it| redis::cmd("PING").exec(&mut it)).is_ok()
    }

    fn connect(&self) -> Connection {
        self.client().get_connection().expect("a connection to the test's node")
    }

    fn client(&self) -> redis::Client {
        let password = if self.is_secured { secured::ADMIN } else { "" };
        let url = format!("redis://:{password}@127.0.0.1:{}/", self.admin);
        redis::Client::open(url).expect("a valid URL")
    }

    /// Stops the process without closing its connections, like a machine that hangs.
    ///
    /// # Panics
    /// When the process is not running.
    pub fn freeze(&self) {
        signal(&self.process, "-STOP");
    }

    /// Ends [`freeze`](Self::freeze).
    ///
    /// # Panics
    /// When the process is not running.
    pub fn thaw(&self) {
        signal(&self.process, "-CONT");
    }

    /// Kills the process, like a crash.
    pub fn stop(&mut self) {
        // The process may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Three masters, and a replica of each.
pub struct RedisCluster {
    /// The nodes; which of them are masters can change.
    pub nodes: Vec<Node>,
    _folder: Folder,
}

impl RedisCluster {
    /// Starts a cluster and waits until every node knows which node serves which slots.
    ///
    /// # Panics
    /// When redis-server is not installed or the cluster does not come up.
    pub fn start() -> Self {
        Self::start_secured(None)
    }

    /// Starts a cluster, with TLS and users if it is secured.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_secured(secured: Option<&Secured>) -> Self {
        let folder = Folder::new("cluster");
        let nodes: Vec<Node> = (0..6)
            .map(|_| {
                let port = free_ports();
                let bus = (port + BUS).to_string();
                let arguments = [
                    "--cluster-enabled",
                    "yes",
                    "--cluster-node-timeout",
                    NODE_TIMEOUT,
                    "--cluster-port",
                    &bus,
                    "--cluster-replica-validity-factor",
                    "0",
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                    "--repl-diskless-sync-delay",
                    "0",
                ];
                Node::start(&folder.0, port, secured, &arguments)
            })
            .collect();
        wait_until("the nodes' start", || nodes.iter().all(Node::answers));
        let mut create = Command::new("redis-cli");
        create.args(secured.iter().flat_map(|secured| secured.cli_arguments()));
        create.args(["--cluster", "create"]);
        create.args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)));
        let made = create.args(["--cluster-replicas", "1", "--cluster-yes"]).output();
        let made = made.expect("redis-cli runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        let cluster = Self { nodes, _folder: folder };
        wait_until("a whole cluster", || cluster.nodes.iter().all(is_whole));
        cluster
    }

    /// The URL of the group.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.nodes.iter().map(|it| format!("127.0.0.1:{}", it.port)).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// Lets the living nodes serve their slots while other slots are not served.
    pub fn serve_covered_slots(&self) {
        for node in &self.nodes {
            let mut set = redis::cmd("CONFIG");
            let () = node.ask(set.arg("SET").arg("cluster-require-full-coverage").arg("no"));
        }
    }

    /// `count` keys whose buckets other nodes than `not` serve.
    pub fn keys_elsewhere(&self, not: usize, count: usize) -> Vec<String> {
        let keys = (0..).map(|number| format!("elsewhere {number}"));
        let keys = keys.filter(|key| self.owner(self.slot(&format!("{{{key}}}"))) != not);
        keys.take(count).collect()
    }

    /// The slot of a key, as the servers compute it.
    pub fn slot(&self, key: &str) -> u16 {
        self.nodes[0].ask(redis::cmd("CLUSTER").arg("KEYSLOT").arg(key))
    }

    /// The index of the node that serves the slot, as one of the living nodes says.
    ///
    /// # Panics
    /// When no node serves it.
    pub fn owner(&self, slot: u16) -> usize {
        let witness = self.nodes.iter().find(|node| node.answers()).expect("a living node");
        let ranges: Vec<(u16, u16, (String, u16))> = slots(witness);
        let owner = ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
        let (_, _, (_, port)) = owner.expect("somebody serves it");
        self.nodes.iter().position(|node| node.admin == *port).expect("a node of the cluster")
    }

    /// The index of a master that does not serve the slot.
    ///
    /// # Panics
    /// When there is no such master.
    pub fn other_master(&self, slot: u16) -> usize {
        let owner = self.nodes[self.owner(slot)].admin;
        let ranges = slots(&self.nodes[0]);
        let other = ranges.iter().map(|(_, _, (_, port))| *port).find(|port| *port != owner);
        let other = other.expect("three masters");
        self.nodes.iter().position(|node| node.admin == other).expect("a node of the cluster")
    }

    /// The node's id in the cluster.
    pub fn id(&self, node: usize) -> String {
        self.nodes[node].ask(redis::cmd("CLUSTER").arg("MYID"))
    }

    /// Sends `CLUSTER SETSLOT slot state node` to the node at `receiver`.
    pub fn set_slot(&self, receiver: usize, slot: u16, state: &str, node: usize) {
        let id = self.id(node);
        let mut command = redis::cmd("CLUSTER");
        command.arg("SETSLOT").arg(slot).arg(state).arg(id);
        let () = self.nodes[receiver].ask(&mut command);
    }

    /// Moves the slot's keys from one node to another, unchanged.
    pub fn migrate_keys(&self, slot: u16, from: usize, to: usize) {
        let mut list = redis::cmd("CLUSTER");
        let keys: Vec<Vec<u8>> =
            self.nodes[from].ask(list.arg("GETKEYSINSLOT").arg(slot).arg(1000));
        if !keys.is_empty() {
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(self.nodes[to].port).arg("").arg(0).arg(5000);
            let _: String = self.nodes[from].ask(migrate.arg("KEYS").arg(keys));
        }
    }
}

/// Whether every slot is served, and each of the six nodes knows the five others.
fn is_whole(node: &Node) -> bool {
    let info: String = node.ask(redis::cmd("CLUSTER").arg("INFO"));
    let replicas: Vec<redis::Value> = node.ask(redis::cmd("CLUSTER").arg("SLOTS"));
    let pairs = replicas.iter().all(|range| match range {
        redis::Value::Array(parts) => parts.len() == 4,
        _ => false,
    });
    info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6") && pairs
}

type Ranges = Vec<(u16, u16, (String, u16))>;

fn slots(node: &Node) -> Ranges {
    let ranges: Vec<redis::Value> = node.ask(redis::cmd("CLUSTER").arg("SLOTS"));
    let read = |range: redis::Value| -> (u16, u16, (String, u16)) {
        let redis::Value::Array(mut parts) = range else { panic!("{range:?}") };
        parts.truncate(3);
        let redis::Value::Array(master) = parts.pop().expect("a master") else { panic!("no node") };
        let mut master = master.into_iter();
        let host = redis::from_redis_value(master.next().expect("a host")).expect("text");
        let port = redis::from_redis_value(master.next().expect("a port")).expect("a number");
        let last = redis::from_redis_value(parts.pop().expect("the last")).expect("a number");
        let first = redis::from_redis_value(parts.pop().expect("the first")).expect("a number");
        (first, last, (host, port))
    };
    ranges.into_iter().map(read).collect()
}

/// A master with two replicas, and three sentinels.
pub struct SentinelGroup {
    /// The servers; the first is the first master.
    pub servers: Vec<Node>,
    /// The sentinels, which watch the servers.
    pub sentinels: Vec<Node>,
    _folder: Folder,
}

impl SentinelGroup {
    /// Starts a group and waits until the sentinels know all servers and each other.
    ///
    /// # Panics
    /// When redis-server is not installed or the group does not come up.
    pub fn start() -> Self {
        Self::start_secured(None)
    }

    /// Starts a group, with TLS and users if it is secured.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_secured(secured: Option<&Secured>) -> Self {
        let folder = Folder::new("sentinel");
        let ports: Vec<u16> = (0..6).map(|_| free_ports()).collect();
        let master = ports[0].to_string();
        let servers: Vec<Node> = ports[..3]
            .iter()
            .map(|port| {
                let mut arguments =
                    vec!["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"];
                if *port != ports[0] {
                    arguments.extend(["--replicaof", "127.0.0.1", &master]);
                }
                Node::start(&folder.0, *port, secured, &arguments)
            })
            .collect();
        wait_until("the servers' start", || servers.iter().all(Node::answers));
        wait_until("replicas in step", || {
            let info: String = servers[0].ask(redis::cmd("INFO").arg("replication"));
            info.matches("state=online").count() == 2
        });
        let sentinels: Vec<Node> = ports[3..]
            .iter()
            .map(|port| {
                let own = folder.0.join(port.to_string());
                fs::create_dir_all(&own).expect("a folder");
                let watch = format!(
                    "sentinel monitor gate 127.0.0.1 {master} 2\n\
                     sentinel down-after-milliseconds gate 500\n\
                     sentinel failover-timeout gate 3000\n\
                     sentinel parallel-syncs gate 2\n{}",
                    secured.map_or_else(String::new, |_| Secured::sentinel_passwords("gate"))
                );
                fs::write(own.join("sentinel.conf"), watch).expect("its configuration");
                Node::start(&folder.0, *port, secured, &["sentinel.conf", "--sentinel"])
            })
            .collect();
        wait_until("the sentinels' start", || sentinels.iter().all(Node::answers));
        let group = Self { servers, sentinels, _folder: folder };
        wait_until("sentinels that know each other", || {
            group.sentinels.iter().all(|sentinel| {
                let info: String = sentinel.ask(redis::cmd("INFO").arg("sentinel"));
                info.contains("status=ok") && info.contains("slaves=2,sentinels=3")
            })
        });
        group
    }

    /// The URL of the group.
    pub fn url(&self) -> String {
        let hosts: Vec<_> =
            self.sentinels.iter().map(|it| format!("127.0.0.1:{}", it.port)).collect();
        format!("redis+sentinel://{}/gate", hosts.join(","))
    }

    /// The index of the server that the first sentinel considers the master.
    ///
    /// # Panics
    /// When that server is not of the group.
    pub fn master(&self) -> usize {
        let mut command = redis::cmd("SENTINEL");
        let (_, port): (String, u16) =
            self.sentinels[0].ask(command.arg("GET-MASTER-ADDR-BY-NAME").arg("gate"));
        self.servers.iter().position(|node| node.port == port).expect("a server of the group")
    }
}

const BUS: u16 = 10_000;

/// A port that is free, like the port 10,000 above it. It is below the ports that systems assign by
/// themselves, and never the same twice, because it is bound only later.
fn free_ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = (std::process::id() % 10_000) as u16;
    for _ in 0..10_000 {
        let port = 11_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if free(port) && free(port + BUS) {
            return port;
        }
    }
    panic!("no free port");
}

/// Waits until the condition holds.
///
/// # Panics
/// When it does not hold in time.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "{what} did not come about within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(process: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &process.id().to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill {signal}");
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays behind does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}
