//! A vendor's profile: what its headers and body fields mean, as data.

use super::HoldScope;
use super::profiles::HOSTS;

/// What a vendor's headers and body fields mean, beyond the standard ones and the usual names
/// (`X-RateLimit-*` and the like), which every profile reads.
///
/// ```
/// use tidegate_core::{Meaning, Profile, Row, Signal};
/// let rows = [
///     Row::new("Acme-Calls-Left", Meaning::Remaining),
///     Row::new("Acme-Next-Window", Meaning::Reset),
/// ];
/// let acme = Profile { rows: &rows, ..Profile::GENERIC };
/// let headers = [("acme-calls-left", "0"), ("acme-next-window", "30s")];
/// assert_eq!(Signal::parse(200, headers, &acme, 0).hold, 30_000_000_000);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Profile<'a> {
    /// The name by which [`Profile::named`] finds a built-in profile.
    pub name: &'a str,
    /// Headers and body fields of the vendor. A row replaces the meaning that a header of this name
    /// otherwise has.
    pub rows: &'a [Row<'a>],
    /// What a hold is about, unless the response says it.
    pub scope: HoldScope,
    /// What is added to a hold that ends with the reset of a window, in nanoseconds.
    pub margin: u64,
    /// Whether a limit refills evenly until its reset, so that a spent one has a token again after
    /// the reset's share for one, and not only after all of it.
    pub refills: bool,
    /// The hold after a refusal for its rate that says nothing about it, in nanoseconds.
    pub unstated_hold: u64,
}

impl Profile<'static> {
    /// The built-in profile of this name; `None` if there is none.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::BUILT_IN.iter().find(|profile| profile.name == name)
    }

    /// The built-in profile of the vendor whose API has this host, in any case and without a port;
    /// `None` if it is not known. A name below a vendor's domain counts too.
    ///
    /// ```
    /// use tidegate_core::Profile;
    /// assert_eq!(Profile::of_host("API.GitHub.com").map(|profile| profile.name), Some("github"));
    /// assert!(Profile::of_host("api.notgithub.com").is_none());
    /// ```
    pub fn of_host(host: &str) -> Option<&'static Self> {
        let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
        let is_in = |domain: &[u8]| {
            let Some(before) = host.len().checked_sub(domain.len()) else { return false };
            let (front, end) = host.split_at(before);
            end.eq_ignore_ascii_case(domain) && (front.is_empty() || front.ends_with(b"."))
        };
        let (_, name) = HOSTS.iter().find(|(domain, _)| is_in(domain.as_bytes()))?;
        Self::named(name)
    }
}

/// What one header, or one field of a body, means.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The header's name, in any case. `body.` and a path stands for a field of the body: the path
    /// is its name after those of the objects that it is in, with dots, and the first may be left out.
    pub header: &'a str,
    /// What its value says.
    pub meaning: Meaning,
    /// What a plain number in it counts.
    pub unit: Unit,
    /// The limit that it is about, if the vendor has several. `second`, `minute`, `hour`, `day` and
    /// `month` tell also the window of the limit.
    pub group: &'a str,
}

impl<'a> Row<'a> {
    /// A row with the unit [`Unit::Auto`] and no group.
    pub const fn new(header: &'a str, meaning: Meaning) -> Self {
        Self { header, meaning, unit: Unit::Auto, group: "" }
    }

    /// The row with this unit.
    pub const fn unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    /// The row with this group.
    pub const fn group(self, group: &'a str) -> Self {
        Self { group, ..self }
    }
}

/// What the value of a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// The time until the next call may be made, or the point in time.
    RetryAfter,
    /// How much a limit allows in its window, perhaps with the window as in `100;w=60`.
    Limit,
    /// How much of a limit is left.
    Remaining,
    /// The time until a limit is reset, or the point in time.
    Reset,
    /// The length of a limit's window.
    Window,
    /// How much of a limit is used, and the limit, as in `39/40`.
    UsedOfLimit,
    /// The vendor's name of the bucket that counted the call.
    Bucket,
    /// Whether a limit of all calls with the credential was hit (`true`).
    Global,
    /// A word that tells why the call was refused, such as `endpoint-rate`.
    Reason,
    /// Whether the call should be made again (`true` or `false`).
    ShouldRetry,
    /// What the call costs, where a limit counts points.
    Cost,
    /// How many points of a limit come back in a second.
    RestoreRate,
    /// The name of a limit that the call broke.
    Violated,
}

impl Meaning {
    /// The meaning of this name, in the spelling of `as_str`; `None` if there is none.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|meaning| meaning.as_str() == name)
    }

    /// The name that every binding uses, such as `"used_of_limit"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RetryAfter => "retry_after",
            Self::Limit => "limit",
            Self::Remaining => "remaining",
            Self::Reset => "reset",
            Self::Window => "window",
            Self::UsedOfLimit => "used_of_limit",
            Self::Bucket => "bucket",
            Self::Global => "global",
            Self::Reason => "reason",
            Self::ShouldRetry => "should_retry",
            Self::Cost => "cost",
            Self::RestoreRate => "restore_rate",
            Self::Violated => "violated",
        }
    }

    const ALL: [Self; 13] = [
        Self::RetryAfter,
        Self::Limit,
        Self::Remaining,
        Self::Reset,
        Self::Window,
        Self::UsedOfLimit,
        Self::Bucket,
        Self::Global,
        Self::Reason,
        Self::ShouldRetry,
        Self::Cost,
        Self::RestoreRate,
        Self::Violated,
    ];
}

/// What a plain number counts, where a time is meant. Durations with units (`6m0s`) and dates are
/// read as such whatever the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// By its size: milliseconds since 1970 from 10^11 on, seconds since 1970 from 10^9 on, and else
    /// seconds from now.
    Auto,
    /// Seconds from now.
    Seconds,
    /// Milliseconds from now.
    Milliseconds,
    /// Seconds since 1970.
    EpochSeconds,
    /// Milliseconds since 1970.
    EpochMilliseconds,
}

impl Unit {
    /// The unit of this name, in the spelling of `as_str`; `None` if there is none.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [
            Self::Auto,
            Self::Seconds,
            Self::Milliseconds,
            Self::EpochSeconds,
            Self::EpochMilliseconds,
        ];
        all.into_iter().find(|unit| unit.as_str() == name)
    }

    /// The name that every binding uses, such as `"epoch_seconds"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::EpochSeconds => "epoch_seconds",
            Self::EpochMilliseconds => "epoch_milliseconds",
        }
    }
}
