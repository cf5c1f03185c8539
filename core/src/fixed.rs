//! The answers of a limiter whose buckets could not change them.

use crate::any_limit::AnyLimit;
use crate::cost::Cost;
use crate::decision::{Decision, Source};
use crate::operation::{Operation, Outcome};
use crate::reservation::{Charge, Reservation, Reserved};

/// The answers of limits that decide without a bucket, so that no store is asked: `none` among
/// the limits, or nothing but `unlimited`.
///
/// | | `unlimited` | `none` |
/// |---|---|---|
/// | a cost above 0 | allowed at once | refused; `retry_after` is [`u64::MAX`] |
/// | a cost of 0 | allowed | allowed |
/// | `limit`, `remaining` | [`u64::MAX`] | 0 |
/// | `reset_after` | 0 | [`u64::MAX`] |
///
/// No operation charges or changes anything, because there is no bucket: a hold, a settlement, a
/// credit and a reset answer what a check of cost 0 would.
///
/// ```
/// use tidegate_core::{AnyLimit, Fixed, Operation, Outcome};
/// let limits = [AnyLimit::parse("10/s")?, AnyLimit::None];
/// let fixed = Fixed::new(&limits).unwrap();
/// let Outcome::Decision(refused) = fixed.answer(&Operation::Check { cost: 1.into() }) else { panic!() };
/// assert_eq!((refused.allowed, refused.tier, refused.retry_after), (false, 1, u64::MAX));
/// # Ok::<(), tidegate_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixed {
    /// Every limit is `unlimited`.
    Unlimited,
    /// One of the limits is `none`.
    None {
        /// The place of the first such limit.
        tier: u8,
    },
}

impl Fixed {
    /// The answers of these limits; `None` if buckets decide, and without a limit.
    pub fn new(limits: &[AnyLimit]) -> Option<Self> {
        let mut unlimited = 0;
        for (tier, limit) in (0u8..).zip(limits) {
            match limit {
                AnyLimit::None => return Some(Self::None { tier }),
                AnyLimit::Unlimited => unlimited += 1,
                AnyLimit::Rate(_) => {}
            }
        }
        (unlimited > 0 && unlimited == limits.len()).then_some(Self::Unlimited)
    }

    /// The answer to any operation. Its source is [`Source::Memory`].
    pub const fn answer(&self, operation: &Operation) -> Outcome {
        match *operation {
            Operation::Check { cost } | Operation::Peek { cost } => {
                Outcome::Decision(self.check(&cost))
            }
            Operation::Reserve { cost, .. } => {
                let decision = self.check(&cost);
                Outcome::Reserved(if decision.allowed {
                    let charge =
                        Charge { cost, before: [0; 4], after: [0; 4], source: Source::Memory };
                    Reserved::Slot(Reservation { delay: 0, decision, charge })
                } else {
                    Reserved::TooFar(decision)
                })
            }
            // Nothing was charged, so all of it is back.
            Operation::Cancel(_) => Outcome::Cancelled(true),
            Operation::Settle { .. }
            | Operation::Credit { .. }
            | Operation::Hold { .. }
            | Operation::Reset => Outcome::Decision(self.check(&Cost::same(0))),
        }
    }

    /// The answer to a check.
    pub const fn check(&self, cost: &Cost) -> Decision {
        let source = Source::Memory;
        match *self {
            Self::Unlimited => Decision {
                allowed: true,
                limit: u64::MAX,
                remaining: u64::MAX,
                retry_after: 0,
                reset_after: 0,
                tier: 0,
                source,
            },
            Self::None { tier } => Decision {
                allowed: cost.is_zero(),
                limit: 0,
                remaining: 0,
                retry_after: if cost.is_zero() { 0 } else { u64::MAX },
                reset_after: u64::MAX,
                tier,
                source,
            },
        }
    }
}
