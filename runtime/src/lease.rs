//! Drives the leases of a limiter: a task on the I/O thread renews them, so that a check never
//! waits for that.

use std::sync::{Arc, Weak};

use tidegate_core::{Clock as _, Cost, Decision, TieredDecision};
use tidegate_protocol::{Host as _, LeaseKeeper, LeasePlan, PerProcess};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::clock::FastClock;
use crate::host::{GuardedStore, NativeHost};
use crate::io;
use crate::oneshot::oneshot;
use crate::{Error, Keys};

/// The leases of one limiter.
pub(crate) struct Leases {
    store: GuardedStore,
    plan: LeasePlan,
    /// Whether the store is a client of the program's own, which may do its I/O on the thread that
    /// asks for it.
    is_client: bool,
    /// A forked child has tokens of its own or none.
    driven: PerProcess<Driven>,
}

/// A keeper and the wake-up of the task that drives it, which ends with it.
struct Driven {
    keeper: Arc<LeaseKeeper<NativeHost>>,
    /// Wakes the task when it is dropped, after the keeper, so that the task finds the keeper gone.
    _end: WakeOnDrop,
}

struct WakeOnDrop(Arc<Notify>);

impl Leases {
    pub(crate) const fn new(store: GuardedStore, plan: LeasePlan, is_client: bool) -> Self {
        Self { store, plan, is_client, driven: PerProcess::new(NativeHost::process) }
    }

    /// The decision of a check, if a slice or a budget decides it; otherwise the bucket must be asked.
    pub(crate) fn spend(&self, key: &[u8], cost: &Cost) -> Option<Decision> {
        // Without the I/O thread the bucket cannot be asked either, which says so.
        self.keeper().ok()?.spend(key, cost)
    }

    /// The decision of an `acquire`, if the slice or the budget has its tokens now; otherwise the
    /// caller waits.
    pub(crate) fn acquire(&self, key: &[u8], cost: &Cost) -> Option<Decision> {
        self.keeper().ok()?.acquire(key, cost)
    }

    /// The answer of [`spend`](Self::spend), with nothing spent.
    pub(crate) fn peek(&self, key: &[u8], cost: &Cost) -> Option<Decision> {
        self.keeper().ok()?.peek(key, cost)
    }

    /// Notes the bucket's own answer to a check that no slice and no budget decided; `None` if it gave
    /// none.
    pub(crate) fn answered_directly(
        &self,
        key: &[u8],
        cost: &Cost,
        answer: Option<&TieredDecision>,
    ) {
        if let Ok(keeper) = self.keeper() {
            keeper.answered_directly(key, cost, answer);
        }
    }

    /// Drops the budget of a key whose bucket this process holds or resets.
    pub(crate) fn discard_budget(&self, key: &[u8]) {
        if let Some(Driven { keeper, .. }) = self.driven.get() {
            keeper.discard_budget(key);
        }
    }

    /// Gives all slices and budgets back, and waits until the store has answered or its timeout is over.
    pub(crate) fn give_back(&self) {
        let Some(Driven { keeper, .. }) = self.driven.get() else { return };
        let (sender, receiver) = oneshot();
        keeper.give_back(move || sender.send(Ok(())));
        // A thread that does the I/O itself would wait for its own work.
        if !self.is_client && tokio::runtime::Handle::try_current().is_err() {
            _ = receiver.wait();
        }
    }

    fn keeper(&self) -> Result<&Arc<LeaseKeeper<NativeHost>>, Error> {
        let driven = self.driven.get_or_try_init(|| {
            let wake = Arc::<Notify>::default();
            let notify = Arc::clone(&wake);
            let clock = || FastClock::new().now();
            let (store, plan) = (self.store.clone(), self.plan.clone());
            let keeper = LeaseKeeper::new(store, plan, clock, move || notify.notify_one());
            let task = drive(Arc::downgrade(&keeper), Arc::clone(&wake), self.is_client);
            io::handle()?.spawn(task);
            Ok(Driven { keeper, _end: WakeOnDrop(wake) })
        })?;
        Ok(&driven.keeper)
    }
}

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Renews slices when they are due, for as long as the limiter lives.
async fn drive(keeper: Weak<LeaseKeeper<NativeHost>>, wake: Arc<Notify>, is_client: bool) {
    loop {
        let Some(keeper) = keeper.upgrade() else { return };
        let rest = match is_client {
            // The client may block the thread that calls it.
            true => spawn_blocking(move || keeper.renew()).await.unwrap_or_default(),
            false => keeper.renew(),
        };
        match rest {
            Some(rest) => _ = timeout(rest, wake.notified()).await,
            None => wake.notified().await,
        }
    }
}

/// The key of a check that can be leased: buckets under one key per limit are not.
pub(crate) const fn one_key<'k>(keys: Keys<'k>) -> Option<&'k [u8]> {
    match keys {
        Keys::One(key) | Keys::Each(&[key]) => Some(key),
        Keys::Each(_) => None,
    }
}
