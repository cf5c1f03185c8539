//! Requests whose cost is an estimate, until their response has told what was used.

use crate::buckets::{self, Slot};
use crate::cost::{Costs, Settle, number};
use crate::descriptors::MAX_DESCRIPTORS;
use crate::filter::Request;
use crate::host::Host;
use crate::id_map::IdMap;
use crate::limits::Limits;
use crate::plugin::{Counter, Plugin};
use crate::rls::{self, Correction};
use crate::service_call::Caller;
use crate::usage::{Form, Scanner};

/// The streams whose responses are read.
pub(crate) struct Settling(IdMap<Stream>);

#[derive(Clone, Copy)]
struct Stream {
    root: u32,
    /// A bit for each descriptor whose bucket in this worker was charged.
    local: u8,
    /// A bit for each descriptor that the service was asked about.
    shared: u8,
    /// Whether the response has ended, or has told what was used for good.
    is_whole: bool,
    costs: Costs,
    fingerprints: [u64; MAX_DESCRIPTORS],
    scanner: Scanner,
    /// What a header of the response has told.
    header: Option<u32>,
}

impl Settling {
    pub(crate) const EMPTY: Self = Self(IdMap::empty(Stream {
        root: 0,
        local: 0,
        shared: 0,
        is_whole: false,
        costs: [0; MAX_DESCRIPTORS],
        fingerprints: [0; MAX_DESCRIPTORS],
        scanner: Scanner::new(Form::Json),
        header: None,
    }));

    /// Remembers a request that no limit has refused so far. What the service will have to be told is kept by
    /// the host, because the request's headers may be changed by then.
    #[inline(never)]
    pub(crate) fn begin(
        &mut self,
        request: &Request<'_, impl Host>,
        plugin: &Plugin,
        room: &mut [u8],
    ) {
        let Request { host, stream, keys, costs, .. } = *request;
        let descriptors = &plugin.config.descriptors;
        let (mut local, mut shared) = (0, 0);
        let mut fingerprints = [0; MAX_DESCRIPTORS];
        for (place, descriptor) in keys.applying(descriptors).filter(|(_, it)| it.settles) {
            if descriptor.limits.is_some() {
                local |= 1 << place;
                let seed = plugin.seeds.get(place).copied().unwrap_or_default();
                let fingerprint = keys.fingerprint(descriptors, descriptor, seed);
                fingerprints.get_mut(place).into_iter().for_each(|free| *free = fingerprint);
            }
            if descriptor.is_shared {
                shared |= 1 << place;
            }
        }
        if local | shared == 0 {
            return;
        }
        if let Some(service) = plugin.config.service.as_ref().filter(|_| shared != 0) {
            let domain = descriptors.names.get(service.domain);
            let message = rls::request(room, domain, descriptors, shared, keys, None);
            let kept =
                message.map(|message| host.keep(stream, plugin.kept_name().as_str(), message));
            if !matches!(kept, Some(Ok(()))) {
                plugin.count(host, Counter::HostcallError);
                shared = 0;
            }
        }
        let root = plugin.root;
        let scanner = Scanner::new(Form::Json);
        let (is_whole, header) = (false, None);
        let new = Stream { root, local, shared, is_whole, costs, fingerprints, scanner, header };
        if !self.0.insert(stream, new) {
            plugin.count(host, Counter::Unsettled);
        }
    }

    /// Notes that the service has not charged a request, as far as is known.
    pub(crate) fn not_charged(&mut self, stream: u32) {
        if let Some(known) = self.0.get_mut(stream) {
            known.shared = 0;
        }
    }

    /// Forgets a request that was refused.
    pub(crate) fn forget(&mut self, stream: u32) {
        self.0.remove(stream);
    }

    /// The root context of a stream whose response is awaited.
    pub(crate) fn root_of(&mut self, stream: u32) -> Option<u32> {
        self.0.get_mut(stream).map(|known| known.root)
    }

    /// Reads the headers of a response.
    #[inline(never)]
    pub(crate) fn headers(&mut self, host: &impl Host, stream: u32, plugin: &Plugin, is_end: bool) {
        let Some(known) = self.0.get_mut(stream) else { return };
        match plugin.config.settle {
            Some(Settle::Header { property }) => {
                let told = host.property(plugin.config.descriptors.names.get(property));
                let told = told.ok().and_then(number);
                known.header = told.map(|used| u32::try_from(used).unwrap_or(u32::MAX));
                known.is_whole = known.header.is_some();
            }
            Some(Settle::Json { .. }) => {
                const EVENTS: &[u8] = b"text/event-stream";
                let content_type = host.property(b"response\0headers\0content-type").unwrap_or(b"");
                let begin = content_type.get(..EVENTS.len()).unwrap_or_default();
                if begin.eq_ignore_ascii_case(EVENTS) {
                    known.scanner = Scanner::new(Form::Events);
                }
            }
            None => {}
        }
        known.is_whole |= is_end;
    }

    /// Reads a piece of the body of a response.
    #[inline(never)]
    pub(crate) fn body(
        &mut self,
        host: &impl Host,
        stream: u32,
        plugin: &Plugin,
        size: usize,
        is_end: bool,
    ) {
        let Some(known) = self.0.get_mut(stream) else { return };
        if let Some(Settle::Json { path }) = plugin.config.settle {
            let path = plugin.config.descriptors.names.get(path);
            let read = host.response_body(size, &mut |piece| known.scanner.feed(path, piece));
            plugin.count_failure(host, read);
        }
        known.is_whole |= is_end;
    }

    /// Notes that a response has ended.
    pub(crate) fn ended(&mut self, stream: u32) {
        if let Some(known) = self.0.get_mut(stream) {
            known.is_whole = true;
        }
    }

    /// Settles a request whose stream is over.
    ///
    /// A response that tells nothing leaves the estimate. One that was cut off leaves it too, unless it has told
    /// more by then: otherwise clients would pay less if they went away early.
    #[inline(never)]
    pub(crate) fn finish(
        &mut self,
        host: &impl Host,
        stream: u32,
        plugin: &mut Plugin,
        slots: &mut [Slot],
        caller: &mut Caller<'_>,
        now: u64,
    ) {
        let Some(known) = self.0.remove(stream) else { return };
        let Some(used) = known.header.or_else(|| known.scanner.used()) else {
            plugin.count(host, Counter::Unsettled);
            return;
        };
        plugin.count(host, Counter::Settled);
        let charged = |place: usize| known.costs.get(place).copied().unwrap_or(1);
        let actual = |charged: u32| if known.is_whole { used } else { used.max(charged) };
        let in_use = (plugin.config.max_keys as usize).min(slots.len());
        let slots = slots.get_mut(..in_use).unwrap_or_default();
        for (place, descriptor) in plugin.config.descriptors.as_slice().iter().enumerate() {
            let limits = descriptor.limits.as_ref().filter(|limits| limits.fixed().is_none());
            let limits = limits.map(Limits::as_slice).unwrap_or_default();
            if known.local >> place & 1 == 1 {
                let fingerprint = known.fingerprints.get(place).copied().unwrap_or(0);
                let charged = charged(place);
                buckets::settle(slots, limits, fingerprint, now, (charged, actual(charged)));
            }
        }
        let corrections =
            (0..MAX_DESCRIPTORS).filter(|place| known.shared >> place & 1 == 1).map(|place| {
                let (charged, actual) = (charged(place), actual(charged(place)));
                Correction { hits: charged.abs_diff(actual), is_credit: actual < charged }
            });
        if corrections.clone().all(|correction| correction.hits == 0) {
            return;
        }
        let kept = host.property(plugin.kept_name().as_bytes());
        let is_made =
            kept.is_ok_and(|kept| caller.report(host, plugin, stream, kept, corrections, now));
        if !is_made {
            plugin.count(host, Counter::SettleError);
        }
    }
}
