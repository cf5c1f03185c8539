//! What a shared bucket gives to one of the nodes that lease it.

use crate::error::Error;
use crate::limit::Limit;
use crate::tiers::{Cells, MAX_TIERS, check_count};
use crate::timeline::Timeline;

use super::{LeaseTerms, MAX_MEMBERS};

const MILLI: u64 = 1_000_000;

/// In milliseconds: more than a bucket can owe.
const LONGEST_HOLD: u64 = 10_000_000_000;

/// What one of the other nodes has been given, as it is written down beside the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The part of the rate that is its own until its slice has lapsed.
    pub taken: u64,
    /// The most tokens of a second that are its own.
    pub most: u64,
    /// What it asked for, up to the largest share.
    pub want: u64,
}

/// What a node says when it takes or renews its slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseAsk {
    /// The rate that it is asked for; 0 to leave.
    pub want: u64,
    /// The rate that it has spent over the last ttl.
    pub spent: u64,
    /// Whether it holds no slice yet.
    pub is_new: bool,
    /// Tokens of its slice that it still has.
    pub held: u64,
    /// Tokens that it gives back, and has not counted among those held.
    pub returned: u64,
    /// The most tokens that any second will hold until the answer has come.
    pub bound: u64,
}

/// The answer: a slice, and at which pace to spend it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Tokens that were taken from the bucket for the node.
    pub tokens: u64,
    /// The rate at which it may spend.
    pub pace: u64,
    /// The most tokens that it may spend in any second.
    pub most: u64,
    /// How much of what it wants that is.
    pub part: Part,
    /// Somebody has paused the bucket for so many nanoseconds more, in whole milliseconds.
    pub hold: u64,
}

/// How a node's share compares with what it wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// It has what it wants.
    #[default]
    Whole,
    /// It has its fair part of what all of them want.
    Fair,
    /// Its fair part is larger, but still in others' slices.
    Short,
    /// Nothing: as many nodes as can be have a slice.
    None,
}

/// Gives a slice of the bucket to a node: the twin of `lease.lua`.
///
/// Shares are max-min fair over what the `others` and this node want, and together at most
/// the rate: what others hold they keep until they ask again or their slices lapse. The tokens
/// are taken from every tier now, enough for a ttl at that pace, as far as they are there. A
/// bucket with a burst smaller than a ttl's tokens is taken ahead, by at most a ttl.
///
/// What all of them spend in a second is bounded too: to a twenty-fifth more than the rate, of which
/// each node owns a part. A node owns what it may spend by the last answer, and what it has
/// spent in the second before it asks; only what nobody owns is given out.
///
/// Answers the grant, and what is to be written down about the node.
///
/// # Errors
/// [`Error::TierCount`].
pub fn grant_lease(
    limits: &[Limit],
    cells: &mut Cells,
    now: u64,
    terms: &LeaseTerms,
    others: &[Member],
    ask: &LeaseAsk,
) -> Result<(Grant, Member), Error> {
    check_count(limits)?;
    let mut debts = [0; MAX_TIERS];
    let mut hold = 0;
    for (tier, (limit, cell)) in limits.iter().zip(cells.iter()).enumerate() {
        debts[tier] = limit.timeline().debt(*cell, now);
        hold = hold.max(held_for(limit, debts[tier], now, terms));
    }
    // What comes back must not shorten a hold.
    let returned = if hold > 0 { 0 } else { ask.returned };
    let there = limits.iter().zip(debts).map(|(limit, debt)| left(limit, debt, terms)).min();
    let share = share(terms, others, ask, there.unwrap_or(0));
    let tokens = if hold > 0 { 0 } else { share.buffer(terms).saturating_sub(ask.held) };
    let mut granted = tokens;
    for (debt, limit) in debts.iter_mut().zip(limits) {
        let width = limit.timeline().width();
        *debt = debt.saturating_sub(returned.saturating_mul(width));
        granted = granted.min(left(limit, *debt, terms));
    }
    for ((debt, limit), cell) in debts.iter().zip(limits).zip(cells.iter_mut()) {
        let timeline = limit.timeline();
        let owed = debt + granted * timeline.width();
        if owed != timeline.debt(*cell, now) {
            *cell = timeline.cell_owing(owed, now);
        }
    }
    let Share { want, taken, pace, part } = share;
    let most = most_in_a_second(terms, others, &share);
    let part = if part == Part::Fair && most < taken / 1_000 { Part::Short } else { part };
    let member = Member { taken, most: most.max(ask.bound), want };
    Ok((Grant { tokens: granted, pace, most, part, hold }, member))
}

/// How much a tier may owe for slices.
fn room(limit: &Limit, terms: &LeaseTerms) -> u64 {
    match limit.timeline() {
        Timeline::Smooth { .. } => limit.span().max(terms.ttl()),
        Timeline::Stepped { .. } => limit.span(),
    }
}

/// The tokens that a tier still has for slices.
fn left(limit: &Limit, debt: u64, terms: &LeaseTerms) -> u64 {
    room(limit, terms).saturating_sub(debt) / limit.timeline().width()
}

/// How long a tier that owes more than slices can make it owe is paused.
fn held_for(limit: &Limit, debt: u64, now: u64, terms: &LeaseTerms) -> u64 {
    if debt <= room(limit, terms) {
        return 0;
    }
    let timeline = limit.timeline();
    let pause = timeline.until(now, debt - (limit.span() - timeline.width()));
    pause.div_ceil(MILLI).min(LONGEST_HOLD) * MILLI
}

struct Share {
    want: u64,
    taken: u64,
    pace: u64,
    part: Part,
}

impl Share {
    /// The tokens of a ttl at this pace.
    fn buffer(&self, terms: &LeaseTerms) -> u64 {
        (self.pace * (terms.ttl() / MILLI)).div_ceil(1_000_000)
    }
}

fn share(terms: &LeaseTerms, others: &[Member], ask: &LeaseAsk, left: u64) -> Share {
    let want = ask.want.min(terms.most());
    if want == 0 {
        return Share { want, taken: 0, pace: 0, part: Part::Whole };
    }
    if others.len() >= MAX_MEMBERS {
        return Share { want: 0, taken: 0, pace: 0, part: Part::None };
    }
    let rate = terms.rate();
    let (level, spare) = fill(rate, others, want);
    let target = want.min(level);
    let others_have: u64 = others.iter().map(|other| other.taken).sum();
    let taken = target.min(rate.saturating_sub(others_have));
    // What the fleet has not used in time is still in the bucket, and made up for slowly.
    let more = if left < rate / 8_000 { 0 } else { taken / 25 };
    let pace = (taken + more).min(terms.most());
    if taken < target - target / 16 {
        return Share { want, taken, pace, part: Part::Short };
    }
    if taken < ask.want {
        return Share { want, taken, pace, part: Part::Fair };
    }
    // It has what it wants. Of that counts what it really spends, so that the others get the
    // rest; and it has room for a rise until the next time, one token at least: a large one
    // where hardly anything is wanted, in which it costs nobody anything.
    let taken = ask.spent.clamp(want - want / 64, want);
    let near = if ask.is_new { 0 } else { spare.min(want / 2) };
    let least = 1_000_000_u64.div_ceil(terms.ttl() / MILLI);
    let rise = near.max(want / 16).max(spare / 16);
    let pace = (want + rise).max(least).min(terms.most());
    // What is asked of a new one nobody knows yet: the others leave it room to rise.
    let want = if ask.is_new { (want * 3).min(terms.most()) } else { taken };
    Share { want, taken, pace, part: Part::Whole }
}

/// The most tokens that a node may spend in any second: what its pace gives and a little more,
/// to even out when they are asked for, of what nobody owns. What others still lack of their
/// shares is left to them, unless it lacks that itself.
fn most_in_a_second(terms: &LeaseTerms, others: &[Member], share: &Share) -> u64 {
    let whole = share.pace / 1_000;
    if whole == 0 {
        // All have one, or many nodes would starve on a small rate.
        return u64::from(share.pace > 0 && share.part != Part::Short);
    }
    let (mut free, mut lacking) = (terms.rate() / 25 * 26 / 1_000, 0);
    for other in others {
        free = free.saturating_sub(other.most);
        lacking += (other.taken / 1_000).saturating_sub(other.most);
    }
    let wish = whole + (whole / 20).max(1);
    wish.min(free.saturating_sub(lacking)).max((share.taken / 1_000).min(free))
}

/// The level to which a rate fills what the nodes want, as water fills vessels of different
/// height, and what each of them could have beyond that when all are full.
fn fill(rate: u64, others: &[Member], wanted: u64) -> (u64, u64) {
    let wants = || others.iter().map(|other| other.want).chain([wanted]);
    let count = others.len() as u64 + 1;
    let mut level = rate / count;
    loop {
        let (mut full, mut higher) = (0, 0);
        for want in wants() {
            if want <= level {
                full += want;
            } else {
                higher += 1;
            }
        }
        if higher == 0 {
            return (level, (rate - full) / count);
        }
        // What the full ones leave is at least this level for each of the others.
        let next = (rate - full) / higher;
        if next == level {
            return (level, 0);
        }
        level = next;
    }
}
