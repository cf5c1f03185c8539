//! The filter itself: what becomes of a request. All of a VM's state is here.

use core::fmt::Display;

use crate::buckets::{self, Seed, Slot, fingerprint};
use crate::config::{Config, Policy};
use crate::filters::Filters;
use crate::host::{Call, Host, Status};
use crate::in_flight::{EndedCall, InFlight};
use crate::key::NoKey;
use crate::plugin::{Counter, Plugin};
use crate::proto_struct::{self, NotJson};
use crate::reply;
use crate::rls::{self, Answer};
use crate::text::Text;

/// What the host does next with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Passes it on.
    Continue,
    /// Keeps it: the filter has answered it, or will resume it.
    Pause,
}

/// Everything that one VM remembers, with room for `SLOTS` keys. Nothing in it grows.
pub struct Filter<const SLOTS: usize> {
    filters: Filters,
    slots: [Slot; SLOTS],
    in_flight: InFlight,
    /// The newest stream, and its filter's root context.
    newest: (u32, u32),
    seed: Seed,
    /// Added to the monotonic clock to count from the Unix epoch, so that windows
    /// begin with the minute or the hour. Taken once: a wall clock that is set later
    /// moves no bucket.
    since_epoch: u64,
}

impl<const SLOTS: usize> Filter<SLOTS> {
    /// A VM in which nothing is configured yet.
    #[expect(clippy::new_without_default, reason = "too large to be passed by value")]
    pub const fn new() -> Self {
        Self {
            filters: Filters::EMPTY,
            slots: [Slot::EMPTY; SLOTS],
            in_flight: InFlight::EMPTY,
            newest: (0, 0),
            seed: (0, 0),
            since_epoch: 0,
        }
    }

    /// Takes over the host's configuration for the root context `root`. When it is
    /// refused, says why in the host's log, and what was configured before stays.
    #[must_use]
    pub fn configure(&mut self, host: &impl Host, root: u32) -> bool {
        let refuse = |why: &dyn Display| {
            let message = Text::<512>::of(format_args!("tidegate: configuration refused: {why}"));
            host.log_error(message.as_str());
            false
        };
        let given = match host.configuration() {
            Ok(given) => given,
            Err(Status::INVALID_MEMORY_ACCESS) => return refuse(&"it is larger than 64 KiB"),
            Err(_) => b"",
        };
        let rewritten = match proto_struct::to_json(given) {
            Err(NotJson::TooLarge) => return refuse(&"it is nested too deep, or above 4096 bytes"),
            Err(NotJson::Malformed) => None,
            Ok(_) if given.is_empty() => None,
            Ok(json) => Some(json),
        };
        let json = rewritten.as_ref().map_or(given, |json| json.as_bytes());
        let config = match Config::parse(json) {
            Ok(config) => config,
            Err(error) => return refuse(&error),
        };
        if self.seed == (0, 0)
            && let Err(missing) = self.start(host)
        {
            return refuse(&missing);
        }
        let Ok(plugin) = Plugin::new(host, root, config, self.seed) else {
            return refuse(&"the host does not let it define metrics");
        };
        if !self.filters.insert(plugin) {
            return refuse(&"this VM holds 256 filters already; give this one another vm_id");
        }
        true
    }

    /// A request (or connection) begins under the root context `parent`.
    pub fn context_created(&mut self, context: u32, parent: u32) {
        self.newest = (context, parent);
    }

    /// Decides on a request when its headers have come.
    pub fn request_headers(&mut self, host: &impl Host, stream: u32) -> Action {
        let root = self.root_of(stream);
        let Some(plugin) = root.and_then(|root| self.filters.get_mut(root)) else {
            // This worker has refused the configuration; to let everything pass, unlimited
            // and uncounted, would hide it.
            host.log_error("tidegate: a request for a filter that is not configured here");
            // A reply that fails leaves nothing else to be done.
            let _ = reply::not_configured(host, stream);
            return Action::Pause;
        };
        let key = match plugin.config.key.read(host) {
            Ok(key) => key,
            Err(why) => return without_key(host, plugin, stream, why),
        };
        let now = match host.monotonic_now() {
            Ok(monotonic) => monotonic.wrapping_add(self.since_epoch),
            Err(_) => {
                plugin.count(host, Counter::HostcallError);
                return Action::Continue;
            }
        };
        if refuse_locally(host, plugin, &mut self.slots, stream, key, now) {
            return Action::Pause;
        }
        ask_service(host, plugin, &mut self.in_flight, stream, key, now)
    }

    /// The service has answered a call.
    pub fn call_answered(&mut self, host: &impl Host, call: u32) {
        let Some(call) = self.in_flight.end(call) else { return };
        let Some(plugin) = self.filters.get_mut(call.root) else { return };
        let answer = match host.answer().map(Answer::parse) {
            Ok(Ok(answer)) => answer,
            _ => return service_failed(host, plugin, call, now(host, self.since_epoch)),
        };
        let EndedCall { stream, attempt, .. } = call;
        plugin.breaker.succeeded(attempt);
        if answer.allowed {
            plugin.count(host, Counter::Ok);
            resume(host, plugin, stream);
            return;
        }
        plugin.count(host, Counter::LimitedService);
        if let Some(stream) = stream {
            let Config { status, headers, .. } = plugin.config;
            let replied = reply::refused_by_service(host, stream, status, headers, &answer);
            plugin.checked(host, replied);
        }
    }

    /// A call has ended without an answer.
    pub fn call_failed(&mut self, host: &impl Host, call: u32) {
        let Some(call) = self.in_flight.end(call) else { return };
        let Some(plugin) = self.filters.get_mut(call.root) else { return };
        service_failed(host, plugin, call, now(host, self.since_epoch));
    }

    /// A request is over, or a filter is taken down.
    pub fn context_done(&mut self, context: u32) {
        self.in_flight.stream_gone(context);
        if self.filters.remove(context) {
            self.in_flight.root_gone(context);
        }
    }

    /// Asks the host once for what later calls rely on, so that a host that does not
    /// give it is found out when the filter is configured.
    fn start(&mut self, host: &impl Host) -> Result<(), &'static str> {
        let missing = |_| "the host gives no clock (clock_time_get)";
        let monotonic = host.monotonic_now().map_err(missing)?;
        let wall = host.wall_now().map_err(missing)?;
        self.seed = host.random().map_err(|_| "the host gives no randomness (random_get)")?;
        self.since_epoch = wall.wrapping_sub(monotonic);
        Ok(())
    }

    /// Which filter a stream belongs to. The host creates a stream's context and hands
    /// it the headers in one go, so only the newest stream need be remembered.
    fn root_of(&self, stream: u32) -> Option<u32> {
        if self.newest.0 == stream { Some(self.newest.1) } else { self.filters.only_root() }
    }
}

fn now(host: &impl Host, since_epoch: u64) -> u64 {
    // Without a clock the breaker takes its next call for a probe: no harm.
    host.monotonic_now().unwrap_or(0).wrapping_add(since_epoch)
}

fn without_key(host: &impl Host, plugin: &Plugin, stream: u32, why: NoKey) -> Action {
    let source = &plugin.config.key;
    let problem = match why {
        NoKey::TooLong => "is too long",
        NoKey::NotUtf8 => "is not valid UTF-8",
        NoKey::Missing | NoKey::Host(_) => {
            if matches!(why, NoKey::Host(_)) {
                plugin.count(host, Counter::HostcallError);
            }
            plugin.count(host, Counter::MissingKey);
            if plugin.config.missing_key == Policy::Allow {
                return Action::Continue;
            }
            plugin.checked(host, reply::missing_key(host, stream, source));
            return Action::Pause;
        }
    };
    plugin.count(host, Counter::BadKey);
    plugin.checked(host, reply::bad_key(host, stream, source, problem));
    Action::Pause
}

/// Whether the buckets of this worker refuse the request; it is then answered.
fn refuse_locally(
    host: &impl Host,
    plugin: &Plugin,
    slots: &mut [Slot],
    stream: u32,
    key: &[u8],
    now: u64,
) -> bool {
    let Some(local) = &plugin.config.local else { return false };
    let in_use = (local.max_keys as usize).min(slots.len());
    let slots = slots.get_mut(..in_use).unwrap_or_default();
    let fingerprint = fingerprint(plugin.seed, key);
    let Some(checked) = buckets::check(slots, local.limits.as_slice(), fingerprint, now) else {
        return false;
    };
    if checked.evicted {
        plugin.count(host, Counter::Evicted);
    }
    if checked.decision.allowed {
        return false;
    }
    plugin.count(host, Counter::LimitedLocal);
    let told = plugin.config.headers.then_some(&checked.decision);
    let replied = reply::refused_locally(host, stream, plugin.config.status, told);
    plugin.checked(host, replied);
    true
}

fn ask_service(
    host: &impl Host,
    plugin: &mut Plugin,
    in_flight: &mut InFlight,
    stream: u32,
    key: &[u8],
    now: u64,
) -> Action {
    let Some(service) = &plugin.config.service else {
        plugin.count(host, Counter::Ok);
        return Action::Continue;
    };
    // A full house is no fault of the service: the breaker hears nothing of it.
    if in_flight.is_full() {
        return not_answered(host, plugin, stream, Counter::ServiceError);
    }
    let Ok(attempt) = plugin.breaker.attempt(now) else {
        return not_answered(host, plugin, stream, Counter::BreakerOpen);
    };
    let (domain, descriptor) = (service.domain.as_bytes(), service.descriptor.as_bytes());
    let call =
        rls::request(domain, descriptor, key).ok_or(Status::INTERNAL_FAILURE).and_then(|request| {
            let call = Call {
                cluster: service.cluster.as_bytes(),
                service: rls::SERVICE.as_bytes(),
                method: rls::METHOD.as_bytes(),
                message: request.as_bytes(),
                timeout_ms: service.timeout_ms,
            };
            host.call(plugin.root, stream, &call)
        });
    let added = match call {
        Ok(call) => in_flight.add(call, plugin.root, stream, attempt),
        Err(_) => Err(attempt),
    };
    match added {
        Ok(()) => Action::Pause,
        Err(attempt) => {
            plugin.call_failed(host, attempt, now);
            not_answered(host, plugin, stream, Counter::ServiceError)
        }
    }
}

/// The request at hand goes without the service's answer.
fn not_answered(host: &impl Host, plugin: &Plugin, stream: u32, counter: Counter) -> Action {
    plugin.count(host, counter);
    match plugin.config.service.as_ref().map(|service| service.on_error) {
        Some(Policy::Deny) => {
            plugin.checked(host, reply::service_error(host, stream));
            Action::Pause
        }
        _ => Action::Continue,
    }
}

/// A request that waits, if it still does, has waited in vain.
fn service_failed(host: &impl Host, plugin: &mut Plugin, call: EndedCall, now: u64) {
    plugin.call_failed(host, call.attempt, now);
    match call.stream {
        Some(waiting) => {
            if not_answered(host, plugin, waiting, Counter::ServiceError) == Action::Continue {
                resume(host, plugin, call.stream);
            }
        }
        None => plugin.count(host, Counter::ServiceError),
    }
}

fn resume(host: &impl Host, plugin: &Plugin, stream: Option<u32>) {
    if let Some(stream) = stream {
        plugin.checked(host, host.resume(stream));
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
