//! A cluster: commands go to the server that serves their slot.

use core::time::Duration;
use std::sync::Arc;

use ::redis::{Cmd, ErrorKind, RedisError, ServerErrorKind};
use arc_swap::ArcSwap;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tidegate_protocol::StoreBreaker;
use tidegate_protocol::lock::Mutex;
use tokio::time::{Instant, sleep_until};

use super::address::{Access, Place};
use super::failure::{Answer, Failure};
use super::pending::Pending;
use super::server::{Server, timed_out};
use super::single_flight::{Joined, SingleFlight, between};
use super::topology::{Node, Topology, read_place, read_slots};

/// How long a node may take to tell the topology.
const TOPOLOGY_TIMEOUT: Duration = Duration::from_secs(1);

/// How many nodes are asked for the topology at once.
const ASKED_AT_ONCE: usize = 3;

/// The pause before a command that no node would serve at the moment is sent again.
const PAUSE: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(20)];

/// A command that is redirected more often than this goes in circles.
const MOST_HOPS: u32 = 16;

#[derive(Clone)]
pub(super) struct Cluster(Arc<Inner>);

struct Inner {
    seeds: Vec<Node>,
    access: Access,
    timeout: Duration,
    topology: ArcSwap<Topology>,
    changing: Mutex<()>,
    refreshes: SingleFlight<Answer<()>>,
}

/// What to do after an error that means that the command was surely not carried out.
enum Detour {
    /// The slot is served by another node.
    Moved(Place),
    /// The slot is being moved to another node, and the key may be there already.
    Ask(Place),
    /// No node serves the slot at the moment.
    Later,
}

impl Cluster {
    pub(super) fn new(seeds: &[Place], access: Access, timeout: Duration) -> Self {
        let seed = |place: &Place| {
            let server = Server::new(access.login(place), timeout);
            Node::new(place, server, timeout)
        };
        Self(Arc::new(Inner {
            seeds: seeds.iter().map(seed).collect(),
            access,
            timeout,
            topology: ArcSwap::from_pointee(Topology::empty(timeout)),
            changing: Mutex::new(()),
            refreshes: SingleFlight::new(),
        }))
    }

    /// Sends commands, all of the same slot, to the node that serves it, and follows the slot when it
    /// moves. A command that may have been carried out is not sent again.
    pub(super) async fn send(
        &self,
        commands: Vec<Cmd>,
        slot: u16,
        deadline: Instant,
    ) -> Vec<Answer> {
        let mut pending = Pending::new(commands);
        let mut importing = None;
        for _ in 0..MOST_HOPS {
            let asking = importing.is_some();
            let node = match importing.take() {
                Some(node) => Ok(node),
                None => self.owner(slot, deadline).await,
            };
            let node = match node {
                Ok(node) => node,
                Err(error) => {
                    pending.fail(&error);
                    break;
                }
            };
            if node.server.is_silent() {
                // The node is asked all the same: a server that only hangs answers when it can.
                self.refresh();
            }
            let sent = node.server.send(pending.commands(), asking, deadline).await;
            let refresh = sent.lost.then(|| self.refresh());
            if sent.unsent {
                let again = self.has_moved(slot, &node, refresh, deadline).await;
                pending.settle(sent.answers, |_| again);
            } else {
                pending.settle(sent.answers, |error| detour(error, &node.place).is_some());
                importing = self.follow(&pending, &node.place, slot, deadline).await;
            }
            if pending.is_empty() || Instant::now() >= deadline {
                break;
            }
        }
        pending.into_answers()
    }

    /// Follows the errors of the pending commands. If a node imports the slot, all of them go there;
    /// it turns away those that it must not carry out.
    async fn follow(
        &self,
        pending: &Pending,
        from: &Place,
        slot: u16,
        deadline: Instant,
    ) -> Option<Node> {
        let mut importing = None;
        let mut later = false;
        for detour in pending.errors().filter_map(|error| detour(error, from)) {
            match detour {
                Detour::Moved(place) => self.moved(slot, &place),
                Detour::Ask(place) => importing = Some(self.node(&place)),
                Detour::Later => later = true,
            }
        }
        if later {
            self.refresh();
            sleep_until(deadline.min(Instant::now() + between(PAUSE))).await;
        }
        importing
    }

    /// Waits for the topology, and says whether the slot now belongs to another node.
    async fn has_moved(
        &self,
        slot: u16,
        from: &Node,
        refresh: Option<Joined<Answer<()>>>,
        deadline: Instant,
    ) -> bool {
        let Some(refresh) = refresh else { return false };
        let refreshed = refresh.by(deadline).await.is_some_and(|refreshed| refreshed.is_ok());
        let topology = self.0.topology.load();
        refreshed && topology.owner(slot).is_some_and(|owner| owner.place != from.place)
    }

    /// The breaker of the node that serves the slot.
    pub(super) fn breaker(&self, slot: u16) -> Arc<StoreBreaker> {
        Arc::clone(self.0.topology.load().breaker(slot))
    }

    pub(super) fn breakers(&self) -> Vec<Arc<StoreBreaker>> {
        self.0.topology.load().breakers().cloned().collect()
    }

    /// Lets go of the connections to all nodes.
    pub(super) fn disconnect(&self) {
        let topology = self.0.topology.load();
        self.0.seeds.iter().chain(topology.nodes()).for_each(|node| node.server.disconnect());
    }

    async fn owner(&self, slot: u16, deadline: Instant) -> Answer<Node> {
        if let Some(node) = self.0.topology.load().owner(slot) {
            return Ok(node.clone());
        }
        self.refresh().by(deadline).await.unwrap_or_else(|| Err(timed_out().into()))?;
        let topology = self.0.topology.load();
        let owner = topology.owner(slot).cloned();
        let nobody = (ErrorKind::Io, "no node of the cluster serves the key's slot");
        owner.ok_or_else(|| RedisError::from(nobody).into())
    }

    /// The node at a place, known or new. Failures from before it got slots no longer count.
    fn node(&self, place: &Place) -> Node {
        if let Some(owner) = self.0.topology.load().at(place) {
            return owner.clone();
        }
        let seed = self.0.seeds.iter().find(|seed| seed.place == *place);
        let server = match seed {
            Some(seed) => seed.server.clone(),
            None => Server::new(self.0.access.login(place), self.0.timeout),
        };
        Node::new(place, server, self.0.timeout)
    }

    /// Records where the slot is, as its former owner says. Other slots may have moved too.
    fn moved(&self, slot: u16, place: &Place) {
        {
            let _changing = self.0.changing.lock();
            let mut topology = Topology::clone(&self.0.topology.load());
            topology.assign(slot..=slot, self.node(place));
            self.0.topology.store(Arc::new(topology));
        }
        self.refresh();
    }

    fn refresh(&self) -> Joined<Answer<()>> {
        let cluster = self.clone();
        self.0.refreshes.join(move || async move { cluster.ask_for_topology().await })
    }

    /// Asks a few nodes for the topology at once, connected ones first, and takes the first answer.
    async fn ask_for_topology(&self) -> Answer<()> {
        let mut nodes = self.0.topology.load().nodes().to_vec();
        let known = nodes.len();
        nodes.extend_from_slice(&self.0.seeds);
        // The nodes are chosen at random, because a node that is cut off would give its answer each time.
        let chance =
            |most| between([Duration::ZERO, Duration::from_secs(1)]).as_nanos() as usize % most;
        if known > 0 {
            nodes[..known].rotate_left(chance(known));
        }
        nodes.sort_by_key(|node| !node.server.is_connected());
        let mut why =
            Failure::from(RedisError::from((ErrorKind::Io, "no node of the cluster answers")));
        for some in nodes.chunks(ASKED_AT_ONCE) {
            let deadline = Instant::now() + TOPOLOGY_TIMEOUT;
            let mut asked: FuturesUnordered<_> =
                some.iter().map(|node| self.ask_node(node, deadline)).collect();
            while let Some(told) = asked.next().await {
                match told {
                    Ok(()) => return Ok(()),
                    Err(error) => why = error,
                }
            }
        }
        Err(why)
    }

    async fn ask_node(&self, node: &Node, deadline: Instant) -> Answer<()> {
        let mut question = ::redis::cmd("CLUSTER");
        question.arg("SLOTS");
        let answer = node.server.ask_once(&question, deadline).await?;
        let ranges = read_slots(&answer, &node.place).filter(|ranges| !ranges.is_empty());
        let ranges = ranges.ok_or_else(|| {
            RedisError::from((ErrorKind::Io, "a node of the cluster knows of no slots"))
        })?;
        let _changing = self.0.changing.lock();
        let mut topology = Topology::empty(self.0.timeout);
        for range in ranges {
            topology.assign(range.slots(), self.node(range.master()));
        }
        self.0.topology.store(Arc::new(topology));
        Ok(())
    }
}

fn detour(error: &RedisError, from: &Place) -> Option<Detour> {
    let place = || read_place(error.redirect_node()?.0, from);
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::Moved) => place().map(Detour::Moved),
        ErrorKind::Server(ServerErrorKind::Ask) => place().map(Detour::Ask),
        ErrorKind::Server(
            ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::BusyLoading
            | ServerErrorKind::ReadOnly,
        ) => Some(Detour::Later),
        _ => None,
    }
}
