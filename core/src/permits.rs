//! Decides who may hold one of a limited number of concurrency permits, which expire, and who waits
//! for one in which order.

/// A caller that holds a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermitHolder<I> {
    /// The caller.
    pub id: I,
    /// When the permit expires unless it is renewed, in the unit of the store's clock.
    pub until: u64,
}

/// A caller that waits for a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermitWaiter<I> {
    /// The caller.
    pub id: I,
    /// The place in the line: whoever came earlier has a smaller number.
    pub order: u64,
    /// When the caller loses its place unless it is heard of, in the unit of the store's clock.
    pub until: u64,
}

/// How a caller stands with the permits of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PermitStanding {
    /// The caller neither holds a permit nor waits for one.
    #[default]
    Absent,
    /// The caller waits.
    Waiting,
    /// The caller holds a permit that has not expired.
    Held,
}

/// The permits of a key as one caller finds them. What has expired is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PermitState {
    /// The number of permits that are held, the caller's own included.
    pub live: u64,
    /// The number of callers that wait, the caller itself included.
    pub line: u64,
    /// The number of callers that wait before the caller; all of them if it does not wait.
    pub ahead: u64,
    /// How the caller stands.
    pub standing: PermitStanding,
}

/// What a caller asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitAsk {
    /// The caller wants a permit, and waits for it if there is none.
    Enter,
    /// The caller wants a permit now or not at all.
    TryEnter,
    /// The caller goes on using its permit.
    Renew,
    /// The caller gives its permit back, or stops waiting for one.
    Leave,
}

/// The answer to a [`PermitAsk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitAnswer {
    /// The caller holds a permit, for a ttl from now.
    Entered,
    /// The caller waits, behind so many others.
    Waiting {
        /// The number of callers that wait before it.
        ahead: u64,
    },
    /// There is no permit, or no place to wait for one. Nothing was changed.
    Full,
    /// The permit has expired, and may be another's by now. Nothing was changed.
    Lost,
    /// The caller has left.
    Left {
        /// Whether there was anything to leave.
        was_here: bool,
    },
}

impl PermitState {
    /// The state at `now` for the caller `id`: those who hold permits and those who wait, in any order.
    pub fn of<I: PartialEq>(
        id: &I,
        holders: impl IntoIterator<Item = PermitHolder<I>>,
        waiters: impl IntoIterator<Item = PermitWaiter<I>> + Clone,
        now: u64,
    ) -> Self {
        let mut state = Self::default();
        for holder in holders.into_iter().filter(|holder| holder.until > now) {
            state.live += 1;
            if holder.id == *id {
                state.standing = PermitStanding::Held;
            }
        }
        let waits = |waiter: &PermitWaiter<I>| waiter.until > now;
        let mut own = u64::MAX;
        for waiter in waiters.clone().into_iter().filter(waits) {
            state.line += 1;
            if waiter.id == *id && state.standing != PermitStanding::Held {
                (state.standing, own) = (PermitStanding::Waiting, waiter.order);
            }
        }
        let before = waiters.into_iter().filter(|waiter| waits(waiter) && waiter.order < own);
        state.ahead = before.count() as u64;
        state
    }
}

/// Decides what becomes of a caller: the twin of `permits.lua`.
///
/// There are `limit` permits, and at most `max_line` callers wait. A caller enters if more permits are
/// free than callers wait before it, so nobody's turn is taken, and two permits that come free together
/// go to the first two. A lower limit takes no permit away: nobody enters until enough have left. The
/// same caller entering twice holds one permit. A renewal that comes after the expiry never
/// brings a permit back, because it may be another's by now.
///
/// ```
/// use tidegate_core::{PermitAnswer, PermitAsk, PermitState, decide_permit};
/// let one_is_held = PermitState { live: 1, ..PermitState::default() };
/// assert_eq!(decide_permit(&one_is_held, 2, 10, PermitAsk::Enter), PermitAnswer::Entered);
/// assert_eq!(
///     decide_permit(&one_is_held, 1, 10, PermitAsk::Enter),
///     PermitAnswer::Waiting { ahead: 0 }
/// );
/// ```
pub const fn decide_permit(
    state: &PermitState,
    limit: u64,
    max_line: u64,
    ask: PermitAsk,
) -> PermitAnswer {
    let held = matches!(state.standing, PermitStanding::Held);
    let waits = matches!(state.standing, PermitStanding::Waiting);
    match ask {
        PermitAsk::Leave => PermitAnswer::Left { was_here: held || waits },
        _ if held => PermitAnswer::Entered,
        PermitAsk::Renew => PermitAnswer::Lost,
        _ if state.ahead < limit.saturating_sub(state.live) => PermitAnswer::Entered,
        PermitAsk::Enter if waits || state.line < max_line => {
            PermitAnswer::Waiting { ahead: state.ahead }
        }
        PermitAsk::Enter | PermitAsk::TryEnter => PermitAnswer::Full,
    }
}
