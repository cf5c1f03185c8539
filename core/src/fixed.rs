//! The answers of a limiter whose buckets could not change them.

use crate::any_limit::AnyLimit;
use crate::cost::Cost;
use crate::decision::{Decision, Source, TierDecision, TieredDecision};
use crate::operation::{Operation, OperationKind, Outcome};
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
    Unlimited {
        /// How many limits there are.
        limits: u8,
    },
    /// One of the limits is `none`.
    None {
        /// The place of the first such limit.
        tier: u8,
    },
}

impl Fixed {
    /// The answers of these limits; `None` if buckets decide, and without a limit.
    pub fn new(limits: &[AnyLimit]) -> Option<Self> {
        let mut unlimited = 0u8;
        for (tier, limit) in (0u8..).zip(limits) {
            match limit {
                AnyLimit::None => return Some(Self::None { tier }),
                AnyLimit::Unlimited => unlimited += 1,
                AnyLimit::Rate(_) => {}
            }
        }
        let is_unlimited = unlimited > 0 && usize::from(unlimited) == limits.len();
        is_unlimited.then_some(Self::Unlimited { limits: unlimited })
    }

    /// The answer to any operation. Its source is [`Source::Memory`].
    pub fn answer(&self, operation: &Operation) -> Outcome {
        match operation.kind() {
            OperationKind::Check(cost) | OperationKind::Peek(cost) => {
                Outcome::Decision(self.check_tiers(&cost))
            }
            OperationKind::Reserve { cost, .. } => {
                let decision = self.check_tiers(&cost);
                Outcome::Reserved(if decision.allowed {
                    let charge =
                        Charge { cost, before: [0; 4], after: [0; 4], source: Source::Memory };
                    Reserved::Slot(Reservation { delay: 0, decision, charge })
                } else {
                    Reserved::TooFar(decision)
                })
            }
            // Nothing was charged, so all of it is back.
            OperationKind::Cancel(_) => Outcome::Cancelled(true),
            OperationKind::Correction(_) => Outcome::Decision(self.check_tiers(&Cost::same(0))),
        }
    }

    /// The answer to a check, with what each limit says. With `none` it is that limit alone, because
    /// the buckets of the limits beside it are not asked.
    pub fn check_tiers(&self, cost: &Cost) -> TieredDecision {
        let decision = self.check(cost);
        match *self {
            Self::Unlimited { limits } => TieredDecision::new(
                decision,
                (0..limits).map(|tier| TierDecision { tier, ..TierDecision::UNLIMITED }),
            ),
            Self::None { .. } => decision.into(),
        }
    }

    /// The answer to a check.
    pub const fn check(&self, cost: &Cost) -> Decision {
        let source = Source::Memory;
        match *self {
            Self::Unlimited { .. } => Decision {
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
