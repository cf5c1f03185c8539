//! The limits `unlimited` and `none`: what is left for buckets, and the answers without one.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use tidegate_core::{
    AnyLimit, BucketTiers, Charge, Error, Fixed, Limit, MAX_TIERS, Operation, Outcome, Reserved,
};

const COSTS: [u64; 4] = [0, 1, 1 << 53, u64::MAX];

fn limits(texts: &[&str]) -> Vec<AnyLimit> {
    texts.iter().map(|text| AnyLimit::parse(text).unwrap()).collect()
}

/// Every choice of up to four limits: those of buckets keep their order and their places, and
/// without a bucket or with `none` the answer is fixed.
#[test]
fn what_is_left_for_buckets() {
    let all = limits(&["unlimited", "none", "10/s", "12/d window"]);
    for count in 1..=MAX_TIERS {
        for choice in 0..all.len().pow(count as u32) {
            let limits: Vec<AnyLimit> = (0..count)
                .map(|tier| all[choice / all.len().pow(tier as u32) % all.len()])
                .collect();
            let tiers = BucketTiers::new(&limits).unwrap();
            let rates: Vec<Limit> = tiers.rates(&limits).collect();
            assert_eq!(rates.len(), tiers.count());
            let none = limits.iter().position(|limit| *limit == AnyLimit::None);
            let expected: Vec<Limit> = match none {
                Some(_) => Vec::new(),
                None => limits.iter().filter_map(AnyLimit::rate).copied().collect(),
            };
            assert_eq!(rates, expected, "{limits:?}");
            for tier in tiers.count()..MAX_TIERS {
                assert_eq!(usize::from(tiers.place(tier as u8)), tier);
            }
            for (tier, rate) in (0u8..).zip(&rates) {
                let place = usize::from(tiers.place(tier));
                assert_eq!(limits[place], AnyLimit::from(*rate), "{limits:?}");
                assert_eq!(tiers.pick(&limits).nth(usize::from(tier)), Some(&limits[place]));
            }
            let fixed = match none {
                Some(place) => Some(Fixed::None { tier: place as u8 }),
                None => rates.is_empty().then_some(Fixed::Unlimited { limits: limits.len() as u8 }),
            };
            assert_eq!(Fixed::new(&limits), fixed, "{limits:?}");
        }
    }
    for count in [0, 5] {
        let limits = vec![AnyLimit::Unlimited; count];
        assert_eq!(BucketTiers::new(&limits), Err(Error::TierCount { count }));
    }
    assert_eq!(Fixed::new(&[]), None);
}

#[test]
fn answers_without_a_bucket() {
    for (fixed, tier) in [(Fixed::Unlimited { limits: 3 }, 0), (Fixed::None { tier: 2 }, 2)] {
        let most = if matches!(fixed, Fixed::Unlimited { .. }) { u64::MAX } else { 0 };
        let reset_after = u64::MAX - most;
        for cost in COSTS {
            let decision = fixed.check(&cost.into());
            let tiered = fixed.check_tiers(&cost.into());
            let known: Vec<u8> = tiered.tiers().iter().map(|tier| tier.tier).collect();
            assert_eq!(known, if most > 0 { vec![0, 1, 2] } else { vec![2] });
            assert_eq!(*tiered.decision(), decision);
            let allowed = most > 0 || cost == 0;
            assert_eq!(
                (decision.allowed, decision.limit, decision.remaining, decision.tier),
                (allowed, most, most, tier)
            );
            let retry_after = if allowed { 0 } else { u64::MAX };
            assert_eq!((decision.retry_after, decision.reset_after), (retry_after, reset_after));
            for same in
                [Operation::Check { cost: cost.into() }, Operation::Peek { cost: cost.into() }]
            {
                assert_eq!(fixed.answer(&same), Outcome::Decision(tiered));
            }
            for max_wait in [0, u64::MAX] {
                match fixed.answer(&Operation::Reserve { cost: cost.into(), max_wait, min_wait: 0 })
                {
                    Outcome::Reserved(Reserved::Slot(slot)) => {
                        assert!(allowed && slot.delay == 0 && slot.decision == tiered);
                        let charge = Charge { cost: cost.into(), ..Charge::default() };
                        assert_eq!(slot.charge, charge, "nothing was charged");
                        let cancelled = fixed.answer(&Operation::Cancel(slot.charge));
                        assert_eq!(cancelled, Outcome::Cancelled(true));
                    }
                    Outcome::Reserved(Reserved::TooFar(refused)) => {
                        assert!(!allowed && refused == tiered);
                    }
                    other => panic!("{other:?}"),
                }
            }
            for no_effect in [
                Operation::Settle { charged: 0.into(), actual: cost.into() },
                Operation::Credit { tokens: cost.into() },
                Operation::Hold { wait: cost },
                Operation::Reset,
            ] {
                assert_eq!(
                    fixed.answer(&no_effect),
                    Outcome::Decision(fixed.check_tiers(&0.into()))
                );
            }
        }
    }
}

#[test]
fn the_words_are_texts_of_the_grammar() {
    for (text, limit) in [("unlimited", AnyLimit::Unlimited), ("none", AnyLimit::None)] {
        for text in [format!("  {text} "), text.to_uppercase(), format!("\t{text}\r\n")] {
            assert_eq!(AnyLimit::parse(&text), Ok(limit));
        }
        assert_eq!((limit.to_string().as_str(), limit.shape_name()), (text, text));
        assert_eq!((limit.tokens(), limit.period()), (limit.burst(), 0));
        assert!(Limit::parse(text).is_err(), "a rate is no word");
        for wrong in [format!("{text} burst 5"), format!("{text}/s")] {
            assert_eq!(AnyLimit::parse(&wrong).map_err(|error| error.reason()), Err("syntax"));
        }
    }
}
