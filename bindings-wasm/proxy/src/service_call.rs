//! Calls to the service: for a request that waits, and for tokens that are taken ahead.

use tidegate_core::Attempt;

use crate::config::Policy;
use crate::cost::Costs;
use crate::filter::{Action, Request};
use crate::host::{GrpcCall, Host};
use crate::in_flight::{Ask, Asks, InFlight, NO_ASKS, NO_STREAM};
use crate::leased::{self, Left};
use crate::leases::LeaseSlot;
use crate::plugin::{Counter, Plugin};
use crate::reply;
use crate::rls::{self, Correction};

/// What a call needs beside its request.
pub(crate) struct Caller<'c> {
    pub(crate) in_flight: &'c mut InFlight,
    /// The memory for the message.
    pub(crate) message: &'c mut [u8],
}

/// What a call is for.
struct Purpose<'p> {
    /// A bit for each descriptor that the message has.
    asked: u8,
    costs: &'p Costs,
    asks: Asks,
    /// Whether the request waits for the answer.
    waits: bool,
}

impl Caller<'_> {
    /// Asks the service about the descriptors of the request that need it. The request waits for the
    /// answer, unless it may pass before.
    ///
    /// # Errors
    /// What becomes of a request about which the service cannot be asked.
    pub(crate) fn ask(
        &mut self,
        request: &Request<'_, impl Host>,
        plugin: &mut Plugin,
        left: &Left,
    ) -> Result<Action, Action> {
        let Request { host, stream, now, .. } = *request;
        let descriptors = &plugin.config.descriptors;
        let mut asks = NO_ASKS;
        let mut free = asks.iter_mut();
        let (mut asked, mut position, mut waits) = (0, 0, left.waits);
        for (place, descriptor) in request.keys.applying(descriptors) {
            if !descriptor.is_shared || (descriptor.is_leased && !left.is_unpaid(place)) {
                continue;
            }
            if !descriptor.is_leased {
                waits = true;
            } else if let Some(ask) = free.next() {
                let seed = plugin.seeds.get(place).copied().unwrap_or_default();
                let fingerprint = request.keys.fingerprint(descriptors, descriptor, seed);
                let tokens = request.costs.get(place).copied().unwrap_or(1);
                *ask = Ask { fingerprint, tokens, position, is_ahead: false };
            }
            asked |= 1 << place;
            position += 1;
        }
        if asked == 0 {
            plugin.count(host, Counter::Ok);
            return Ok(Action::Continue);
        }
        // The breaker is not told of a full table: it is no failure of the service.
        if self.in_flight.is_full() {
            return Err(not_answered(host, plugin, stream, Counter::ServiceError));
        }
        let Ok(attempt) = plugin.breaker.attempt(now) else {
            return Err(not_answered(host, plugin, stream, Counter::BreakerOpen));
        };
        let purpose = Purpose { asked, costs: &request.costs, asks, waits };
        if let Err(attempt) = self.start(request, plugin, &purpose, attempt) {
            plugin.call_failed(host, attempt, now);
            return Err(not_answered(host, plugin, stream, Counter::ServiceError));
        }
        if waits {
            return Ok(Action::Pause);
        }
        plugin.count(host, Counter::Ok);
        Ok(Action::Continue)
    }

    /// Takes tokens ahead, with a call for each descriptor that wants some.
    pub(crate) fn take_ahead(
        &mut self,
        request: &Request<'_, impl Host>,
        plugin: &mut Plugin,
        slots: &mut [LeaseSlot],
        left: &Left,
    ) {
        let Request { host, now, .. } = *request;
        for (place, ask) in left.ahead.iter().enumerate() {
            let Some(ask) = ask else { continue };
            let mut asks = NO_ASKS;
            asks[0] = *ask;
            if self.in_flight.is_full() {
                leased::settle(plugin, slots, &asks, now, None);
                continue;
            }
            let mut costs = [1; _];
            costs.get_mut(place).into_iter().for_each(|cost| *cost = ask.tokens);
            let purpose = Purpose { asked: 1 << place, costs: &costs, asks, waits: false };
            let Ok(attempt) = plugin.breaker.attempt(now) else {
                leased::settle(plugin, slots, &asks, now, None);
                continue;
            };
            match self.start(request, plugin, &purpose, attempt) {
                Ok(()) => plugin.count(host, Counter::LeaseCalls),
                Err(attempt) => {
                    plugin.call_failed(host, attempt, now);
                    leased::settle(plugin, slots, &asks, now, None);
                }
            }
        }
    }

    /// Tells the service, while a callback of `stream` runs, what has been used; answers whether the call was
    /// made.
    pub(crate) fn report(
        &mut self,
        host: &impl Host,
        plugin: &mut Plugin,
        stream: u32,
        kept: &[u8],
        corrections: impl IntoIterator<Item = Correction>,
        now: u64,
    ) -> bool {
        let Some(message) = rls::correction(&mut *self.message, kept, corrections) else {
            return false;
        };
        let Some(service) = &plugin.config.service else { return false };
        if self.in_flight.is_full() {
            return false;
        }
        let Ok(attempt) = plugin.breaker.attempt(now) else { return false };
        let call = GrpcCall {
            cluster: plugin.config.descriptors.names.get(service.cluster),
            service: rls::SERVICE.as_bytes(),
            method: rls::METHOD.as_bytes(),
            message,
            timeout_ms: service.timeout_ms,
            is_report: true,
        };
        let added = match host.call(plugin.root, stream, &call) {
            Ok(call) => self.in_flight.add(call, plugin.root, NO_STREAM, attempt, NO_ASKS),
            Err(_) => Err(attempt),
        };
        if let Err(attempt) = added {
            plugin.call_failed(host, attempt, now);
            return false;
        }
        true
    }

    /// Starts the call of an attempt; gives the attempt back when it cannot be started.
    fn start(
        &mut self,
        request: &Request<'_, impl Host>,
        plugin: &Plugin,
        purpose: &Purpose<'_>,
        attempt: Attempt,
    ) -> Result<(), Attempt> {
        let Some(service) = &plugin.config.service else { return Err(attempt) };
        let Request { host, stream, keys, .. } = *request;
        let descriptors = &plugin.config.descriptors;
        let names = &descriptors.names;
        let domain = names.get(service.domain);
        let room = &mut *self.message;
        let message =
            rls::request(room, domain, descriptors, purpose.asked, keys, Some(purpose.costs));
        let Some(message) = message else { return Err(attempt) };
        let call = GrpcCall {
            cluster: names.get(service.cluster),
            service: rls::SERVICE.as_bytes(),
            method: rls::METHOD.as_bytes(),
            message,
            timeout_ms: service.timeout_ms,
            is_report: false,
        };
        let waiting = if purpose.waits { stream } else { NO_STREAM };
        match host.call(plugin.root, stream, &call) {
            Ok(call) => self.in_flight.add(call, plugin.root, waiting, attempt, purpose.asks),
            Err(_) => Err(attempt),
        }
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
pub(crate) fn service_error(host: &impl Host, plugin: &Plugin, stream: Option<u32>) {
    match stream {
        Some(stream) => {
            if not_answered(host, plugin, stream, Counter::ServiceError) == Action::Continue {
                resume(host, plugin, Some(stream));
            }
        }
        None => plugin.count(host, Counter::ServiceError),
    }
}

pub(crate) fn resume(host: &impl Host, plugin: &Plugin, stream: Option<u32>) {
    if let Some(stream) = stream {
        plugin.count_failure(host, host.resume(stream));
    }
}
