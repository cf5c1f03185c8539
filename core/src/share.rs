//! Divides a limit into equal shares.

use core::num::NonZeroU32;

use crate::error::Error;
use crate::limit::{Limit, Shape};

impl Limit {
    /// One of `peers` equal shares of the limit, for the nodes of a fleet that cannot use a common
    /// bucket.
    ///
    /// The tokens of a smooth limit's share are `peers` times as wide, so that all shares together
    /// have exactly the rate of the limit. Each step of a stepped limit's share brings a `peers`th
    /// of the tokens, rounded down. If a step has fewer tokens than there are peers, a share gets
    /// one token every few steps, so few that all shares together get no more than the limit. The
    /// burst is divided and rounded down, but is at least 1. So together the shares hold at most
    /// the burst, or one token for each peer if that is more.
    ///
    /// # Errors
    /// The bound that the share breaks, as for [`smooth`](Self::smooth) and
    /// [`stepped`](Self::stepped): one of its tokens can take too long.
    ///
    /// ```
    /// use core::num::NonZeroU32;
    /// use tidegate_core::Limit;
    /// let eight = NonZeroU32::new(8).unwrap();
    /// let share = Limit::parse("100/s burst 20")?.share(eight)?;
    /// assert_eq!(share, Limit::smooth(1, 80_000_000, 2)?);
    /// let share = Limit::parse("100/min window")?.share(eight)?;
    /// assert_eq!(share, Limit::parse("12/min window")?);
    /// # Ok::<(), tidegate_core::Error>(())
    /// ```
    pub const fn share(&self, peers: NonZeroU32) -> Result<Self, Error> {
        let peers = peers.get() as u64;
        if peers == 1 {
            return Ok(*self);
        }
        let burst = if self.burst() < peers { 1 } else { self.burst() / peers };
        match self.shape() {
            Shape::Smooth => match self.timeline().width().checked_mul(peers) {
                Some(width) => Self::smooth(1, width, burst),
                None => Err(Error::SpanTooLong),
            },
            Shape::Stepped if self.tokens() >= peers => {
                Self::stepped(self.tokens() / peers, self.period(), burst)
            }
            Shape::Stepped => match self.period().checked_mul(peers.div_ceil(self.tokens())) {
                Some(period) => Self::stepped(1, period, burst),
                None => Err(Error::SteppedTooLong),
            },
        }
    }
}
