//! Slices of shared buckets, spent in this process at a pace and renewed in the background.

mod agent;

use core::hash::BuildHasher as _;
use std::collections::HashMap;
use std::sync::Arc;

use tidegate_core::{Clock as _, Decision, Slice, SpendResult};
use tidegate_protocol::lock::{Mutex, RwLock};
use tidegate_protocol::{Contract, Host as _, PerProcess};
use tokio::sync::Notify;

use crate::Keys;
use crate::clock::FastClock;
use crate::host::NativeHost;
use crate::redis::GuardedStore;

/// The leases of one limiter.
pub(crate) struct Leases {
    lender: Arc<Lender>,
    /// What this process holds: a forked child has tokens of its own or none.
    node: PerProcess<Arc<Node>>,
}

/// The store that lends, and what is agreed with it.
struct Lender {
    store: GuardedStore,
    contract: Contract,
}

/// One process as the bucket knows it.
struct Node {
    id: u64,
    clock: FastClock,
    slices: RwLock<Slices>,
    /// What is to be done at once.
    urgent: Mutex<Vec<Arc<Leased>>>,
    wake: Arc<Notify>,
}

#[derive(Default)]
struct Slices {
    by_key: HashMap<Box<[u8]>, Arc<Leased>, foldhash::fast::RandomState>,
    /// Whether the agent is at work.
    is_tended: bool,
}

/// A key's slice, or the wish for one.
struct Leased {
    key: Box<[u8]>,
    slice: Mutex<Slice>,
}

impl Leases {
    pub(crate) fn new(store: GuardedStore, contract: Contract) -> Self {
        let lender = Arc::new(Lender { store, contract });
        Self { lender, node: PerProcess::new(NativeHost::process) }
    }

    /// The decision, if it is the slice's to take: without a slice, and for a cost that it
    /// never spends at once, the bucket must be asked.
    pub(crate) fn spend(&self, key: &[u8], cost: u64) -> Option<Decision> {
        if !self.contract().covers(cost) {
            return None;
        }
        let node = self.node();
        let slices = node.slices.read();
        let Some(leased) = slices.by_key.get(key) else {
            drop(slices);
            self.watch(node, key, cost);
            return None;
        };
        let now = node.clock.now();
        let mut slice = leased.slice.lock();
        let spent = slice.spend(now, cost);
        let is_urgent = !matches!(spent, SpendResult::Allowed { .. }) && slice.is_urgent(now);
        drop(slice);
        if is_urgent {
            node.hurry(leased);
        }
        self.contract().decision(spent)
    }

    /// Notes what the bucket has answered to a check that was not the slice's.
    pub(crate) fn answered_directly(&self, key: &[u8], cost: u64, allowed: bool) {
        let node = self.node();
        let slices = node.slices.read();
        if let Some(leased) = slices.by_key.get(key) {
            leased.slice.lock().answered_directly(node.clock.now(), cost, allowed);
        }
    }

    /// Gives all slices back, and waits until they are or the store's timeout is over.
    pub(crate) fn give_back(&self) {
        if let Some(node) = self.node.get() {
            agent::give_back(node, &self.lender);
        }
    }

    /// A slice for a key that was not known, which has just been asked for.
    #[cold]
    fn watch(&self, node: &Arc<Node>, key: &[u8], cost: u64) {
        let now = node.clock.now();
        let mut slices = node.slices.write();
        if slices.by_key.len() >= Contract::MAX_KEYS && !slices.by_key.contains_key(key) {
            return;
        }
        let leased = slices.by_key.entry(key.into()).or_insert_with(|| {
            let slice = Mutex::new(Slice::new(*self.contract().terms(), now));
            Arc::new(Leased { key: key.into(), slice })
        });
        leased.slice.lock().spend(now, cost);
        if !core::mem::replace(&mut slices.is_tended, true)
            && agent::start(node, &self.lender).is_err()
        {
            // Without the I/O thread the bucket cannot be asked either, which says so.
            slices.is_tended = false;
        }
    }

    fn contract(&self) -> &Contract {
        &self.lender.contract
    }

    fn node(&self) -> &Arc<Node> {
        self.node.get_or_init(|| Arc::new(Node::new()))
    }
}

impl Node {
    fn new() -> Self {
        let clock = FastClock::new();
        let random = std::collections::hash_map::RandomState::new();
        Self {
            // A child inherits what its random numbers are made of.
            id: random.hash_one((std::process::id(), clock.now())),
            clock,
            slices: RwLock::default(),
            urgent: Mutex::default(),
            wake: Arc::default(),
        }
    }

    fn hurry(&self, leased: &Arc<Leased>) {
        let mut urgent = self.urgent.lock();
        if urgent.len() < Contract::MAX_KEYS {
            urgent.push(Arc::clone(leased));
        }
        drop(urgent);
        self.wake.notify_one();
    }
}

/// The one key of a check that can be leased: buckets under one key per limit are not.
pub(crate) fn one_key<'k>(keys: Keys<'k>) -> Option<&'k [u8]> {
    match keys {
        Keys::One(key) => Some(key),
        Keys::Each(&[key]) => Some(key),
        Keys::Each(_) => None,
    }
}
