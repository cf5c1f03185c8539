//! The filter's callbacks: what is done with each request. All state of a VM is here.

use core::fmt::Display;

use crate::allowed::Allowed;
use crate::buckets::{Seed, Slot};
use crate::config::{Config, Policy};
use crate::cost::Costs;
use crate::descriptors::MAX_DESCRIPTORS;
use crate::host::{Host, Status};
use crate::in_flight::{EndedCall, InFlight, NO_ASKS};
use crate::leased;
use crate::leases::LeaseSlot;
use crate::local_limits::refuse_locally;
use crate::plugin::{Counter, Plugin};
use crate::plugins::Plugins;
use crate::proto_struct::{self, NotJson};
use crate::reply::{self, Quota};
use crate::request_keys::RequestKeys;
use crate::rls::{self, MAX_REQUEST, Response};
use crate::scratch::Scratch;
use crate::service_call::{Caller, resume, service_error};
use crate::settling::Settling;
use crate::text::Text;

/// The most that is read of a service's response: what the filter has memory for, less the headers
/// of a reply. The body of a longer one is cut.
const MAX_RESPONSE: usize = 48 * 1024;

/// The memory for the values that are made of a request's parts: as much as the host has for the parts.
const SCRATCH: usize = 64 * 1024;

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
    leases: [LeaseSlot; SLOTS],
    in_flight: InFlight,
    settling: Settling,
    allowed: Allowed,
    /// The newest stream, and the root context of its plugin.
    newest: (u32, u32),
    seed: Seed,
    /// The wall clock minus the monotonic clock: added to the monotonic clock, it gives time since
    /// the Unix epoch, so that windows begin with the minute or the hour. It is read once, so
    /// that setting the wall clock later moves no bucket.
    since_epoch: u64,
    /// The values that are made of a request's parts.
    scratch: [u8; SCRATCH],
    /// The message to the service.
    message: [u8; MAX_REQUEST],
}

/// A request that has keys, and the time at which it is decided.
pub(crate) struct Request<'a, H> {
    pub(crate) host: &'a H,
    pub(crate) stream: u32,
    pub(crate) keys: &'a RequestKeys<'a>,
    pub(crate) costs: Costs,
    /// Nanoseconds since the Unix epoch, as [`Filter::since_epoch`] counts them.
    pub(crate) now: u64,
}

impl<const SLOTS: usize> Filter<SLOTS> {
    /// A VM in which nothing is configured yet.
    #[expect(clippy::new_without_default, reason = "too large to be passed by value")]
    pub const fn new() -> Self {
        Self {
            plugins: Plugins::EMPTY,
            slots: [Slot::EMPTY; SLOTS],
            leases: [LeaseSlot::EMPTY; SLOTS],
            in_flight: InFlight::EMPTY,
            settling: Settling::EMPTY,
            allowed: Allowed::EMPTY,
            newest: (0, 0),
            seed: (0, 0),
            since_epoch: 0,
            scratch: [0; SCRATCH],
            message: [0; MAX_REQUEST],
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
    pub fn request_headers(&mut self, host: &impl Host, stream: u32, has_body: bool) -> Action {
        let root = self.root_of(stream);
        let Some(plugin) = root.and_then(|root| self.plugins.get_mut(root)) else {
            // This worker has refused the configuration. Letting every request pass, unlimited
            // and uncounted, would hide that.
            host.log_error("tidegate: a request for a filter that is not configured here");
            // Nothing else can be done when this reply fails.
            let _ = reply::not_configured(host, stream);
            return Action::Pause;
        };
        if !plugin.is_enabled(host) {
            return Action::Continue;
        }
        let descriptors = &plugin.config.descriptors;
        let mut scratch = Scratch::new(&mut self.scratch);
        let keys = match RequestKeys::read(descriptors, host, &mut scratch) {
            Ok(keys) => keys,
            Err(bad) => {
                let source = bad.source.describe(&descriptors.names);
                plugin.count_failure(host, reply::bad_key(host, stream, &source, bad.problem));
                plugin.count(host, Counter::BadKey);
                return Action::Pause;
            }
        };
        if keys.has_failed {
            plugin.count(host, Counter::HostcallError);
        }
        if let Some(action) = without_key(host, plugin, stream, &keys) {
            return action;
        }
        let mut costs = [1; MAX_DESCRIPTORS];
        for (place, descriptor) in keys.applying(descriptors) {
            match descriptor.cost.read(&descriptors.names, host, has_body) {
                Ok(cost) => costs.get_mut(place).into_iter().for_each(|place| *place = cost),
                Err(bad) => {
                    let replied = reply::bad_cost(host, stream, &descriptors.names, bad);
                    plugin.count_failure(host, replied);
                    plugin.count(host, Counter::BadKey);
                    return Action::Pause;
                }
            }
        }
        let now = match host.monotonic_now() {
            Ok(monotonic) => monotonic.wrapping_add(self.since_epoch),
            Err(_) => {
                plugin.count(host, Counter::HostcallError);
                return Action::Continue;
            }
        };
        let request = Request { host, stream, keys: &keys, costs, now };
        let mut shown = Quota::NONE;
        if let Some(action) = refuse_locally(&request, plugin, &mut self.slots, &mut shown) {
            return action;
        }
        let left = leased::spend(&request, plugin, &mut self.leases, &mut shown);
        let mut caller = Caller { in_flight: &mut self.in_flight, message: &mut self.message };
        if left.ahead.iter().any(Option::is_some) {
            caller.take_ahead(&request, plugin, &mut self.leases, &left);
        }
        if let Some(action) = left.refused {
            return action;
        }
        if plugin.config.refusals.on_allowed {
            self.allowed.add(stream, plugin, shown);
        }
        if plugin.config.settle.is_some() {
            self.settling.begin(&request, plugin, caller.message);
        }
        caller.ask(&request, plugin, &left).unwrap_or_else(|action| {
            self.settling.not_charged(stream);
            action
        })
    }

    /// The service has answered a call.
    pub fn call_answered(&mut self, host: &impl Host, call: u32) {
        let Some(call) = self.in_flight.end(call) else { return };
        let Some(plugin) = self.plugins.get_mut(call.root) else { return };
        let message = host.grpc_message(MAX_RESPONSE);
        let is_cut = message.is_ok_and(|message| message.len() == MAX_RESPONSE);
        let now = || now(host, self.since_epoch);
        let is_report = call.is_report();
        let EndedCall { stream, attempt, asks, has_request, .. } = call;
        let Ok(Ok(response)) = message.map(|message| Response::parse(message, is_cut)) else {
            let now = now();
            plugin.call_failed(host, attempt, now);
            if is_report {
                plugin.count(host, Counter::SettleError);
            }
            leased::settle(plugin, &mut self.leases, &asks, now, None);
            stream.into_iter().for_each(|stream| self.settling.not_charged(stream));
            if has_request {
                service_error(host, plugin, stream);
            }
            return;
        };
        plugin.breaker.succeeded(attempt);
        if asks != NO_ASKS {
            leased::settle(plugin, &mut self.leases, &asks, now(), Some(&response));
        }
        if !has_request {
            return;
        }
        if response.allowed {
            if let Some(stream) = stream {
                self.allowed.answered(host, stream, plugin, &response);
            }
            plugin.count(host, Counter::Ok);
            resume(host, plugin, stream);
            return;
        }
        if let Some(stream) = stream {
            self.settling.forget(stream);
            self.allowed.forget(stream);
        }
        plugin.count(host, Counter::LimitedService);
        if !plugin.enforces(host) {
            resume(host, plugin, stream);
        } else if let Some(stream) = stream {
            let replied = reply::refused_by_service(host, stream, &plugin.config, &response);
            plugin.count_failure(host, replied);
            // The request must not wait for ever.
            if replied.is_err()
                && reply::refused_briefly(host, stream, plugin.config.status).is_err()
            {
                resume(host, plugin, Some(stream));
            }
        }
    }

    /// A call has ended without an answer, with this gRPC status.
    pub fn call_failed(&mut self, host: &impl Host, call: u32, status: u32) {
        let Some(call) = self.in_flight.end(call) else { return };
        let Some(plugin) = self.plugins.get_mut(call.root) else { return };
        let now = now(host, self.since_epoch);
        if call.is_report() {
            plugin.count(host, Counter::SettleError);
        }
        if rls::is_about_the_request(status) {
            // The service is well. It would otherwise be left alone because of what one client sends.
            plugin.breaker.succeeded(call.attempt);
        } else {
            plugin.call_failed(host, call.attempt, now);
        }
        leased::settle(plugin, &mut self.leases, &call.asks, now, None);
        call.stream.into_iter().for_each(|stream| self.settling.not_charged(stream));
        if call.has_request {
            service_error(host, plugin, call.stream);
        }
    }

    /// The headers of a response have arrived, and nothing follows if `is_end`.
    pub fn response_headers(&mut self, host: &impl Host, stream: u32, is_end: bool) {
        if let Some(root) = self.allowed.root_of(stream)
            && let Some(plugin) = self.plugins.get_mut(root)
        {
            self.allowed.headers(host, stream, plugin);
        }
        if let Some(root) = self.settling.root_of(stream)
            && let Some(plugin) = self.plugins.get_mut(root)
        {
            self.settling.headers(host, stream, plugin, is_end);
        }
    }

    /// A piece of a response's body has arrived, of `size` bytes, and nothing follows if `is_end`.
    pub fn response_body(&mut self, host: &impl Host, stream: u32, size: usize, is_end: bool) {
        if let Some(root) = self.settling.root_of(stream)
            && let Some(plugin) = self.plugins.get_mut(root)
        {
            self.settling.body(host, stream, plugin, size, is_end);
        }
    }

    /// A response has ended with trailers.
    pub fn response_ended(&mut self, stream: u32) {
        self.settling.ended(stream);
    }

    /// A request is over, or a plugin is removed.
    pub fn context_done(&mut self, host: &impl Host, context: u32) {
        self.in_flight.stream_gone(context);
        self.allowed.forget(context);
        if let Some(root) = self.settling.root_of(context) {
            match self.plugins.get_mut(root) {
                Some(plugin) => {
                    let now = now(host, self.since_epoch);
                    let in_flight = &mut self.in_flight;
                    let mut caller = Caller { in_flight, message: &mut self.message };
                    let slots = &mut self.slots;
                    self.settling.finish(host, context, plugin, slots, &mut caller, now);
                }
                None => self.settling.forget(context),
            }
        }
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

/// Handles a request that lacks what its descriptors need; `None` if descriptors apply to it.
fn without_key(
    host: &impl Host,
    plugin: &Plugin,
    stream: u32,
    keys: &RequestKeys<'_>,
) -> Option<Action> {
    let descriptors = &plugin.config.descriptors;
    if let Some(source) = keys.missing
        && plugin.config.missing_key == Policy::Deny
    {
        let replied = reply::missing_key(host, stream, &source.describe(&descriptors.names));
        plugin.count_failure(host, replied);
        plugin.count(host, Counter::MissingKey);
        return Some(Action::Pause);
    }
    if keys.applying(descriptors).next().is_some() {
        return None;
    }
    plugin.count(host, Counter::MissingKey);
    Some(Action::Continue)
}

#[cfg(test)]
#[path = "filter_descriptor_tests.rs"]
mod descriptor_tests;
#[cfg(test)]
#[path = "filter_lease_tests.rs"]
mod lease_tests;
#[cfg(test)]
#[path = "filter_reply_tests.rs"]
mod reply_tests;
#[cfg(test)]
#[path = "filter_settle_tests.rs"]
mod settle_tests;
#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
