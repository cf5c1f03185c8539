//! The streams of this process that share a bucket: one tells the others when its share has changed.

use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

type Name = (String, String);

/// All shares of all buckets.
#[derive(Debug, Default)]
pub(crate) struct Hub(Mutex<HashMap<Name, Vec<Peer>>>);

/// What others see of a share.
#[derive(Clone, Debug)]
struct Peer {
    was_asked: Arc<AtomicBool>,
    is_short: Arc<AtomicBool>,
    wake: Arc<Notify>,
}

/// A share's place among those of its bucket, which it leaves when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    hub: Arc<Hub>,
    name: Name,
    /// Whether another share asks this one to be renewed.
    pub(crate) was_asked: Arc<AtomicBool>,
    /// Whether this share is less than its proxy wants.
    pub(crate) is_short: Arc<AtomicBool>,
}

impl Hub {
    /// Adds a share of the bucket, whose stream `wake` wakes.
    pub(crate) fn join(self: &Arc<Self>, prefix: &str, key: &str, wake: &Arc<Notify>) -> Place {
        let name = (prefix.to_owned(), key.to_owned());
        let (was_asked, is_short) = (Arc::default(), Arc::default());
        let peer = Peer {
            was_asked: Arc::clone(&was_asked),
            is_short: Arc::clone(&is_short),
            wake: Arc::clone(wake),
        };
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers.entry(name.clone()).or_default().push(peer);
        Place { hub: Arc::clone(self), name, was_asked, is_short }
    }
}

impl Place {
    /// Asks other shares of the bucket to be renewed: those that `which` picks by whether they are short.
    pub(crate) fn wake_others(&self, which: impl Fn(&AtomicBool) -> bool) {
        let peers = self.hub.0.lock().unwrap_or_else(PoisonError::into_inner);
        for peer in peers.get(&self.name).into_iter().flatten() {
            if !Arc::ptr_eq(&peer.was_asked, &self.was_asked) && which(&peer.is_short) {
                peer.was_asked.store(true, Ordering::Release);
                peer.wake.notify_one();
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut peers = self.hub.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_bucket) = peers.get_mut(&self.name) {
            of_bucket.retain(|peer| !Arc::ptr_eq(&peer.was_asked, &self.was_asked));
            if of_bucket.is_empty() {
                peers.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_one_bucket_wake_each_other_and_leave_nothing_behind() {
        let (hub, wake) = (Arc::<Hub>::default(), Arc::<Notify>::default());
        let [a, b, other] = ["k", "k", "other"].map(|key| hub.join("p", key, &wake));
        b.is_short.store(true, Ordering::Release);
        a.wake_others(|short| short.load(Ordering::Acquire));
        let asked = |place: &Place| place.was_asked.swap(false, Ordering::AcqRel);
        assert_eq!([&a, &b, &other].map(asked), [false, true, false]);
        b.wake_others(|short| short.load(Ordering::Acquire));
        assert_eq!([&a, &b, &other].map(asked), [false; 3]);
        b.wake_others(|_| true);
        assert_eq!([&a, &b, &other].map(asked), [true, false, false]);
        drop((a, b, other));
        assert!(hub.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
    }
}
