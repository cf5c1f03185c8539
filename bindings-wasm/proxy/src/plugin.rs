//! A plugin: one configured filter. A VM may hold several, one for each root context.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;
use tidegate_core::{Attempt, Breaker, BreakerPolicy, QuotaTerms};

use crate::buckets::Seed;
use crate::config::{Config, Service};
use crate::descriptors::MAX_DESCRIPTORS;
use crate::host::{Host, Status};
use crate::limits::Limits;
use crate::text::Text;

/// The plugin's counters. Every request adds to exactly one of the first seven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Requests that every configured limit allowed.
    Ok,
    /// Requests that a local bucket refused.
    LimitedLocal,
    /// Requests that the service refused.
    LimitedService,
    /// Requests to which no descriptor applies.
    MissingKey,
    /// Requests whose key or cost is repeated, malformed or larger than the filter can read.
    BadKey,
    /// Calls without a usable answer, and requests for which no call could be made.
    ServiceError,
    /// Requests for which the service was not asked, because it keeps failing.
    BreakerOpen,
    /// Calls to the host that failed.
    HostcallError,
    /// Debts that were forgotten because there was no free slot.
    Evicted,
    /// Calls that took tokens ahead.
    LeaseCalls,
    /// Refusals that were not enforced.
    Shadow,
    /// Requests that were settled by what their response told.
    Settled,
    /// Requests that keep their estimate, because their response told nothing, or there was no memory for them.
    Unsettled,
    /// Settlements that did not reach the service.
    SettleError,
}

impl Counter {
    /// All counters, with their names after the configured prefix.
    pub const ALL: [(Self, &str); 14] = [
        (Self::Ok, "ok"),
        (Self::LimitedLocal, "limited_local"),
        (Self::LimitedService, "limited_service"),
        (Self::MissingKey, "missing_key"),
        (Self::BadKey, "bad_key"),
        (Self::ServiceError, "service_error"),
        (Self::BreakerOpen, "breaker_open"),
        (Self::HostcallError, "hostcall_error"),
        (Self::Evicted, "evicted"),
        (Self::LeaseCalls, "lease_calls"),
        (Self::Shadow, "shadow"),
        (Self::Settled, "settled"),
        (Self::Unsettled, "unsettled"),
        (Self::SettleError, "settle_error"),
    ];
}

const MILLI: u64 = 1_000_000;
/// Consecutive failures after which the service is left alone. Few, because each may have made
/// requests wait for the whole timeout; more than one, because one may be an accident.
const FAILURES_TO_OPEN: u32 = 3;
const FIRST_WAIT: u64 = 100 * MILLI;
/// A service that stays down is asked at most once in 2.5 s by each worker.
const LONGEST_WAIT: u64 = 5_000 * MILLI;

/// Tokens are taken ahead for the demand of 200 ms: a call for every 200 requests at 1000/s.
pub(crate) const HORIZON: u64 = 200 * MILLI;

/// One configured filter.
pub(crate) struct Plugin {
    pub(crate) root: u32,
    pub(crate) config: Config,
    /// The seeds of the fingerprints, by the places of the descriptors.
    pub(crate) seeds: [Seed; MAX_DESCRIPTORS],
    pub(crate) breaker: Breaker,
    counters: [u32; Counter::ALL.len()],
}

impl Plugin {
    /// A plugin with its counters defined, so that each is visible, at zero, from the start.
    pub(crate) fn new(
        host: &impl Host,
        root: u32,
        config: Config,
        seed: Seed,
    ) -> Result<Self, Status> {
        let prefix = config.descriptors.names.text(config.stat_prefix);
        let mut counters = [0; Counter::ALL.len()];
        for (id, (_, name)) in counters.iter_mut().zip(Counter::ALL) {
            let full_name = Text::<96>::format(format_args!("{prefix}.{name}"));
            *id = host.define_counter(full_name.as_str())?;
        }
        let seeds = seeds(&config, seed);
        let breaker = breaker_for(config.service.as_ref());
        Ok(Self { root, config, seeds, breaker, counters })
    }

    /// The bounds of the tokens that are taken ahead.
    pub(crate) fn quota_terms(&self) -> QuotaTerms {
        let (ttl, timeout, clients) = self.config.service.as_ref().map_or((1, 1, 1), |service| {
            (service.lease_ttl_ms, service.timeout_ms, service.workers)
        });
        QuotaTerms {
            ttl: u64::from(ttl) * MILLI,
            horizon: HORIZON,
            clients,
            // The host ends every call within its timeout; the margin is for a host that does not.
            patience: u64::from(timeout) * MILLI + LONGEST_WAIT,
        }
    }

    /// The name under which the host keeps what belongs to a stream: one for each filter, of any VM.
    pub(crate) fn kept_name(&self) -> Text<64> {
        let seed = self.seeds.first().map_or(0, |seed| seed.0);
        Text::format(format_args!("tidegate.{seed}.{}", self.root))
    }

    /// Whether a request is limited at all.
    pub(crate) fn is_enabled(&self, host: &impl Host) -> bool {
        is_drawn(host, self.config.enabled)
    }

    /// Whether a refusal is enforced; one that is not is counted.
    pub(crate) fn enforces(&self, host: &impl Host) -> bool {
        let enforces = is_drawn(host, self.config.enforced);
        if !enforces {
            self.count(host, Counter::Shadow);
        }
        enforces
    }

    /// Tells the breaker that a call has failed at `now`.
    pub(crate) fn call_failed(&mut self, host: &impl Host, attempt: Attempt, now: u64) {
        // Without randomness the breaker waits for the whole bound.
        let random = host.random().map_or(u64::MAX, |(bits, _)| bits);
        self.breaker.failed(attempt, now, random);
    }

    /// Adds one to a counter.
    pub(crate) fn count(&self, host: &impl Host, counter: Counter) {
        let add = |counter: Counter| match self.counters.get(counter as usize) {
            Some(&id) => host.increment(id),
            None => Ok(()),
        };
        if add(counter).is_err() {
            // If this fails too, there is no way left to report it.
            let _ = add(Counter::HostcallError);
        }
    }

    /// Counts a host call that has failed.
    pub(crate) fn count_failure(&self, host: &impl Host, result: Result<(), Status>) {
        if result.is_err() {
            self.count(host, Counter::HostcallError);
        }
    }
}

/// Draws with a chance of so many percent. Without randomness a request is limited.
fn is_drawn(host: &impl Host, percent: u32) -> bool {
    percent >= 100 || host.random().map_or(0, |(bits, _)| bits % 100) < u64::from(percent)
}

fn breaker_for(service: Option<&Service>) -> Breaker {
    let timeout_ms = service.map_or(0, |service| service.timeout_ms);
    Breaker::new(BreakerPolicy {
        failures: FAILURES_TO_OPEN,
        first_wait: FIRST_WAIT,
        longest_wait: LONGEST_WAIT,
        // The host ends every call within its timeout; the margin is for a host that does not.
        patience: u64::from(timeout_ms) * MILLI + LONGEST_WAIT,
    })
}

/// The seeds of the fingerprints of a plugin's descriptors.
///
/// All plugins of a VM keep their buckets in one table, so the prefix, the entries and the limits are
/// part of a seed: descriptors with different ones do not share buckets, a new configuration that keeps
/// all three keeps its buckets, and a new limit never reads a cell that was written under another
/// limit.
fn seeds(config: &Config, seed: Seed) -> [Seed; MAX_DESCRIPTORS] {
    let mut seeds = [seed; MAX_DESCRIPTORS];
    let descriptors = &config.descriptors;
    for (own, descriptor) in seeds.iter_mut().zip(descriptors.as_slice()) {
        let mut identity = Identity(SipHasher13::new_with_keys(seed.0, seed.1));
        identity.feed(descriptors.names.get(config.stat_prefix));
        for entry in descriptors.entries(descriptor) {
            descriptors.source(entry).identify(&descriptors.names, &mut |part| identity.feed(part));
        }
        for limit in descriptor.limits.iter().flat_map(Limits::as_slice) {
            identity.feed(Text::<96>::format(format_args!("{limit}")).as_bytes());
        }
        if let Some(service) = config.service.as_ref().filter(|_| descriptor.is_leased) {
            identity.feed(descriptors.names.get(service.cluster));
            identity.feed(descriptors.names.get(service.domain));
            for entry in descriptors.entries(descriptor) {
                identity.feed(descriptors.names.get(entry.key));
            }
        }
        own.0 = identity.0.finish();
    }
    seeds
}

/// The hash of what makes a bucket different from others.
struct Identity(SipHasher13);

impl Identity {
    #[inline(never)]
    fn feed(&mut self, part: &[u8]) {
        self.0.write(part);
        // No part continues the one before.
        self.0.write(&[0xFF]);
    }
}
