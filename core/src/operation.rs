//! Every operation on a bucket as a value, and the one function that runs them all.

use crate::cost::Cost;
use crate::credit::{credit, credit_bucket, reset};
use crate::decision::{Source, TieredDecision};
use crate::error::Error;
use crate::hold::{hold, hold_bucket};
use crate::limit::Limit;
use crate::reservation::{Charge, Reserved, cancel_at, reserve_within};
use crate::settle::{settle, settle_bucket};
use crate::tiers::{Cells, check_count, decide_each_tier, describe_tiers, look};

/// What can be done to a bucket, as a value that can be sent to the store that has the bucket.
///
/// Most code handles all corrections alike, and matches [`kind`](Self::kind).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`decide_tiers`](crate::decide_tiers).
    Check {
        /// Tokens to spend; 0 spends nothing and is always allowed.
        cost: Cost,
    },
    /// [`decide_tiers`](crate::decide_tiers), without the charge: the answer to a check of that cost at this moment.
    Peek {
        /// Tokens to ask about; 0 is always allowed.
        cost: Cost,
    },
    /// [`reserve`](crate::reserve).
    Reserve {
        /// Tokens to spend once the slot has come.
        cost: Cost,
        /// The longest acceptable delay, in nanoseconds.
        max_wait: u64,
        /// The shortest useful delay, in nanoseconds: a slot that would come earlier is charged for
        /// that time. 0 for any.
        min_wait: u64,
    },
    /// [`cancel`](crate::cancel).
    Cancel(Charge),
    /// [`settle`].
    Settle {
        /// Tokens taken before.
        charged: Cost,
        /// Tokens used.
        actual: Cost,
    },
    /// [`credit`].
    Credit {
        /// Tokens to give back.
        tokens: Cost,
    },
    /// [`hold`].
    Hold {
        /// How long to pause, in nanoseconds.
        wait: u64,
    },
    /// [`reset`].
    Reset,
}

/// The way in which an [`Operation`] works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// [`Operation::Check`].
    Check(Cost),
    /// [`Operation::Peek`].
    Peek(Cost),
    /// [`Operation::Reserve`].
    Reserve {
        /// Tokens to spend once the slot has come.
        cost: Cost,
        /// The longest acceptable delay, in nanoseconds.
        max_wait: u64,
        /// The shortest useful delay, in nanoseconds.
        min_wait: u64,
    },
    /// [`Operation::Cancel`].
    Cancel(Charge),
    /// Any other operation.
    Correction(Correction),
}

/// An [`Operation`] that changes each limit's bucket by itself, whatever the others hold, and answers
/// with what the buckets hold afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Correction(Operation);

impl Correction {
    /// The cell of a limit's bucket after the correction.
    pub(crate) fn cell(&self, tier: usize, limit: &Limit, cell: u64, now: u64) -> u64 {
        match self.0 {
            Operation::Settle { charged, actual } => {
                settle_bucket(limit, cell, now, charged.of_tier(tier), actual.of_tier(tier))
            }
            Operation::Credit { tokens } => credit_bucket(limit, cell, now, tokens.of_tier(tier)),
            Operation::Hold { wait } => hold_bucket(limit, cell, now, wait),
            // This is the cell of a bucket never used, which owes nothing even after the clock has
            // stepped back.
            Operation::Reset => 0,
            Operation::Check { .. }
            | Operation::Peek { .. }
            | Operation::Reserve { .. }
            | Operation::Cancel(_) => cell,
        }
    }
}

impl Operation {
    /// The way in which the operation works.
    pub const fn kind(&self) -> OperationKind {
        match self {
            Self::Check { cost } => OperationKind::Check(*cost),
            Self::Peek { cost } => OperationKind::Peek(*cost),
            Self::Reserve { cost, max_wait, min_wait } => {
                OperationKind::Reserve { cost: *cost, max_wait: *max_wait, min_wait: *min_wait }
            }
            Self::Cancel(charge) => OperationKind::Cancel(*charge),
            Self::Settle { .. } | Self::Credit { .. } | Self::Hold { .. } | Self::Reset => {
                OperationKind::Correction(Correction(*self))
            }
        }
    }

    /// The correction of this number, for bindings in which numbers cross the border of a language: 0
    /// settles a charge of `first` to `second` tokens, 1 credits `first`, 2 holds for `wait`
    /// nanoseconds, and 3 resets. `None` for any other number.
    pub const fn correction(number: u32, first: Cost, second: Cost, wait: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Settle { charged: first, actual: second }),
            1 => Some(Self::Credit { tokens: first }),
            2 => Some(Self::Hold { wait }),
            3 => Some(Self::Reset),
            _ => None,
        }
    }

    /// Whether the operation begins or ends a hold, of which those who wait for the bucket have to hear.
    pub const fn changes_hold(&self) -> bool {
        match self {
            Self::Hold { .. } | Self::Reset => true,
            Self::Check { .. }
            | Self::Peek { .. }
            | Self::Reserve { .. }
            | Self::Cancel(_)
            | Self::Settle { .. }
            | Self::Credit { .. } => false,
        }
    }

    /// The tokens that the operation gives back, of which those who wait for the bucket can have some
    /// instead. None for a cancel, whose slot is given on as a whole.
    pub fn returned(&self) -> Cost {
        match self {
            Self::Settle { charged, actual } => charged.saturating_sub(actual),
            Self::Credit { tokens } => *tokens,
            Self::Check { .. }
            | Self::Peek { .. }
            | Self::Reserve { .. }
            | Self::Cancel(_)
            | Self::Hold { .. }
            | Self::Reset => Cost::default(),
        }
    }

    /// The operation that gives `taken` tokens less back, of those that it [returns](Self::returned).
    #[must_use]
    pub fn returning_less(self, taken: &Cost) -> Self {
        match self {
            Self::Settle { charged, actual } => {
                Self::Settle { charged: charged.saturating_sub(taken), actual }
            }
            Self::Credit { tokens } => Self::Credit { tokens: tokens.saturating_sub(taken) },
            Self::Check { .. }
            | Self::Peek { .. }
            | Self::Reserve { .. }
            | Self::Cancel(_)
            | Self::Hold { .. }
            | Self::Reset => self,
        }
    }

    /// Fails unless it has one cost, or as many as there are limits.
    ///
    /// # Errors
    /// [`Error::CostCount`].
    pub fn check_costs(&self, limits: usize) -> Result<(), Error> {
        match self {
            Self::Check { cost }
            | Self::Peek { cost }
            | Self::Reserve { cost, .. }
            | Self::Credit { tokens: cost } => cost.check_count(limits),
            Self::Settle { charged, actual } => {
                charged.check_count(limits)?;
                actual.check_count(limits)
            }
            Self::Cancel(_) | Self::Hold { .. } | Self::Reset => Ok(()),
        }
    }

    /// The same operation, with each cost in it replaced by what `change` makes of it.
    #[must_use]
    pub fn map_costs(mut self, change: impl Fn(&Cost) -> Cost) -> Self {
        match &mut self {
            Self::Check { cost }
            | Self::Peek { cost }
            | Self::Reserve { cost, .. }
            | Self::Credit { tokens: cost }
            | Self::Cancel(Charge { cost, .. }) => *cost = change(cost),
            Self::Settle { charged, actual } => {
                (*charged, *actual) = (change(charged), change(actual));
            }
            Self::Hold { .. } | Self::Reset => {}
        }
        self
    }
}

/// The answer to an [`Operation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// For a check or a peek: the decision. For every other operation without a variant of its own: what
    /// the buckets hold afterwards.
    Decision(TieredDecision),
    /// The answer to [`Operation::Reserve`].
    Reserved(Reserved),
    /// The answer to [`Operation::Cancel`]: whether all of the charge came back.
    Cancelled(bool),
}

impl Outcome {
    /// The same outcome, with the decision in it replaced by what `change` makes of it.
    #[must_use]
    pub fn map_decision(mut self, change: impl FnOnce(TieredDecision) -> TieredDecision) -> Self {
        match &mut self {
            Self::Decision(decision) | Self::Reserved(Reserved::TooFar(decision)) => {
                *decision = change(*decision);
            }
            Self::Reserved(Reserved::Slot(slot)) => slot.decision = change(slot.decision),
            Self::Cancelled(_) => {}
        }
        self
    }

    /// The same outcome, answered by a bucket that lives in `source`.
    #[must_use]
    #[inline]
    pub const fn from_source(mut self, source: Source) -> Self {
        match &mut self {
            Self::Decision(decision) | Self::Reserved(Reserved::TooFar(decision)) => {
                *decision = decision.from_source(source);
            }
            Self::Reserved(Reserved::Slot(slot)) => {
                slot.decision = slot.decision.from_source(source);
                slot.charge.source = source;
            }
            Self::Cancelled(_) => {}
        }
        self
    }
}

/// Runs any operation on a bucket's cells, which stay as they were on an error.
///
/// # Errors
/// Those of the operation's own function.
///
/// ```
/// use tidegate_core::{Cells, Limit, Operation, Outcome, apply};
/// let limits = [Limit::parse("10/s")?];
/// let mut cells = Cells::default();
/// let Outcome::Decision(decision) =
///     apply(&limits, &mut cells, 7, Operation::Check { cost: 4.into() })? else { panic!() };
/// assert_eq!(decision.remaining, 6);
/// let Outcome::Decision(full) = apply(&limits, &mut cells, 7, Operation::Reset)? else { panic!() };
/// assert_eq!(full.remaining, 10);
/// # Ok::<(), tidegate_core::Error>(())
/// ```
pub fn apply(
    limits: &[Limit],
    cells: &mut Cells,
    now: u64,
    operation: Operation,
) -> Result<Outcome, Error> {
    let decision = match operation {
        Operation::Check { cost } => {
            return decide_each_tier(limits, cells, now, cost).map(Outcome::Decision);
        }
        Operation::Peek { cost } => {
            return decide_each_tier(limits, &mut { *cells }, now, cost).map(Outcome::Decision);
        }
        Operation::Reserve { cost, max_wait, min_wait } => {
            return reserve_within(limits, cells, now, &cost, min_wait..=max_wait)
                .map(Outcome::Reserved);
        }
        Operation::Cancel(charge) => {
            check_count(limits)?;
            return Ok(Outcome::Cancelled(cancel_at(limits, &charge, cells, now)));
        }
        Operation::Settle { charged, actual } => settle(limits, cells, now, charged, actual),
        Operation::Credit { tokens } => credit(limits, cells, now, tokens),
        Operation::Hold { wait } => hold(limits, cells, now, wait),
        Operation::Reset => {
            check_count(limits)?;
            reset(cells);
            look(limits, cells, now)
        }
    };
    Ok(Outcome::Decision(describe_tiers(decision?, limits, cells, now, &Cost::same(0))))
}
