//! The filter's callbacks: what is done with each request. All state of a VM is here.

use core::fmt::Display;

use tidegate_core::Attempt;

use crate::buckets::{self, Seed, Slot, fingerprint};
use crate::config::{Config, Policy};
use crate::host::{GrpcCall, Host, Status};
use crate::in_flight::{EndedCall, InFlight};
use crate::key::NoKey;
use crate::plugin::{Counter, Plugin};
use crate::plugins::Plugins;
use crate::proto_struct::{self, NotJson};
use crate::reply;
use crate::rls::{self, Response};
use crate::text::Text;

/// The most that is read of a service's response: what the filter has memory for, less the headers
/// of a reply. The body of a longer one is cut.
const MAX_RESPONSE: usize = 48 * 1024;

/// The host's next step with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Passes the request on.
    Continue,
    /// Holds the request: the filter has answered it, or will resume it.
    Pause,
}

/// The state of one VM, with local buckets for `SLOTS` keys. Nothing in it grows.
pub struct Filter<const SLOTS: usize> {
    plugins: Plugins,
    slots: [Slot; SLOTS],
    in_flight: InFlight,
    /// The newest stream, and the root context of its plugin.
    newest: (u32, u32),
    seed: Seed,
    /// The wall clock minus the monotonic clock: added to the monotonic clock, it gives time since
    /// the Unix epoch, so that windows begin with the minute or the hour. It is read once, so
    /// that setting the wall clock later moves no bucket.
    since_epoch: u64,
}

/// A request that has a key, and the time at which it is decided.
struct Request<'a, H> {
    host: &'a H,
    stream: u32,
    key: &'a [u8],
    /// Nanoseconds since the Unix epoch, as [`Filter::since_epoch`] counts them.
    now: u64,
}

impl<const SLOTS: usize> Filter<SLOTS> {
    /// A VM in which nothing is configured yet.
    #[expect(clippy::new_without_default, reason = "too large to be passed by value")]
    pub const fn new() -> Self {
        Self {
            plugins: Plugins::EMPTY,
            slots: [Slot::EMPTY; SLOTS],
            in_flight: InFlight::EMPTY,
            newest: (0, 0),
            seed: (0, 0),
            since_epoch: 0,
        }
    }

    /// Configures the plugin of the root context `root` from the host's configuration.
    /// Returns `false` when the configuration is refused; the host's log then says why, and
    /// an earlier configuration stays in force.
    #[must_use]
    pub fn configure(&mut self, host: &impl Host, root: u32) -> bool {
        let refuse = |why: &dyn Display| {
            let message =
                Text::<512>::format(format_args!("tidegate: configuration refused: {why}"));
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
        if !self.plugins.insert(plugin) {
            return refuse(&"this VM holds 256 filters already; give this one another vm_id");
        }
        true
    }

    /// A request (or connection) begins under the root context `parent`.
    pub fn context_created(&mut self, context: u32, parent: u32) {
        self.newest = (context, parent);
    }

    /// The headers of a request have arrived: decides on the request.
    pub fn request_headers(&mut self, host: &impl Host, stream: u32) -> Action {
        let root = self.root_of(stream);
        let Some(plugin) = root.and_then(|root| self.plugins.get_mut(root)) else {
            // This worker has refused the configuration. Letting every request pass, unlimited
            // and uncounted, would hide that.
            host.log_error("tidegate: a request for a filter that is not configured here");
            // Nothing else can be done when this reply fails.
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
        let request = Request { host, stream, key: key.as_bytes(), now };
        if refuse_locally(&request, plugin, &mut self.slots) {
            return Action::Pause;
        }
        ask_service(&request, plugin, &mut self.in_flight)
    }

    /// The service has answered a call.
    pub fn call_answered(&mut self, host: &impl Host, call: u32) {
        let Some(call) = self.in_flight.end(call) else { return };
        let Some(plugin) = self.plugins.get_mut(call.root) else { return };
        let message = host.grpc_message(MAX_RESPONSE);
        let is_cut = message.is_ok_and(|message| message.len() == MAX_RESPONSE);
        let Ok(Ok(response)) = message.map(|message| Response::parse(message, is_cut)) else {
            plugin.call_failed(host, call.attempt, now(host, self.since_epoch));
            return service_error(host, plugin, call.stream);
        };
        let EndedCall { stream, attempt, .. } = call;
        plugin.breaker.succeeded(attempt);
        if response.allowed {
            plugin.count(host, Counter::Ok);
            resume(host, plugin, stream);
            return;
        }
        plugin.count(host, Counter::LimitedService);
        if let Some(stream) = stream {
            let Config { status, headers, .. } = plugin.config;
            let replied = reply::refused_by_service(host, stream, status, headers, &response);
            plugin.count_failure(host, replied);
            // The request must not wait for ever.
            if replied.is_err() && reply::refused_briefly(host, stream, status).is_err() {
                resume(host, plugin, Some(stream));
            }
        }
    }

    /// A call has ended without an answer, with this gRPC status.
    pub fn call_failed(&mut self, host: &impl Host, call: u32, status: u32) {
        let Some(call) = self.in_flight.end(call) else { return };
        let Some(plugin) = self.plugins.get_mut(call.root) else { return };
        if rls::is_about_the_request(status) {
            // The service is well. It would otherwise be left alone because of what one client sends.
            plugin.breaker.succeeded(call.attempt);
        } else {
            plugin.call_failed(host, call.attempt, now(host, self.since_epoch));
        }
        service_error(host, plugin, call.stream);
    }

    /// A request is over, or a plugin is removed.
    pub fn context_done(&mut self, context: u32) {
        self.in_flight.stream_gone(context);
        if self.plugins.remove(context) {
            self.in_flight.root_gone(context);
        }
    }

    /// Reads the clocks and the randomness once, so that a host that lacks one of them is
    /// found when the first plugin is configured and not at a request.
    fn start(&mut self, host: &impl Host) -> Result<(), &'static str> {
        let missing = |_| "the host gives no clock (clock_time_get)";
        let monotonic = host.monotonic_now().map_err(missing)?;
        let wall = host.wall_now().map_err(missing)?;
        self.seed = host.random().map_err(|_| "the host gives no randomness (random_get)")?;
        self.since_epoch = wall.wrapping_sub(monotonic);
        Ok(())
    }

    /// The root context of the plugin that a stream belongs to. The host creates a stream's
    /// context and passes it the headers in one go, so only the newest stream is remembered.
    fn root_of(&self, stream: u32) -> Option<u32> {
        if self.newest.0 == stream { Some(self.newest.1) } else { self.plugins.only_root() }
    }
}

fn now(host: &impl Host, since_epoch: u64) -> u64 {
    // Without a clock the wait of an open breaker seems to be over: its next call is a probe.
    host.monotonic_now().unwrap_or(0).wrapping_add(since_epoch)
}

fn without_key(host: &impl Host, plugin: &Plugin, stream: u32, why: NoKey) -> Action {
    let source = &plugin.config.key;
    let problem = match why {
        NoKey::TooLong => "is longer than 64 KiB",
        NoKey::Repeated => "is repeated",
        NoKey::Missing | NoKey::Host(_) => {
            if matches!(why, NoKey::Host(_)) {
                plugin.count(host, Counter::HostcallError);
            }
            plugin.count(host, Counter::MissingKey);
            if plugin.config.missing_key == Policy::Allow {
                return Action::Continue;
            }
            plugin.count_failure(host, reply::missing_key(host, stream, source));
            return Action::Pause;
        }
    };
    plugin.count(host, Counter::BadKey);
    plugin.count_failure(host, reply::bad_key(host, stream, source, problem));
    Action::Pause
}

/// Charges the local buckets. Returns whether they refuse the request, which is then answered.
fn refuse_locally(request: &Request<'_, impl Host>, plugin: &Plugin, slots: &mut [Slot]) -> bool {
    let Request { host, stream, key, now } = *request;
    let Some(local) = &plugin.config.local else { return false };
    let decision = if let Some(fixed) = local.limits.fixed() {
        fixed.check(&1.into())
    } else {
        let in_use = (local.max_keys as usize).min(slots.len());
        let slots = slots.get_mut(..in_use).unwrap_or_default();
        let fingerprint = fingerprint(plugin.seed, key);
        let Some(checked) = buckets::check(slots, local.limits.as_slice(), fingerprint, now) else {
            return false;
        };
        if checked.evicted {
            plugin.count(host, Counter::Evicted);
        }
        checked.decision
    };
    if decision.allowed {
        return false;
    }
    plugin.count(host, Counter::LimitedLocal);
    let shown = plugin.config.headers.then_some(&decision);
    let replied = reply::refused_locally(host, stream, plugin.config.status, shown);
    plugin.count_failure(host, replied);
    true
}

/// Asks the service about the request, which waits for the answer.
fn ask_service(
    request: &Request<'_, impl Host>,
    plugin: &mut Plugin,
    in_flight: &mut InFlight,
) -> Action {
    let Request { host, stream, now, .. } = *request;
    if plugin.config.service.is_none() {
        plugin.count(host, Counter::Ok);
        return Action::Continue;
    }
    // The breaker is not told of a full table: it is no failure of the service.
    if in_flight.is_full() {
        return not_answered(host, plugin, stream, Counter::ServiceError);
    }
    let Ok(attempt) = plugin.breaker.attempt(now) else {
        return not_answered(host, plugin, stream, Counter::BreakerOpen);
    };
    match call_service(request, plugin, in_flight, attempt) {
        Ok(()) => Action::Pause,
        Err(attempt) => {
            plugin.call_failed(host, attempt, now);
            not_answered(host, plugin, stream, Counter::ServiceError)
        }
    }
}

/// Starts the call of an attempt; gives the attempt back when it cannot be started.
fn call_service(
    request: &Request<'_, impl Host>,
    plugin: &Plugin,
    in_flight: &mut InFlight,
    attempt: Attempt,
) -> Result<(), Attempt> {
    let Some(service) = &plugin.config.service else { return Err(attempt) };
    let (domain, descriptor) = (service.domain.as_bytes(), service.descriptor.as_bytes());
    let Some(message) = rls::request(domain, descriptor, request.key) else { return Err(attempt) };
    let call = GrpcCall {
        cluster: service.cluster.as_bytes(),
        service: rls::SERVICE.as_bytes(),
        method: rls::METHOD.as_bytes(),
        message: message.as_bytes(),
        timeout_ms: service.timeout_ms,
    };
    match request.host.call(plugin.root, request.stream, &call) {
        Ok(call) => in_flight.add(call, plugin.root, request.stream, attempt),
        Err(_) => Err(attempt),
    }
}

/// Handles a request that the service does not decide, by the policy for that.
fn not_answered(host: &impl Host, plugin: &Plugin, stream: u32, counter: Counter) -> Action {
    plugin.count(host, counter);
    match plugin.config.service.as_ref().map(|service| service.on_error) {
        Some(Policy::Deny) => {
            plugin.count_failure(host, reply::service_error(host, stream));
            Action::Pause
        }
        _ => Action::Continue,
    }
}

/// Handles the request of a failed call, if it still waits.
fn service_error(host: &impl Host, plugin: &Plugin, stream: Option<u32>) {
    match stream {
        Some(stream) => {
            if not_answered(host, plugin, stream, Counter::ServiceError) == Action::Continue {
                resume(host, plugin, Some(stream));
            }
        }
        None => plugin.count(host, Counter::ServiceError),
    }
}

fn resume(host: &impl Host, plugin: &Plugin, stream: Option<u32>) {
    if let Some(stream) = stream {
        plugin.count_failure(host, host.resume(stream));
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
