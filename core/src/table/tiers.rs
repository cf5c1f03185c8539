use core::fmt;

use super::{Receipt, Segments, Table, TableFull};
use crate::clock::Clock;
use crate::decision::Decision;
use crate::error::Error;
use crate::gcra::decide;
use crate::limit::Limit;
use crate::tiers::{Cells, MAX_TIERS, binds_over, decide_tiers};

/// How often a call starts over because another call's charge stood in its way
/// in one tier after an earlier tier had allowed.
const ATTEMPTS: u32 = 3;

/// Why [`check_tables`] could not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableError {
    /// A call that no limits allow, or no limits.
    Engine(Error),
    /// There is no slot for the new key.
    Full,
}

/// [`decide_tiers`] on tables, one for each limit in the same order: all charge
/// the key, or none does.
///
/// Tiers are charged in order and given back when a later one refuses after all,
/// because another call came between. So under contention a call may refuse
/// because of a charge still in flight, never admit because of one; once it has
/// returned, a refusal has changed nothing (but when others have charged the same
/// cell meanwhile: the time that the charge was in flight is then not given back).
///
/// The clock is read once, and once more if a charge is given back.
///
/// # Errors
/// As [`decide_tiers`], also when there are not as many tables as limits; and
/// [`TableError::Full`].
pub fn check_tables<S: Segments + ?Sized>(
    tables: &[Table<'_, S>],
    limits: &[Limit],
    fingerprint: u64,
    clock: &(impl Clock + ?Sized),
    cost: u64,
) -> Result<Decision, TableError> {
    let call = Call { tables, limits, fingerprint, now: clock.now(), cost };
    if tables.len() != limits.len() {
        return Err(Error::TierCount { count: tables.len() }.into());
    }
    if let ([table], [limit]) = (tables, limits) {
        return call.charge(table, limit).map(|(decision, _)| decision);
    }
    let mut attempts = ATTEMPTS;
    loop {
        let decision = call.look()?;
        if !decision.allowed || cost == 0 {
            return Ok(decision);
        }
        attempts -= 1;
        let decision = call.charge_all(clock)?;
        if decision.allowed || attempts == 0 {
            return Ok(decision);
        }
    }
}

struct Call<'a, 's, S: Segments + ?Sized> {
    tables: &'a [Table<'s, S>],
    limits: &'a [Limit],
    fingerprint: u64,
    now: u64,
    cost: u64,
}

impl<S: Segments + ?Sized> Call<'_, '_, S> {
    fn look(&self) -> Result<Decision, TableError> {
        let mut cells = Cells::default();
        for (cell, table) in cells.iter_mut().zip(self.tables) {
            *cell = table.cell(self.fingerprint);
        }
        Ok(decide_tiers(self.limits, &mut cells, self.now, self.cost)?)
    }

    fn charge_all(&self, clock: &(impl Clock + ?Sized)) -> Result<Decision, TableError> {
        let mut receipts = [None; MAX_TIERS];
        let mut binding: Option<Decision> = None;
        for (tier, (table, limit)) in (0u8..).zip(self.tables.iter().zip(self.limits)) {
            let answer = self.charge(table, limit);
            let Ok((mut decision, receipt)) = answer else {
                self.give_back(&receipts, clock.now());
                return answer.map(|(decision, _)| decision);
            };
            decision.tier = tier;
            if !decision.allowed {
                self.give_back(&receipts, clock.now());
                return Ok(decision);
            }
            if let Some(place) = receipts.get_mut(usize::from(tier)) {
                *place = receipt;
            }
            if binding.is_none_or(|so_far| binds_over(&decision, &so_far)) {
                binding = Some(decision);
            }
        }
        binding.ok_or(TableError::Engine(Error::TierCount { count: 0 }))
    }

    fn charge(
        &self,
        table: &Table<'_, S>,
        limit: &Limit,
    ) -> Result<(Decision, Option<Receipt>), TableError> {
        let position = limit.timeline().position(self.now);
        let step = |cell| match decide(limit, cell, self.now, self.cost) {
            Ok((decision, next)) => (Ok(decision), (next != cell).then_some(next)),
            Err(error) => (Err(error), None),
        };
        let (decision, receipt) = table.charge(self.fingerprint, position, step)?;
        Ok((decision?, receipt))
    }

    fn give_back(&self, receipts: &[Option<Receipt>; MAX_TIERS], later: u64) {
        let tiers = self.tables.iter().zip(self.limits).zip(receipts);
        for ((table, limit), receipt) in tiers {
            if let Some(receipt) = receipt {
                let timeline = limit.timeline();
                let elapsed = timeline.position(later).saturating_sub(timeline.position(self.now));
                table.give_back(receipt, self.cost * timeline.width(), elapsed);
            }
        }
    }
}

impl From<Error> for TableError {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<TableFull> for TableError {
    fn from(_: TableFull) -> Self {
        Self::Full
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => error.fmt(f),
            Self::Full => f.write_str("every slot that the new key may take is owed"),
        }
    }
}

impl core::error::Error for TableError {}
