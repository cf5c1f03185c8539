//! The shares of a limit together keep the limit.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use core::num::NonZeroU32;

use proptest::prelude::*;
use tidegate_core::{Cells, Error, Limit, Shape, Timeline, decide_tiers};

const MILLI: u64 = 1_000_000;

fn share(limit: &str, peers: u32) -> Result<Limit, Error> {
    Limit::parse(limit).unwrap().share(NonZeroU32::new(peers).unwrap())
}

#[test]
fn shares_keep_the_rate_and_divide_the_burst() {
    for (limit, peers, expected) in [
        // The limit's width is already rounded up: together the shares have exactly that rate.
        ("60/s", 3, Limit::smooth(1, 3 * 16_666_667, 20)),
        ("60/s", 1, Limit::parse("60/s")),
        ("7/s burst 5", 3, Limit::smooth(1, 3 * 142_857_143, 1)),
        ("100/s window", 3, Limit::stepped(33, 1_000 * MILLI, 33)),
        ("5/h burst 40 stepped", 10, Limit::stepped(1, 2 * 3_600_000 * MILLI, 4)),
        ("5/h window", 11, Limit::stepped(1, 3 * 3_600_000 * MILLI, 1)),
    ] {
        assert_eq!(share(limit, peers), expected, "{limit} of {peers}");
    }
}

#[test]
fn a_share_that_cannot_be_kept_names_the_bound() {
    assert_eq!(share("1/d", 100).map(|limit| limit.burst()), Ok(1));
    assert_eq!(share("1/d", 105), Err(Error::SpanTooLong));
    assert_eq!(share("1/d", u32::MAX), Err(Error::SpanTooLong));
    assert_eq!(share("1/d window", 36_500).map(|limit| limit.tokens()), Ok(1));
    assert_eq!(share("1/d window", 36_501), Err(Error::SteppedTooLong));
    assert_eq!(share("1/36500d window", u32::MAX), Err(Error::SteppedTooLong));
}

proptest! {
    /// Peers that spend all they can, at any times, spend no more in a window than the limit
    /// allows: the tokens of a stepped limit's window, or the burst (at least one token each) and
    /// the rate of a smooth limit.
    #[test]
    fn together_they_keep_the_limit(
        tokens in 1..200u64,
        burst in 1..200u64,
        stepped in any::<bool>(),
        peers in 1..40u32,
        gaps in prop::collection::vec(0..300u64, 1..200),
    ) {
        let period = 1_000 * MILLI;
        let limit = if stepped {
            Limit::window(tokens, period)
        } else {
            Limit::smooth(tokens, period, burst)
        };
        let limit = limit.unwrap();
        let share = limit.share(NonZeroU32::new(peers).unwrap()).unwrap();
        let mut cells = vec![Cells::default(); peers as usize];
        let start = 1_764_000_000 * 1_000 * MILLI;
        let mut now = start;
        let mut spent: Vec<(u64, u64)> = Vec::new();
        for gap in gaps {
            now += gap * MILLI;
            for cells in &mut cells {
                while decide_tiers(&[share], cells, now, 1).unwrap().allowed {
                    spent.push((now, 1));
                }
            }
        }
        for (index, &(from, _)) in spent.iter().enumerate() {
            let mut count = 0;
            for &(at, cost) in &spent[index..] {
                count += cost;
                let bound = match limit.timeline() {
                    Timeline::Smooth { width } => {
                        limit.burst().max(peers.into()) + (at - from) / width
                    }
                    _ if at / period == from / period => tokens.max(peers.into()),
                    _ => break,
                };
                prop_assert!(count <= bound, "{count} of {bound} in {}", at - from);
            }
        }
        prop_assert_eq!(limit.shape() == Shape::Stepped, stepped);
    }
}
