//! What a plan is made from.

use core::fmt;

/// Everything that is known; what is not known is left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// The vendor's limit.
    pub vendor: Vendor,
    /// Calls that arrive in a second, on average and at random.
    pub arrivals: Option<f64>,
    /// What arrives for a while at the beginning, in place of `arrivals`.
    pub spike: Option<Spike>,
    /// Calls that wait at the beginning, such as the messages in a queue.
    pub backlog: u64,
    /// The age at which a waiting call is worth nothing any more, in nanoseconds.
    pub deadline: Option<u64>,
    /// How long calls take, and how often they fail.
    pub call: Call,
    /// The program that makes the calls.
    pub host: Option<Host>,
}

impl Inputs {
    /// Inputs with nothing but the vendor's limit.
    pub const fn new(vendor: Vendor) -> Self {
        let call = Call { min: 0, typical: 0, p99: 0, p999: 0, failures: 0.0 };
        Self { vendor, arrivals: None, spike: None, backlog: 0, deadline: None, call, host: None }
    }

    /// Calls that are sent in a second, with those that are repeated because they failed.
    pub(super) fn sent_per_second(&self) -> Option<f64> {
        self.arrivals.map(|arrivals| arrivals / (1.0 - self.call.failures))
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let is_rate = |rate: f64| rate.is_finite() && rate >= 0.0;
        if self.vendor.burst == 0 || self.vendor.burst > self.vendor.calls {
            return Err(Error::Burst { burst: self.vendor.burst, calls: self.vendor.calls });
        }
        if !(0.0..1.0).contains(&self.call.failures) {
            return Err(Error::Failures(self.call.failures));
        }
        if !self.arrivals.is_none_or(is_rate)
            || !self.spike.as_ref().is_none_or(|spike| is_rate(spike.rate))
        {
            return Err(Error::Rate);
        }
        if self.host.as_ref().is_some_and(|host| host.batch == 0 || host.concurrency == Some(0)) {
            return Err(Error::Host);
        }
        if self.host.is_some() && self.call.p99.max(self.call.typical) == 0 {
            return Err(Error::Latency);
        }
        Ok(())
    }
}

/// At most `calls` in any `window`, as the vendor counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vendor {
    /// Calls in a window.
    pub calls: u64,
    /// The window, in nanoseconds.
    pub window: u64,
    /// How much longer one call may take to arrive than another, in nanoseconds.
    pub jitter: u64,
    /// How many calls may be made at once, 1 to `calls`. The more, the lower the rate that is safe.
    pub burst: u64,
}

/// A spike of arrivals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spike {
    /// All calls that arrive in a second while it lasts.
    pub rate: f64,
    /// How long it lasts, in nanoseconds.
    pub length: u64,
}

/// The durations of a call in nanoseconds, 0 where they are not known, and the share that fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    /// The shortest.
    pub min: u64,
    /// The median.
    pub typical: u64,
    /// The one that 1 in 100 exceeds.
    pub p99: u64,
    /// The one that 1 in 1000 exceeds.
    pub p999: u64,
    /// The share of calls that fail and are made again, from 0 to below 1.
    pub failures: f64,
}

/// A program that takes batches of messages and makes a call for each message, such as a Lambda function.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Messages in a batch, at least 1.
    pub batch: u64,
    /// How the calls of a batch are made; `None` when that is not known.
    pub mode: Option<Mode>,
    /// The time of a batch beside its calls, in nanoseconds.
    pub overhead: u64,
    /// The batches that may run at a time, if that is fixed already; at least 1.
    pub concurrency: Option<u64>,
    /// The longest time that a batch may take, in nanoseconds, if it is fixed already.
    pub timeout: Option<u64>,
    /// The time for which the queue hides a message that has been received, in nanoseconds, if it is fixed.
    pub visibility: Option<u64>,
    /// How often the queue gives a message before it is put aside, if it is fixed.
    pub max_receives: Option<u64>,
    /// Whether a queue's event source starts the batches, as with SQS and Lambda.
    pub is_event_source: bool,
    /// Whether that event source has provisioned pollers.
    pub is_provisioned: bool,
}

/// How the calls of a batch are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All at once.
    Parallel,
    /// One after the other.
    Sequential,
}

/// An input that no plan can be made from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// The burst is not 1 to the vendor's calls in a window.
    Burst {
        /// The burst.
        burst: u64,
        /// The vendor's calls in a window.
        calls: u64,
    },
    /// The share of calls that fail is not from 0 to below 1.
    Failures(f64),
    /// A rate is negative or no number.
    Rate,
    /// A batch of no message, or a concurrency of 0.
    Host,
    /// A host is planned for, and it is not said how long a call takes.
    Latency,
    /// The vendor's limit has no limit of Tidegate that keeps it.
    Limit(tidegate_core::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Burst { burst, calls } => {
                write!(
                    out,
                    "burst: found {burst}; it is 1 to the vendor's calls in a window, {calls}"
                )
            }
            Self::Failures(share) => {
                write!(out, "failures: found {share}; the share is from 0 to below 1")
            }
            Self::Rate => out.write_str("arrivals: a rate is a number of at least 0"),
            Self::Latency => out.write_str(
                "latency: it takes the time of a call to plan the program that makes it",
            ),
            Self::Host => out.write_str("batch and concurrency are at least 1"),
            Self::Limit(error) => write!(out, "the vendor's limit: {error}"),
        }
    }
}

impl core::error::Error for Error {}
