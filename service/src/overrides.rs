//! The limiters of limits that descriptors bring themselves (`limit` in Envoy's protocol).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;
use tidegate::{Limit, Limiter, NamedLimit};

use crate::store_options::StoreOptions;

/// The most limiters, one for each prefix and limit. Limits come from Envoy's configuration, so there
/// are about as many as there are plans.
const MAX_LIMITERS: usize = 1000;

/// The limiters of the limits that descriptors have brought so far.
#[derive(Debug)]
pub(crate) struct Overrides {
    store_options: StoreOptions,
    /// The largest limit that a descriptor may bring.
    most: Limit,
    limiters: Mutex<BTreeMap<(String, String), Limiter>>,
}

impl Overrides {
    pub(crate) fn new(store_options: &StoreOptions, most: Limit) -> Self {
        let store_options = store_options.without_leases();
        Self { store_options, most, limiters: Mutex::default() }
    }

    /// The limiter of a limit that a descriptor brings under a rule with this prefix. All limits under
    /// one prefix share their buckets on Redis, so that a change of plan keeps the debt; they share none
    /// with the rule itself.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the limit.
    pub(crate) fn limiter(
        &self,
        prefix: &str,
        asked: &RateLimitOverride,
    ) -> Result<Limiter, String> {
        let text = self.limit(asked)?;
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = limiters.len() >= MAX_LIMITERS;
        let name = (format!("{prefix}/override"), text);
        if let Some(limiter) = limiters.get(&name) {
            return Ok(limiter.clone());
        }
        if is_full {
            return Err(format!("there are {MAX_LIMITERS} other limits already"));
        }
        let limit = NamedLimit::parse(&name.1, None).map_err(|error| error.to_string())?;
        let limiter = self.store_options.limiter(&name.0).add_limit(limit).build();
        let limiter = limiter.map_err(|error| error.to_string())?;
        limiters.insert(name, limiter.clone());
        Ok(limiter)
    }

    /// The text of the limit, at most the largest one.
    fn limit(&self, asked: &RateLimitOverride) -> Result<String, String> {
        let tokens = asked.requests_per_unit;
        if tokens == 0 {
            return Ok("none".to_owned());
        }
        let unit = match asked.unit {
            1 => "s",
            2 => "min",
            3 => "h",
            4 => "d",
            // A smooth limit cannot be this long, and the months of a calendar have several lengths.
            5 => "30d window",
            6 => "365d window",
            7 => "w",
            unit => return Err(format!("{unit} is not a unit of time of the protocol")),
        };
        let text = format!("{tokens}/{unit}");
        let limit = Limit::parse(&text).map_err(|error| error.to_string())?;
        // As products, because a quotient would be rounded.
        let rate =
            |limit: &Limit, other: &Limit| u128::from(limit.tokens()) * u128::from(other.period());
        let is_above = rate(&limit, &self.most) > rate(&self.most, &limit);
        let is_larger = limit.burst() > self.most.burst();
        Ok(if is_above || is_larger { self.most.to_string() } else { text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ServeOptions;

    #[test]
    fn a_limit_is_taken_up_to_the_largest() -> Result<(), String> {
        let words = ["tidegate", "serve", "--limit", "1/s", "--store", "memory://"];
        let options = ServeOptions::parse_words(&words)?;
        let store_options = StoreOptions::open(&options)?;
        let most = Limit::parse("100/min burst 50").map_err(|error| error.to_string())?;
        let overrides = Overrides::new(&store_options, most);
        let limit = |requests_per_unit, unit| {
            overrides.limit(&RateLimitOverride { requests_per_unit, unit })
        };
        for (count, unit, expect) in [
            (0, 1, "none"),
            (1, 1, "1/s"),
            (2, 1, "100/min burst 50"),
            (50, 2, "50/min"),
            (51, 2, "100/min burst 50"),
            (50, 3, "50/h"),
            (50, 4, "50/d"),
            (50, 5, "50/30d window"),
            (50, 6, "50/365d window"),
            (50, 7, "50/w"),
        ] {
            assert_eq!(limit(count, unit), Ok(expect.to_owned()), "{count} {unit}");
        }
        assert!(limit(1, 0).is_err() && limit(1, 8).is_err());

        let asked = |requests_per_unit| RateLimitOverride { requests_per_unit, unit: 3 };
        for number in 1..=50 {
            overrides.limiter("p", &asked(number))?;
            overrides.limiter("p", &asked(number))?;
        }
        assert_eq!(overrides.limiters.lock().map(|it| it.len()).ok(), Some(50));
        for number in 0..19 {
            for limit in 1..=50 {
                overrides.limiter(&number.to_string(), &asked(limit))?;
            }
        }
        assert!(overrides.limiter("another", &asked(1)).is_err(), "the number is bounded");
        Ok(())
    }
}
