//! The files of `tests/vectors`; see the README there.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidegate_core::{Decision, Source, TierDecision, TieredDecision};

/// Traces of checks.
#[derive(Deserialize)]
pub struct DecideVectors {
    /// The traces.
    pub traces: Vec<Trace>,
}

/// Checks on buckets of one set of limits, in order.
#[derive(Deserialize)]
pub struct Trace {
    /// What the trace shows.
    pub name: String,
    /// Texts of the limits.
    pub limits: Vec<String>,
    /// The checks.
    pub steps: Vec<Step>,
}

/// One check.
#[derive(Deserialize)]
pub struct Step {
    /// The clock, in nanoseconds.
    pub at: String,
    /// The bucket.
    #[serde(default = "default_key")]
    pub key: String,
    /// Tokens.
    pub cost: u64,
    /// The decision, unless the check is an error.
    pub expect: Option<Expected>,
    /// The code of the error.
    pub error: Option<String>,
}

/// A decision as the vectors write it.
#[derive(Debug, Deserialize)]
#[serde(from = "Written")]
pub struct Expected {
    allowed: bool,
    binding: Tier,
    /// What each limit says; `None` in an answer that was not asked for it.
    tiers: Option<Vec<Tier>>,
}

/// What one limit says.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Tier {
    limit: u64,
    remaining: u64,
    retry_after: String,
    reset_after: String,
    tier: u8,
}

/// A decision in a file, where `tiers` is absent if there is only one limit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    allowed: bool,
    limit: u64,
    remaining: u64,
    retry_after: String,
    reset_after: String,
    tier: u8,
    tiers: Option<Vec<Tier>>,
}

impl From<Written> for Expected {
    fn from(written: Written) -> Self {
        let Written { allowed, limit, remaining, retry_after, reset_after, tier, tiers } = written;
        let binding = Tier { limit, remaining, retry_after, reset_after, tier };
        let tiers = tiers.unwrap_or_else(|| vec![binding.clone()]);
        Self { allowed, binding, tiers: Some(tiers) }
    }
}

impl From<TierDecision> for Tier {
    fn from(said: TierDecision) -> Self {
        Self {
            limit: said.limit,
            remaining: said.remaining,
            retry_after: said.retry_after.to_string(),
            reset_after: said.reset_after.to_string(),
            tier: said.tier,
        }
    }
}

impl PartialEq for Expected {
    fn eq(&self, other: &Self) -> bool {
        let said = |answer: &Self| answer.tiers.is_some();
        self.allowed == other.allowed
            && self.binding == other.binding
            && (!said(self) || !said(other) || self.tiers == other.tiers)
    }
}

impl Eq for Expected {}

/// Keys, and what stores keep of them.
#[derive(Deserialize)]
pub struct KeyVectors {
    /// The keys.
    pub keys: Vec<KeyCase>,
}

/// A key of any length and any bytes.
#[derive(Deserialize)]
pub struct KeyCase {
    /// What the key shows.
    pub name: String,
    hex: String,
    times: usize,
    stored: Option<String>,
    text: Option<String>,
}

impl KeyCase {
    /// The key as a caller gives it.
    ///
    /// # Panics
    /// When `hex` is not hexadecimal.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        let pairs = self.hex.as_bytes().chunks(2);
        let byte = |pair| {
            let digits = str::from_utf8(pair).expect("ASCII");
            u8::from_str_radix(digits, 16).expect("hexadecimal digits")
        };
        pairs.map(byte).collect::<Vec<u8>>().repeat(self.times)
    }

    /// What a store keeps of it.
    #[must_use]
    pub fn stored(&self) -> Vec<u8> {
        self.stored.as_ref().map_or_else(|| self.key(), |text| text.clone().into_bytes())
    }

    /// What a protocol of text carries of it.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        self.text.as_ref().map_or_else(|| self.key(), |text| text.clone().into_bytes())
    }
}

/// Texts of limits.
#[derive(Deserialize)]
pub struct GrammarVectors {
    /// Texts that mean a limit.
    pub valid: Vec<ValidLimit>,
    /// Texts that mean none.
    pub invalid: Vec<InvalidLimit>,
}

/// A text and the limit that it means.
#[derive(Deserialize)]
pub struct ValidLimit {
    /// The text.
    pub text: String,
    /// Tokens per period.
    pub tokens: u64,
    /// The period in nanoseconds.
    pub period: String,
    /// The burst.
    pub burst: u64,
    /// `smooth` or `stepped`.
    pub shape: String,
    /// The limit's canonical text.
    pub canonical: String,
}

/// A text and the bound that it breaks.
#[derive(Deserialize)]
pub struct InvalidLimit {
    /// The text.
    pub text: String,
    /// The bound's stable name.
    pub reason: String,
    /// What the message says to write instead.
    pub write: Option<String>,
}

/// The table of errors.
#[derive(Deserialize)]
pub struct ErrorVectors {
    /// All errors.
    pub errors: Vec<ErrorClass>,
}

/// One error.
#[derive(Deserialize)]
pub struct ErrorClass {
    /// The stable code.
    pub code: String,
    /// The class in every binding.
    pub class: String,
    /// The class that it derives from.
    pub base: Option<String>,
}

/// Keys and values of shared buckets.
#[derive(Deserialize)]
pub struct RedisVectors {
    /// Prefixes and keys, and the keys in Redis that they make.
    pub keys: Vec<RedisKey>,
    /// Values that Tidegate did not write.
    pub corrupt: Vec<String>,
}

/// A bucket's key in Redis.
#[derive(Deserialize)]
pub struct RedisKey {
    /// The limiter's prefix.
    pub prefix: String,
    /// The key that was checked.
    pub key: String,
    /// The key in Redis.
    pub redis_key: String,
}

impl Step {
    /// The clock as a number.
    pub fn now(&self) -> u64 {
        nanos(&self.at)
    }
}

impl Expected {
    /// Whether the call was allowed.
    pub fn allowed(&self) -> bool {
        self.allowed
    }
}

impl From<Decision> for Expected {
    fn from(decision: Decision) -> Self {
        let binding = TierDecision::from(&decision).into();
        Self { allowed: decision.allowed, binding, tiers: None }
    }
}

impl From<TieredDecision> for Expected {
    fn from(tiered: TieredDecision) -> Self {
        let tiers = tiered.tiers().iter().map(|said| (*said).into()).collect();
        Self { tiers: Some(tiers), ..Self::from(*tiered.decision()) }
    }
}

/// Compares one answer with its step. `source` is the source that the answer must have.
pub fn compare(
    trace: &Trace,
    step: &Step,
    answer: Result<TieredDecision, &str>,
    source: Source,
) -> Result<(), String> {
    let place = format!("{:?} at {} cost {}", trace.name, step.at, step.cost);
    match (answer, &step.expect, &step.error) {
        (Ok(decision), Some(expected), None) => {
            if decision.source != source {
                return Err(format!("{place}: came from {:?}", decision.source));
            }
            let got = Expected::from(decision);
            if got == *expected {
                Ok(())
            } else {
                Err(format!("{place}:\n expected {expected:?}\n      got {got:?}"))
            }
        }
        (Err(code), None, Some(expected)) if code == expected => Ok(()),
        (answer, expected, error) => {
            Err(format!("{place}: expected {expected:?} {error:?}, got {answer:?}"))
        }
    }
}

/// Reads one file of the vectors.
///
/// # Panics
/// When the file is missing or of another form.
pub fn load<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors").join(name);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A duration or time of the vectors.
///
/// # Panics
/// When it is not a number of nanoseconds.
pub fn nanos(text: &str) -> u64 {
    text.parse().unwrap_or_else(|error| panic!("{text:?} is not nanoseconds: {error}"))
}

fn default_key() -> String {
    "k".to_owned()
}
