//! One configured filter: several may live in one VM, one per root context.

use tidegate_core::{Attempt, Breaker, BreakerPolicy};

use crate::buckets::{Seed, fingerprint};
use crate::config::{Config, Service};
use crate::host::{Host, Status};
use crate::text::Text;

/// The filter's counters. Every request adds to exactly one of the first seven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Allowed by every limit that there is.
    Ok,
    /// Refused by a bucket of this worker.
    LimitedLocal,
    /// Refused by the service.
    LimitedService,
    /// Had no key.
    MissingKey,
    /// Had a key that cannot be one.
    BadKey,
    /// The service gave no usable answer.
    ServiceError,
    /// The service was not asked, because it had failed too often.
    BreakerOpen,
    /// A call to the host failed.
    HostcallError,
    /// A key's debt was forgotten for want of room.
    Evicted,
}

impl Counter {
    /// All of them, with their names after the configuration's prefix.
    pub const ALL: [(Self, &str); 9] = [
        (Self::Ok, "ok"),
        (Self::LimitedLocal, "limited_local"),
        (Self::LimitedService, "limited_service"),
        (Self::MissingKey, "missing_key"),
        (Self::BadKey, "bad_key"),
        (Self::ServiceError, "service_error"),
        (Self::BreakerOpen, "breaker_open"),
        (Self::HostcallError, "hostcall_error"),
        (Self::Evicted, "evicted"),
    ];
}

const MILLI: u64 = 1_000_000;
/// Consecutive failures after which the service is left alone. Few, because each may have made
/// requests wait for the whole timeout; more than one, because one may be an accident.
const FAILURES_TO_OPEN: u32 = 3;
const FIRST_WAIT: u64 = 100 * MILLI;
/// A service that stays down is asked at most once in 2.5 s by each worker.
const LONGEST_WAIT: u64 = 5_000 * MILLI;

pub(crate) struct Plugin {
    pub(crate) root: u32,
    pub(crate) config: Config,
    pub(crate) seed: Seed,
    pub(crate) breaker: Breaker,
    counters: [u32; Counter::ALL.len()],
}

impl Plugin {
    /// Defines all counters, so that they are there, at zero, from the start.
    pub(crate) fn new(
        host: &impl Host,
        root: u32,
        config: Config,
        seed: Seed,
    ) -> Result<Self, Status> {
        let mut counters = [0; Counter::ALL.len()];
        for (id, (_, name)) in counters.iter_mut().zip(Counter::ALL) {
            let full_name = Text::<96>::of(format_args!("{}.{name}", config.stat_prefix));
            *id = host.define_counter(full_name.as_str())?;
        }
        let seed = own_seed(&config, seed);
        let breaker = breaker_for(config.service.as_ref());
        Ok(Self { root, config, seed, breaker, counters })
    }

    /// Tells the breaker that a call has failed at `now`.
    pub(crate) fn call_failed(&mut self, host: &impl Host, attempt: Attempt, now: u64) {
        // Without randomness the breaker waits for the whole bound.
        let random = host.random().map_or(u64::MAX, |(bits, _)| bits);
        self.breaker.failed(attempt, now, random);
    }

    pub(crate) fn count(&self, host: &impl Host, counter: Counter) {
        let add = |counter: Counter| match self.counters.get(counter as usize) {
            Some(&id) => host.increment(id),
            None => Ok(()),
        };
        if add(counter).is_err() {
            // Nothing is left to tell it with if this fails too.
            let _ = add(Counter::HostcallError);
        }
    }

    /// Counts a failed host call.
    pub(crate) fn checked(&self, host: &impl Host, result: Result<(), Status>) {
        if result.is_err() {
            self.count(host, Counter::HostcallError);
        }
    }
}

fn breaker_for(service: Option<&Service>) -> Breaker {
    let timeout_ms = service.map_or(0, |service| service.timeout_ms);
    Breaker::new(BreakerPolicy {
        failures: FAILURES_TO_OPEN,
        first_wait: FIRST_WAIT,
        longest_wait: LONGEST_WAIT,
        // The host ends every call within its timeout; the rest is for one that does not.
        patience: u64::from(timeout_ms) * MILLI + LONGEST_WAIT,
    })
}

/// All filters of a VM keep their buckets in one table. The prefix, the key and the
/// limits go into a filter's fingerprints, so that filters do not mix, and so that
/// a change of the configuration which leaves these alone finds its buckets again,
/// while one that changes a limit never reads a cell by another limit's measure.
fn own_seed(config: &Config, seed: Seed) -> Seed {
    let mut identity = Text::<704>::of(format_args!("{}\0{}", config.stat_prefix, config.key));
    for limit in config.local.iter().flat_map(|local| local.limits.as_slice()) {
        identity.append(format_args!("\0{limit}"));
    }
    (fingerprint(seed, identity.as_bytes()), seed.1)
}
