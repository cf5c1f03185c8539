//! What a vendor's response says about its limits, in one form for every vendor.

mod dates;
mod fields;
mod profile;
mod profiles;
mod reader;
mod reasons;
mod resolve;
mod structured;
mod windows;

pub use profile::{Meaning, Profile, Row, Unit};
pub use reader::SignalReader;

/// The longest hold unless told otherwise, in nanoseconds: 15 minutes.
pub const DEFAULT_MAX_HOLD: u64 = 900 * SECOND;

const SECOND: u64 = 1_000_000_000;

/// What a response says about the limits of its vendor: for how long to make no more calls, on what,
/// and what is left. Durations are in nanoseconds.
///
/// ```
/// use tidegate_core::{HoldScope, Profile, Signal, SignalKind};
/// let headers = [("Date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("Retry-After", "120")];
/// let now = 784_111_777_000_000_000;
/// let signal = Signal::parse(429, headers, &Profile::GENERIC, now);
/// assert_eq!(signal.hold, 120_000_000_000);
/// assert_eq!((signal.kind, signal.scope), (SignalKind::Rate, HoldScope::Credential));
/// assert!(signal.should_retry);
/// assert_eq!(signal.source, "Retry-After");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signal<'a> {
    /// For how long to make no more calls in the [`scope`](Self::scope). It is 0 when the response
    /// asks for no wait, or says nothing: then a retry waits for its own back-off. It is never more
    /// than the longest hold that the reader was given.
    pub hold: u64,
    /// The wait that the response asks for, before the bound of [`hold`](Self::hold).
    pub asked: u64,
    /// What the hold is about.
    pub scope: HoldScope,
    /// The vendor's own name of the bucket that counted the call, such as the value of Discord's
    /// `X-RateLimit-Bucket`; empty when the response names none.
    pub bucket: &'a [u8],
    /// How much of the limit is left; `None` when the response does not say.
    pub remaining: Option<u64>,
    /// How much the limit allows in its window; `None` when the response does not say.
    pub limit: Option<u64>,
    /// The name of the limit that `limit`, `remaining`, `window` and `reset` are about, such as
    /// `tokens`, as it was given, so it is compared without case; empty when it has none. Of several limits it is the one that binds: a spent one
    /// with the latest reset, or else the one with the smallest share left.
    pub limit_name: &'a [u8],
    /// The length of the limit's window; `None` when the response does not say.
    pub window: Option<u64>,
    /// The time until the limit is reset; `None` when the response does not say.
    pub reset: Option<u64>,
    /// Whether the same call may succeed when it is made again, after the hold.
    pub should_retry: bool,
    /// Why the vendor refused, as far as it says.
    pub kind: SignalKind,
    /// The name of the header, or the path of the body's field, that the hold was read from, as it
    /// was given, so it is compared without case; empty when there is no hold, or when the profile gives it.
    pub source: &'a str,
}

impl<'a> Signal<'a> {
    /// Reads a response with the given status and headers. `now` is the wall clock, in nanoseconds
    /// since 1970; it is used only when the response has no `Date`. Holds are at most
    /// [`DEFAULT_MAX_HOLD`]. [`SignalReader`] also reads fields of a body.
    ///
    /// Names are compared without case. A header may come several times, in any order.
    pub fn parse<N, V>(
        status: u16,
        headers: impl IntoIterator<Item = (&'a N, &'a V)>,
        profile: &'a Profile<'a>,
        now: u64,
    ) -> Self
    where
        N: AsRef<[u8]> + ?Sized + 'a,
        V: AsRef<[u8]> + ?Sized + 'a,
    {
        let mut reader = SignalReader::new(status, profile);
        for (name, value) in headers {
            reader.header(name.as_ref(), value.as_ref());
        }
        reader.finish(now, DEFAULT_MAX_HOLD)
    }
}

/// What a hold is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldScope {
    /// Every call to the vendor, whoever makes it.
    Vendor,
    /// The calls with the same credential.
    Credential,
    /// The calls that the vendor counts together with this one: those of the same
    /// [`bucket`](Signal::bucket) where it names one, or else of the same endpoint.
    Bucket,
}

impl HoldScope {
    /// The name that every binding uses: `"vendor"`, `"credential"` or `"bucket"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vendor => "vendor",
            Self::Credential => "credential",
            Self::Bucket => "bucket",
        }
    }
}

/// Why a vendor refused a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignalKind {
    /// It did not refuse.
    Ok,
    /// Too many calls for a limit that comes back soon.
    Rate,
    /// Too many calls at a time; the rate may stay as it is.
    Concurrency,
    /// A quota is used up. Without a hold it does not come back by itself.
    Quota,
    /// The vendor is short of capacity, whoever calls.
    Overload,
    /// The vendor took the calls for abuse.
    Abuse,
    /// The credential does not allow the call.
    Auth,
    /// The vendor failed.
    Fault,
    /// The call itself is wrong.
    Refused,
}

impl SignalKind {
    /// The name that every binding uses, such as `"rate"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Rate => "rate",
            Self::Concurrency => "concurrency",
            Self::Quota => "quota",
            Self::Overload => "overload",
            Self::Abuse => "abuse",
            Self::Auth => "auth",
            Self::Fault => "fault",
            Self::Refused => "refused",
        }
    }

    /// The kind that a status alone tells.
    const fn of_status(status: u16) -> Self {
        match status {
            0..=399 => Self::Ok,
            402 => Self::Quota,
            408 | 500..=502 | 504..=528 | 530.. => Self::Fault,
            420 | 429 => Self::Rate,
            430 => Self::Abuse,
            401 | 403 | 407 => Self::Auth,
            503 | 529 => Self::Overload,
            400..=499 => Self::Refused,
        }
    }
}
