//! Weighs what was read: which wait counts, what it is about, and whether to try again.

use super::reader::SignalReader;
use super::windows::{Rank, Window};
use super::{HoldScope, Signal, SignalKind};

/// A wait in nanoseconds, and the name that it was read from.
type Wait<'a> = (u64, &'a str);

impl<'a> SignalReader<'a> {
    /// What has been read, as a [`Signal`]. `now` is the wall clock, in nanoseconds since 1970. It
    /// stands in for the response's `Date` where that is missing, because points in time are the
    /// vendor's. `max_hold` bounds the hold, in nanoseconds.
    ///
    /// The first of these is the hold: the wait of gRPC; one in milliseconds; `Retry-After`; a spent
    /// limit of the standard `RateLimit`; the vendor's own wait; a spent limit of the profile or of
    /// the usual names; after a refusal for its rate the reset of a limit that does not say what is
    /// left; and the profile's. Waits count from status 300 on, because with a success they ask
    /// for something else; those of limits and of gRPC always do. What a cache has kept says nothing
    /// about limits, and less of a wait.
    pub fn finish(&self, now: u64, max_hold: u64) -> Signal<'a> {
        let age = self.age.unwrap_or(0);
        let now = self.date.map_or(now, |date| date.saturating_add(age));
        let is_fresh = age == 0;
        let mut kind = self.kind.unwrap_or_else(|| SignalKind::of_status(self.status));
        let stated = self.stated(now, age);
        let spent =
            (is_fresh && kind != SignalKind::Concurrency).then(|| self.spent(now)).flatten();
        if kind == SignalKind::Auth && self.status == 403 && (stated.or(spent)).is_some() {
            // Some refuse for the rate with the status of missing rights.
            kind = SignalKind::Rate;
        }
        let is_for_rate = matches!(kind, SignalKind::Rate | SignalKind::Quota);
        let vendor = self.wait_of(&self.vendor, now, age);
        let is_standard = self.windows.best().any(|window| window.rank == Rank::Standard);
        let (before_vendor, after_vendor) = if is_standard { (spent, None) } else { (None, spent) };
        let of_windows = before_vendor.or(after_vendor);
        let unknown = (is_for_rate && is_fresh).then(|| self.unknown(now)).flatten();
        let hold = stated.or(before_vendor).or(vendor).or(after_vendor).or(unknown);
        let is_by_window = stated.is_none()
            && (before_vendor.is_some() || (vendor.is_none() && of_windows.or(unknown).is_some()));
        let unstated = if is_for_rate { self.profile.unstated_hold } else { 0 };
        let (asked, source) = hold.unwrap_or((unstated, ""));
        let binding = is_fresh.then(|| self.windows.binding(now, self.violated)).flatten();
        Signal {
            hold: asked.min(max_hold),
            asked,
            scope: self.scope_of(kind, is_by_window),
            bucket: self.bucket,
            remaining: binding.and_then(Window::left),
            limit: binding.and_then(|window| window.limit),
            limit_name: binding.map_or(b"", |window| window.name),
            window: binding.and_then(|window| self.windows.length_of(window)),
            reset: binding.and_then(|window| Some(window.reset(now)?.0)),
            should_retry: self
                .should_retry
                .unwrap_or_else(|| may_succeed(kind, self.status, asked)),
            kind,
            source: if asked == 0 { "" } else { source },
        }
    }

    /// The wait that a header for waits states.
    fn stated(&self, now: u64, age: u64) -> Option<Wait<'a>> {
        let pushback = self.pushback.resolve(now, age);
        let precise = || self.wait_of(&self.precise, now, age);
        let retry_after = || self.wait_of(&self.retry_after, now, age);
        pushback.or_else(precise).or_else(retry_after)
    }

    fn wait_of(&self, times: &super::windows::Times<'a>, now: u64, age: u64) -> Option<Wait<'a>> {
        if self.status >= 300 { times.resolve(now, age) } else { None }
    }

    /// The longest wait of the limits that are spent.
    fn spent(&self, now: u64) -> Option<Wait<'a>> {
        let wait = |window: &Window<'a>| {
            let refused = self.status >= 400;
            let of_length = || Some((self.windows.length_of(window)?, window.source));
            let wait = window.wait(now, self.profile.refills);
            wait.or_else(|| refused.then(of_length).flatten())
        };
        let spent = self.windows.best().filter(|window| window.is_spent());
        self.longest(spent.filter_map(wait))
    }

    /// The longest wait of the limits that do not say what is left.
    fn unknown(&self, now: u64) -> Option<Wait<'a>> {
        let unknown = self.windows.best().filter(|window| window.remaining.is_none());
        self.longest(unknown.filter_map(|window| window.wait(now, self.profile.refills)))
    }

    /// The longest of the waits for windows, with the profile's margin.
    fn longest(&self, waits: impl Iterator<Item = Wait<'a>>) -> Option<Wait<'a>> {
        let mut longest: Option<Wait<'_>> = None;
        for wait in waits {
            if longest.is_none_or(|known| known.0 < wait.0) {
                longest = Some(wait);
            }
        }
        longest.map(|(nanos, source)| (nanos.saturating_add(self.profile.margin), source))
    }

    fn scope_of(&self, kind: SignalKind, is_by_window: bool) -> HoldScope {
        match self.scope {
            Some(scope) => scope,
            None if matches!(kind, SignalKind::Overload | SignalKind::Fault) => HoldScope::Vendor,
            None if is_by_window && !self.bucket.is_empty() => HoldScope::Bucket,
            None => self.profile.scope,
        }
    }
}

const fn may_succeed(kind: SignalKind, status: u16, asked: u64) -> bool {
    match kind {
        SignalKind::Rate | SignalKind::Concurrency | SignalKind::Overload => true,
        // 501 says "not implemented", and 505 that the version of HTTP is not supported.
        SignalKind::Fault => !matches!(status, 501 | 505),
        SignalKind::Quota | SignalKind::Abuse => asked > 0,
        SignalKind::Ok | SignalKind::Auth | SignalKind::Refused => false,
    }
}
