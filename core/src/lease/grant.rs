//! Decides which slice of a shared bucket a node is granted.

use crate::bounds::{MAX_TIERS, NANOS_PER_MILLI};
use crate::error::Error;
use crate::limit::Limit;
use crate::tiers::{Cells, check_count};
use crate::timeline::Timeline;

use super::terms::{LeaseTerms, MAX_NODES};

/// The longest pause that a grant reports, in milliseconds. It is above 2^53 ns, the longest
/// that a smooth limit can be paused.
const LONGEST_HOLD: u64 = 10_000_000_000;

/// A shared bucket and the nodes that hold slices of it.
#[derive(Debug)]
pub struct LeasedBucket<'a> {
    /// The bucket's limits.
    pub limits: &'a [Limit],
    /// The bucket's cells, one for each limit.
    pub cells: &'a mut Cells,
    /// The records of the other nodes whose slices have not lapsed.
    pub others: &'a [NodeRecord],
}

/// The record of a node's last grant, which is kept beside the bucket until the slice lapses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// The part of the rate that belongs to the node until its slice has lapsed.
    pub taken: u64,
    /// The most tokens that the node may spend in any second.
    pub most: u64,
    /// The rate that the node asked for, up to the largest share.
    pub want: u64,
}

/// The request of a node that takes or renews its slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseAsk {
    /// The rate that the node is asked for; 0 to leave.
    pub want: u64,
    /// The rate that the node has spent over the last two ttls.
    pub spent: u64,
    /// Whether the node holds no slice yet.
    pub is_new: bool,
    /// Tokens of its slice that the node still has.
    pub held: u64,
    /// Tokens that the node gives back; they are not counted in `held`.
    pub returned: u64,
    /// The most tokens that the node spends in any second until the answer has come.
    pub bound: u64,
}

/// The answer to a [`LeaseAsk`]: a slice, and the pace at which to spend it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Tokens that were taken from the bucket for the node.
    pub tokens: u64,
    /// The rate at which the node may spend.
    pub pace: u64,
    /// The most tokens that the node may spend in any second.
    pub most: u64,
    /// How the node's share compares with what it wants.
    pub share: ShareKind,
    /// How long the bucket is still paused, in nanoseconds, rounded up to whole milliseconds.
    pub hold: u64,
}

/// How a node's share compares with what it wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShareKind {
    /// The node has all that it wants.
    #[default]
    Whole,
    /// The node has its fair share, which is less than it wants.
    Fair,
    /// The node has less than its fair share: the rest still belongs to the slices of others.
    Short,
    /// The node has nothing, because [`MAX_NODES`] others hold slices.
    None,
}

/// Grants a node a slice of the bucket, and answers the grant and the node's new record: the twin
/// of `lease.lua`.
///
/// Shares are max-min fair over what this node and the others want, and together at most the
/// rate. What another node has taken stays its own until it asks again or its slice lapses. The
/// tokens are taken from every tier at once, enough for a ttl at the granted pace, as far as the
/// tier has them. A bucket whose burst is smaller than the tokens of a ttl is taken ahead, by at
/// most a ttl.
///
/// What all nodes together spend in any second is bounded to 4 % above the rate. Each node owns a
/// part of that bound: what its last grant allows it, or what it has spent in the second before
/// it asks if that is more. Only the part that nobody owns is granted.
///
/// # Errors
/// [`Error::TierCount`].
pub fn grant_lease(
    bucket: LeasedBucket<'_>,
    terms: &LeaseTerms,
    now: u64,
    ask: &LeaseAsk,
) -> Result<(Grant, NodeRecord), Error> {
    let LeasedBucket { limits, cells, others } = bucket;
    check_count(limits)?;
    let mut debts = [0; MAX_TIERS];
    let mut hold = 0;
    for (tier, (limit, cell)) in limits.iter().zip(cells.iter()).enumerate() {
        debts[tier] = limit.timeline().debt(*cell, now);
        hold = hold.max(held_for(limit, debts[tier], now, terms));
    }
    // Returned tokens would shorten a hold.
    let returned = if hold > 0 { 0 } else { ask.returned };
    let available = limits.iter().zip(debts).map(|(limit, debt)| left(limit, debt, terms)).min();
    let share = share(terms, others, ask, available.unwrap_or(0));
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
    let most = most_in_a_second(terms, others, &share);
    let Share { want, taken, pace, kind } = share;
    let is_short = kind == ShareKind::Fair && most < taken / 1_000;
    let kind = if is_short { ShareKind::Short } else { kind };
    let record = NodeRecord { taken, most: most.max(ask.bound), want };
    Ok((Grant { tokens: granted, pace, most, share: kind, hold }, record))
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

/// How long a tier is paused, in nanoseconds; 0 unless it owes more than slices can make it owe.
fn held_for(limit: &Limit, debt: u64, now: u64, terms: &LeaseTerms) -> u64 {
    if debt <= room(limit, terms) {
        return 0;
    }
    let timeline = limit.timeline();
    let pause = timeline.until(now, debt - (limit.span() - timeline.width()));
    pause.div_ceil(NANOS_PER_MILLI).min(LONGEST_HOLD) * NANOS_PER_MILLI
}

/// A node's share of the rate. `want` and `taken` are those of its [`NodeRecord`].
struct Share {
    want: u64,
    taken: u64,
    pace: u64,
    kind: ShareKind,
}

impl Share {
    /// The tokens of a ttl at this pace.
    fn buffer(&self, terms: &LeaseTerms) -> u64 {
        (self.pace * (terms.ttl() / NANOS_PER_MILLI)).div_ceil(1_000_000)
    }
}

/// The share of the rate that a node gets. `available` is the number of tokens that the bucket
/// has for slices.
fn share(terms: &LeaseTerms, others: &[NodeRecord], ask: &LeaseAsk, available: u64) -> Share {
    let want = ask.want.min(terms.max_rate());
    if want == 0 {
        return Share { want, taken: 0, pace: 0, kind: ShareKind::Whole };
    }
    if others.len() >= MAX_NODES {
        return Share { want: 0, taken: 0, pace: 0, kind: ShareKind::None };
    }
    let rate = terms.rate();
    let (level, spare) = fill(rate, others, want);
    let target = want.min(level);
    let others_have: u64 = others.iter().map(|other| other.taken).sum();
    let taken = target.min(rate.saturating_sub(others_have));
    // The fleet may spend 4 % faster while the bucket holds tokens that it did not use in time:
    // at least an eighth of a second's.
    let more = if available < rate / 8_000 { 0 } else { taken / 25 };
    let pace = (taken + more).min(terms.max_rate());
    if taken < target - target / 16 {
        return Share { want, taken, pace, kind: ShareKind::Short };
    }
    if taken < ask.want {
        return Share { want, taken, pace, kind: ShareKind::Fair };
    }
    // The node has all that it wants. It takes only what it really spends, so that the others get
    // the rest. Its pace leaves room for demand to rise until it asks again, by one token a ttl at
    // least. Where little is wanted altogether that room is large, because it costs the
    // others nothing.
    let taken = ask.spent.clamp(want - want / 64, want);
    let near = if ask.is_new { 0 } else { spare.min(want / 2) };
    let least = 1_000_000_u64.div_ceil(terms.ttl() / NANOS_PER_MILLI);
    let rise = near.max(want / 16).max(spare / 16);
    let pace = (want + rise).max(least).min(terms.max_rate());
    // The demand of a new node is not known yet: the others leave it room to rise.
    let want = if ask.is_new { (want * 3).min(terms.max_rate()) } else { taken };
    Share { want, taken, pace, kind: ShareKind::Whole }
}

/// The most tokens that a node may spend in any second: those of its pace and a 20th more, to even
/// out when calls come, as far as no other node owns them. What the others still lack of their
/// shares is left to them, unless this node lacks it too.
fn most_in_a_second(terms: &LeaseTerms, others: &[NodeRecord], share: &Share) -> u64 {
    let whole = share.pace / 1_000;
    if whole == 0 {
        // Every node may spend one, or many nodes would starve on a small rate.
        return u64::from(share.pace > 0 && share.kind != ShareKind::Short);
    }
    let (mut free, mut lacking) = (terms.rate() / 25 * 26 / 1_000, 0);
    for other in others {
        free = free.saturating_sub(other.most);
        lacking += (other.taken / 1_000).saturating_sub(other.most);
    }
    let wish = whole + (whole / 20).max(1);
    wish.min(free.saturating_sub(lacking)).max((share.taken / 1_000).min(free))
}

/// The max-min fair level: each node gets what it wants up to this, and together they get at most
/// `rate`. Also answers the rate that each could have beyond that once all have what they want.
///
/// This is progressive filling, as water fills vessels of different height.
fn fill(rate: u64, others: &[NodeRecord], wanted: u64) -> (u64, u64) {
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
        // The nodes below the level leave at least this level to each of the others.
        let next = (rate - full) / higher;
        if next == level {
            return (level, 0);
        }
        level = next;
    }
}
