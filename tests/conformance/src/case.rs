//! One step of the Lua twin, and what the engine makes of it.

use tidegate::redis::{check_arguments, value};
use tidegate_core::{Cells, Limit, decide_tiers};

use crate::lua_twin::Outcome;

const MILLI: u64 = 1_000_000;

/// One step: a bucket's value, the clock, the limits and the cost.
#[derive(Clone, Debug)]
pub struct Case {
    /// The server's clock, in nanoseconds.
    pub now: u64,
    /// What the bucket's key holds.
    pub value: Option<Vec<u8>>,
    /// The limiter's limits.
    pub limits: Vec<Limit>,
    /// Tokens, at most the smallest burst.
    pub cost: u64,
}

impl Case {
    /// `ARGV` of the script.
    pub fn arguments(&self) -> Vec<String> {
        check_arguments(&self.limits, self.cost)
    }

    /// Whether the script did what the engine does.
    ///
    /// # Errors
    /// Says how they differ.
    pub fn compare(&self, outcome: &Outcome) -> Result<(), String> {
        let expected = self.expected();
        let same = match (&expected, outcome) {
            (Expected::Corrupt, Outcome::Failed(error)) => error.starts_with("CORRUPT "),
            (Expected::Unchanged, Outcome::Refused) => true,
            (Expected::Written { value, full_in }, Outcome::Wrote(wrote, ttl)) => {
                wrote == value.as_bytes() && *ttl == ttl_for(*full_in)
            }
            _ => false,
        };
        if same { Ok(()) } else { Err(self.differs(&expected, &format!("{outcome:?}"))) }
    }

    /// The same for a run in Redis: its reply, and the key's value and TTL after it.
    ///
    /// # Errors
    /// Says how they differ.
    pub fn compare_redis(
        &self,
        reply: redis::RedisResult<redis::Value>,
        after: Option<Vec<u8>>,
        ttl: i64,
    ) -> Result<(), String> {
        let expected = self.expected();
        let same = match (&expected, &reply) {
            (Expected::Corrupt, Err(error)) => {
                error.code() == Some("CORRUPT") && after == self.value
            }
            (Expected::Unchanged, Ok(_)) => after == self.value,
            (Expected::Written { value, full_in }, Ok(_)) => {
                let expired = after.is_none() && *full_in < 50 * MILLI;
                let ttl = u64::try_from(ttl).unwrap_or(0);
                let kept = after.as_deref() == Some(value.as_bytes())
                    && (ttl_for(*full_in).saturating_sub(1_000)..=ttl_for(*full_in)).contains(&ttl);
                expired || kept
            }
            _ => false,
        };
        let got = || format!("{reply:?}, then {after:?} with a TTL of {ttl} ms");
        if same { Ok(()) } else { Err(self.differs(&expected, &got())) }
    }

    fn expected(&self) -> Expected {
        let cells = match &self.value {
            None => Some(Cells::default()),
            Some(bytes) => core::str::from_utf8(bytes)
                .ok()
                .and_then(|text| value::read(text, &self.limits, self.now)),
        };
        let Some(mut cells) = cells else { return Expected::Corrupt };
        let decision = decide_tiers(&self.limits, &mut cells, self.now, self.cost)
            .expect("the cost is at most the burst");
        if !decision.allowed || self.cost == 0 {
            return Expected::Unchanged;
        }
        let full_in = self.limits.iter().zip(cells).map(|(limit, cell)| {
            let timeline = limit.timeline();
            timeline.until(self.now, cell - timeline.position(self.now))
        });
        Expected::Written {
            value: value::write(&cells, &self.limits, self.now),
            full_in: full_in.max().unwrap_or(0),
        }
    }

    fn differs(&self, expected: &Expected, got: &str) -> String {
        let limits: Vec<String> = self.limits.iter().map(Limit::to_string).collect();
        let value = self.value.as_deref().map(String::from_utf8_lossy);
        format!(
            "bucket {value:?} at {} with {limits:?}, cost {}: expected {expected:?}, got {got}",
            self.now, self.cost
        )
    }
}

#[derive(Debug)]
enum Expected {
    Corrupt,
    Unchanged,
    Written { value: String, full_in: u64 },
}

/// The TTL that keeps a bucket until it is full: whole milliseconds, rounded up,
/// and one for the part of a millisecond that an expiry's clock does not show.
fn ttl_for(full_in: u64) -> u64 {
    full_in.div_ceil(MILLI) + 1
}
