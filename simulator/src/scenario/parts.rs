//! The parts of a scenario, as its file writes them.

use serde::Deserialize;
use serde::de::{self, Deserializer};
use tidegate_core::Limit;

use super::quantity::{Latency, Rate, Share, Span};

const SECOND: u64 = 1_000_000_000;

/// What arrives.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The messages in all, at most ten million.
    pub messages: u32,
    /// How they arrive.
    #[serde(default)]
    pub pattern: Pattern,
    /// How many arrive in a time; needed unless the pattern is a burst or a trace.
    pub rate: Option<Rate>,
    /// Whether they arrive evenly or at random.
    #[serde(default)]
    pub arrivals: Arrivals,
    /// How long a spike lasts.
    #[serde(default)]
    pub spike: Span,
    /// The time from the start of a spike to the start of the next. Without it there is one.
    pub every: Option<Span>,
    /// The times of a trace, from the beginning; the messages after the last of them arrive with it.
    #[serde(default)]
    pub times: Vec<Span>,
    /// The age at which a message is worth nothing any more.
    pub deadline: Option<Span>,
}

/// How messages arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// All at the beginning.
    #[default]
    Burst,
    /// With a rate.
    Rate,
    /// With a rate, for a while; nothing until the next spike.
    Spike,
    /// At given times.
    Trace,
}

/// When the messages of a rate arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// With equal times between them.
    #[default]
    Even,
    /// With exponentially distributed times between them (Poisson).
    Random,
}

/// A queue that hides a message when it gives it, and gives it again if it is not deleted by then.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// For how long a message is hidden.
    pub visibility: Span,
    /// How often a message is given before it is put aside.
    #[serde(default = "no_bound")]
    pub max_receives: u32,
}

/// The event source that receives from the queue and starts the function.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pollers {
    /// Receivers at the beginning.
    pub start: u32,
    /// Receivers that are added in a minute while messages wait.
    pub per_minute: u32,
    /// The most receivers.
    pub most: u32,
    /// How long it takes to receive.
    pub receive: Span,
    /// The longest wait before a batch is offered again that the function had no room for. It is half to all of it.
    pub retry: Span,
}

impl Default for Pollers {
    fn default() -> Self {
        let (receive, retry) = (Span(SECOND / 100), Span(SECOND));
        Self { start: 5, per_minute: 300, most: 1250, receive, retry }
    }
}

/// A queue of its own for each function, without a size: what the function has no room for is offered again.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AsyncQueue {
    /// The first wait; each further one is twice as long.
    pub first: Span,
    /// The longest wait.
    pub most: Span,
    /// How the waits are spread.
    pub jitter: Jitter,
    /// The age after which a message is given up.
    pub gives_up: Span,
    /// How often a message is handled again after an error, after one minute and then two.
    pub error_retries: u32,
}

impl Default for AsyncQueue {
    fn default() -> Self {
        Self {
            first: Span(SECOND),
            most: Span(300 * SECOND),
            jitter: Jitter::Equal,
            gives_up: Span(6 * 3600 * SECOND),
            error_retries: 2,
        }
    }
}

/// How a back-off is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Jitter {
    /// From nothing to all of it.
    Full,
    /// From half to all of it.
    Equal,
    /// All of it.
    None,
}

/// The program that makes the calls, in batches.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Function {
    /// The batches that run at a time.
    pub concurrency: u32,
    /// The most messages in a batch.
    pub batch: u32,
    /// How the calls of a batch are made.
    pub mode: BatchMode,
    /// The time of a batch before its calls.
    pub overhead: Latency,
    /// The further time of the first batch of an instance.
    pub cold_start: Latency,
    /// The time after which a batch is ended and its messages come back.
    pub timeout: Span,
}

impl Default for Function {
    fn default() -> Self {
        Self {
            concurrency: 1,
            batch: 1,
            mode: BatchMode::Parallel,
            overhead: Latency::default(),
            cold_start: Latency::default(),
            timeout: Span(900 * SECOND),
        }
    }
}

/// How the calls of a batch are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchMode {
    /// All at once.
    Parallel,
    /// One after the other.
    Sequential,
}

/// A limit of Tidegate, in one bucket that all share.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limiter {
    /// The limit.
    #[serde(deserialize_with = "limit")]
    pub limit: Limit,
    /// Where it is asked.
    #[serde(rename = "where", default)]
    pub place: Place,
    /// The processes that ask. The concurrency is divided among them.
    #[serde(default = "one")]
    pub nodes: u32,
    /// The time of a round trip to the store.
    #[serde(default)]
    pub round_trip: Latency,
    /// What is done while the store cannot be reached.
    #[serde(default)]
    pub on_store_error: OnStoreError,
}

/// Where a limit is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Before a message is received: the workers take a permit and a slot, and only then a message.
    #[default]
    BeforeReceive,
    /// In the function, before each call.
    InFunction,
}

/// What is done while the store of a limit cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnStoreError {
    /// No call is made; the store is asked again after a second.
    #[default]
    Wait,
    /// Calls are made without a limit.
    Allow,
}

/// The service that is called.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vendor {
    /// Its limit, such as `10/s`; without one it takes everything.
    #[serde(default, deserialize_with = "some_limit")]
    pub limit: Option<Limit>,
    /// How it counts.
    #[serde(default)]
    pub window: Window,
    /// How it refuses.
    #[serde(default)]
    pub refusal: Refusal,
    /// Whether a call that it refuses counts too.
    #[serde(default)]
    pub counts_refused: bool,
    /// How long a call takes once it has arrived.
    #[serde(default)]
    pub latency: Latency,
    /// How long a call takes to arrive.
    #[serde(default)]
    pub network: Latency,
    /// How long a refusal takes.
    #[serde(default)]
    pub refusal_latency: Latency,
    /// The share of calls that fail for another reason.
    #[serde(default)]
    pub failures: Share,
}

/// How a vendor counts calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Window {
    /// The calls of the last window, whenever it began.
    #[default]
    Sliding,
    /// The calls since the last whole multiple of the window.
    Fixed,
    /// A token bucket.
    Bucket,
}

/// How a vendor refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The calls above the limit are only counted.
    #[default]
    Never,
    /// With the status 429.
    Status,
    /// With the status 429 and `Retry-After` in whole seconds.
    RetryAfter,
}

/// Something that happens at a time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When.
    pub at: Span,
    /// For how long; needed with `store`.
    #[serde(default)]
    pub lasts: Span,
    /// The store cannot be reached.
    #[serde(default)]
    pub store_down: bool,
    /// This many batches end at once, the oldest first, and their messages come back in time.
    #[serde(default)]
    pub crash: u32,
    /// The vendor's limit becomes this.
    #[serde(default, deserialize_with = "some_limit")]
    pub vendor_limit: Option<Limit>,
    /// Calls take so long from now on.
    pub vendor_latency: Option<Latency>,
    /// Our limit becomes this.
    #[serde(default, deserialize_with = "some_limit")]
    pub limit: Option<Limit>,
    /// The store's clock is so much ahead from now on, or behind with a minus.
    #[serde(default, deserialize_with = "signed")]
    pub clock: i64,
}

const fn no_bound() -> u32 {
    u32::MAX
}

const fn one() -> u32 {
    1
}

fn limit<'de, D: Deserializer<'de>>(from: D) -> Result<Limit, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|error| de::Error::custom(format_args!("{text:?}: {error}")))
}

fn some_limit<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Limit>, D::Error> {
    limit(from).map(Some)
}

fn signed<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    let text = String::deserialize(from)?;
    let (sign, time) = text.strip_prefix('-').map_or((1, text.as_str()), |time| (-1, time));
    let span = Span::parse(time).map_err(de::Error::custom)?;
    Ok(sign * i64::try_from(span.0).unwrap_or(i64::MAX))
}
