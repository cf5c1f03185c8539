//! Scenarios: what arrives, who handles it, the limit, the vendor, and what should come of it.

mod expect;
mod file;
mod parts;
mod quantity;
mod shipped;

use serde::Deserialize;

pub use expect::{Bound, Expectation, Verdict};
pub use parts::{
    Arrivals, AsyncQueue, BatchMode, Fault, Function, Jitter, Limiter, OnStoreError, Pattern,
    Place, Pollers, Queue, Refusal, Source, Vendor, Window,
};
pub use quantity::{Latency, Rate, Share, Span};
pub use shipped::{Shipped, shipped};

/// A scenario. [`Scenario::parse`] reads one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name, with what the matrix chose.
    pub name: String,
    /// What it shows.
    #[serde(default)]
    pub about: String,
    /// The seed of the first run.
    #[serde(default = "one")]
    pub seed: u64,
    /// How many runs there are, with one seed after the other; at most 1000.
    #[serde(default = "one")]
    pub seeds: u64,
    /// When a run ends that has not come to its end.
    #[serde(default = "a_day")]
    pub lasts: Span,
    /// What was chosen so that the outcome fits a measured one.
    #[serde(default)]
    pub calibrated: Vec<String>,
    /// What arrives.
    pub source: Source,
    /// The queue that it waits in; either this or `async`.
    pub queue: Option<Queue>,
    /// The event source of the queue. Without it, workers that the limiter leads receive.
    pub pollers: Option<Pollers>,
    /// The queue of a function that is called without waiting for its answer.
    #[serde(rename = "async")]
    pub async_queue: Option<AsyncQueue>,
    /// What makes the calls.
    #[serde(default)]
    pub function: Function,
    /// The limit of ours.
    pub limiter: Option<Limiter>,
    /// What is called.
    pub vendor: Vendor,
    /// What goes wrong.
    #[serde(default, rename = "fault")]
    pub faults: Vec<Fault>,
    /// What should come of it.
    #[serde(default, deserialize_with = "expect::expectations", rename = "expect")]
    pub expectations: Vec<Expectation>,
    /// The hash of what it was read from.
    #[serde(skip)]
    pub hash: u64,
}

impl Scenario {
    /// Reads a scenario, or those that its `[matrix]` makes of it. `extends` names a shipped one, from which
    /// everything comes that the text leaves out.
    ///
    /// # Errors
    /// A text that is no TOML, a field that does not exist (with the nearest that does), a value out of its
    /// bounds, and parts that do not go together.
    ///
    /// ```
    /// use tidegate_sim::scenario::Scenario;
    /// let slow = Scenario::parse("extends = 'seed001-s3'\nqueue.visibility = '60s'").unwrap();
    /// assert_eq!(slow[0].source.messages, 1000);
    /// let error = Scenario::parse("extends = 'seed001-s3'\nqueue.visiblity = '60s'").unwrap_err();
    /// assert!(error.contains("did you mean `visibility`?"), "{error}");
    /// ```
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        file::parse(text, &[])
    }

    /// [`parse`](Self::parse), with values changed before the matrix is looked at: a path such as
    /// `queue.visibility`, and a value such as `10s`.
    ///
    /// # Errors
    /// The errors of [`parse`](Self::parse), and one for a path or a value that is wrong.
    ///
    /// ```
    /// use tidegate_sim::scenario::{Scenario, Span, shipped};
    /// let changes = [("queue.visibility".to_owned(), "60s".to_owned())];
    /// let text = shipped().iter().find(|each| each.name == "seed001-s3").unwrap().text;
    /// let changed = Scenario::parse_with(text, &changes).unwrap();
    /// assert_eq!(changed[0].queue.as_ref().unwrap().visibility, Span(60_000_000_000));
    /// ```
    pub fn parse_with(text: &str, changes: &[(String, String)]) -> Result<Vec<Self>, String> {
        file::parse(text, changes)
    }

    fn check(&self) -> Result<(), String> {
        let wrong = |text: &str| Err(text.to_owned());
        if self.source.messages == 0 || self.source.messages > 10_000_000 {
            return wrong("source.messages: it is 1 to 10000000");
        }
        if self.seeds == 0 || self.seeds > 1000 {
            return wrong("seeds: it is 1 to 1000");
        }
        if self.function.concurrency == 0 || self.function.batch == 0 {
            return wrong("function: concurrency and batch are at least 1");
        }
        if self.function.batch > 10_000 || self.function.concurrency > 1_000_000 {
            return wrong("function: a batch is at most 10000, a concurrency at most 1000000");
        }
        if self.function.timeout.0 == 0 {
            return wrong("function.timeout: it is more than 0");
        }
        let needs_rate = matches!(self.source.pattern, Pattern::Rate | Pattern::Spike);
        if needs_rate && self.source.rate.is_none() {
            return wrong("source.rate: it is missing");
        }
        if self.source.pattern == Pattern::Spike && self.source.spike.0 == 0 {
            return wrong("source.spike: it is missing, how long a spike lasts");
        }
        if self.source.every.is_some_and(|every| every <= self.source.spike) {
            return wrong("source.every: it is longer than a spike");
        }
        if self.source.pattern == Pattern::Trace && self.source.times.is_empty() {
            return wrong("source.times: it is missing");
        }
        let place = self.limiter.as_ref().map(|limiter| limiter.place);
        match (&self.queue, &self.async_queue, &self.pollers, place) {
            (None, None, ..) | (Some(_), Some(_), ..) => {
                return wrong("write one of [queue] and [async]");
            }
            (None, Some(_), Some(_), _) => return wrong("[pollers] receive from a [queue]"),
            (None, Some(_), None, Some(Place::BeforeReceive)) => {
                return wrong("limiter.where: before-receive takes a [queue]");
            }
            (Some(_), None, Some(_), Some(Place::BeforeReceive)) => {
                return wrong(
                    "limiter.where: before-receive takes no [pollers], its workers receive",
                );
            }
            (Some(_), None, None, None | Some(Place::InFunction)) => {
                return wrong(
                    "a [queue] takes [pollers], or a [limiter] where = \"before-receive\"",
                );
            }
            (None, Some(_), None, None | Some(Place::InFunction))
            | (Some(_), None, Some(_), None | Some(Place::InFunction))
            | (Some(_), None, None, Some(Place::BeforeReceive)) => {}
        }
        if self
            .queue
            .as_ref()
            .is_some_and(|queue| queue.max_receives == 0 || queue.visibility.0 == 0)
        {
            return wrong("queue: visibility and max_receives are more than 0");
        }
        if let Some(pollers) = &self.pollers
            && (pollers.start == 0 || pollers.most < pollers.start || pollers.retry.0 == 0)
        {
            return wrong("pollers: start and retry are more than 0, and most is at least start");
        }
        if let Some(limiter) = &self.limiter {
            if limiter.nodes == 0 || limiter.nodes > self.function.concurrency {
                return wrong("limiter.nodes: it is 1 to function.concurrency");
            }
            if limiter.place == Place::BeforeReceive && self.function.batch != 1 {
                return wrong(
                    "function.batch: a worker of before-receive takes one message a slot",
                );
            }
        }
        if self.faults.iter().any(|fault| fault.store_down && fault.lasts.0 == 0) {
            return wrong("fault.lasts: it is missing, how long the store is down");
        }
        if self.faults.iter().any(|fault| fault.limit.is_some()) && self.limiter.is_none() {
            return wrong("fault.limit: there is no [limiter] to change");
        }
        Ok(())
    }
}

const fn one() -> u64 {
    1
}

const fn a_day() -> Span {
    Span(86_400_000_000_000)
}
