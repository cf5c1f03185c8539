//! The counters of one rule. There are as many as rules, whatever clients send.

use tidegate::Decision;

use crate::counters::Counter;

/// What a rule has decided since the service started, also by limits that descriptors bring under it.
#[derive(Debug, Default)]
pub(crate) struct RuleCounters {
    /// Descriptors, also those that could not be decided.
    pub(crate) descriptors: Counter,
    /// Descriptors that were allowed and left enough.
    pub(crate) within: Counter,
    /// Descriptors that were allowed and left less.
    pub(crate) near: Counter,
    /// Descriptors above the limit.
    pub(crate) over: Counter,
    /// Descriptors above the limit that were let pass, because the rule or the service only counts.
    pub(crate) shadow: Counter,
}

impl RuleCounters {
    /// Counts a decision.
    pub(crate) fn count(&self, decision: &Decision, near_limit: NearLimit) {
        match decision {
            Decision { allowed: false, .. } => self.over.increment(),
            decision if near_limit.is_reached(decision) => self.near.increment(),
            _ => self.within.increment(),
        }
    }
}

/// The part of a limit from which a descriptor is near it, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NearLimit(u32);

impl NearLimit {
    const WHOLE: u32 = 1_000_000;

    /// The part from a text such as `0.8`.
    ///
    /// # Errors
    /// A sentence that names the bound.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let part: f64 = text.parse().map_err(|_| "write a number such as 0.8".to_owned())?;
        match (0.0..=1.0).contains(&part) {
            true => Ok(Self((part * f64::from(Self::WHOLE)) as u32)),
            false => Err("it must be 0 to 1".to_owned()),
        }
    }

    /// Whether more than this part of the burst is spent.
    fn is_reached(self, decision: &Decision) -> bool {
        let spent = decision.limit.saturating_sub(decision.remaining);
        u128::from(spent) * u128::from(Self::WHOLE)
            > u128::from(decision.limit) * u128::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use tidegate::Limiter;

    use super::*;

    #[test]
    fn decisions_are_within_near_or_over_the_limit() -> Result<(), String> {
        let near_limit = NearLimit::parse("0.8")?;
        let build = |limit: &str| {
            let limiter = Limiter::builder().limit(limit).build();
            limiter.map_err(|error| error.to_string())
        };
        for (limit, expected) in
            [("10/d", [8, 2, 2]), ("unlimited", [12, 0, 0]), ("none", [0, 0, 12])]
        {
            let (limiter, counters) = (build(limit)?, RuleCounters::default());
            for _ in 0..12 {
                let decision = limiter.check("k", 1).map_err(|error| error.to_string())?;
                counters.count(&decision, near_limit);
            }
            let RuleCounters { within, near, over, .. } = &counters;
            assert_eq!([within.get(), near.get(), over.get()], expected, "{limit}");
        }
        assert!(NearLimit::parse("1.1").is_err() && NearLimit::parse("nan").is_err());
        assert!(NearLimit::parse("much").is_err());
        Ok(())
    }
}
