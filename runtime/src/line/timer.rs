//! The thread that wakes waiting lines when tokens come, and renews permits.
//!
//! It is a thread of its own, because slots may be less than a millisecond apart, and the timers of
//! the I/O thread count in milliseconds.

use core::cmp::Ordering;
use core::sync::atomic::{AtomicBool, Ordering::AcqRel};
use core::time::Duration;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::thread;

use tidegate_protocol::{Host as _, PerProcess};

use crate::host::NativeHost;
use crate::lock::{Condvar, Mutex};
use crate::{Error, StoreFailure};

/// A forked child, which inherits no thread, starts its own.
static TIMER: PerProcess<Arc<Timer>> = PerProcess::new(NativeHost::process);

#[derive(Default)]
struct Timer {
    alarms: Mutex<BinaryHeap<Alarm>>,
    changed: Condvar,
    has_started: AtomicBool,
}

/// When to call whom.
struct Alarm {
    at: u64,
    wake: Box<dyn FnOnce() + Send>,
}

/// Calls `wake` at the time `at`. It must not wait.
///
/// # Errors
/// [`Error::Store`] if the thread cannot be started.
pub(crate) fn wake_at(at: u64, wake: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let timer = TIMER.get_or_default();
    if !timer.has_started.swap(true, AcqRel) {
        let own = Arc::clone(timer);
        let started = thread::Builder::new().name("tidegate-timer".into()).spawn(move || own.run());
        if let Err(error) = started {
            timer.has_started.store(false, core::sync::atomic::Ordering::Release);
            let message = format!("the timer's thread cannot start: {error}");
            return Err(Error::Store(StoreFailure::new(message, error)));
        }
    }
    let mut alarms = timer.alarms.lock();
    let is_next = alarms.peek().is_none_or(|next| at < next.at);
    alarms.push(Alarm { at, wake: Box::new(wake) });
    drop(alarms);
    if is_next {
        timer.changed.notify_one();
    }
    Ok(())
}

impl Timer {
    fn run(&self) -> ! {
        let mut alarms = self.alarms.lock();
        loop {
            let now = NativeHost::now();
            match alarms.peek().map(|next| next.at) {
                None => alarms = self.changed.wait(alarms),
                Some(at) if at > now => {
                    alarms = self.changed.wait_for(alarms, Duration::from_nanos(at - now));
                }
                Some(_) => {
                    let alarm = alarms.pop();
                    drop(alarms);
                    if let Some(Alarm { wake, .. }) = alarm {
                        wake();
                    }
                    alarms = self.alarms.lock();
                }
            }
        }
    }
}

impl Ord for Alarm {
    /// The nearest is the greatest, which the heap has on top.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Alarm {}
