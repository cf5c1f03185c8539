use core::num::NonZeroU32;

use crate::error::Error;
use crate::limit::{Limit, Shape};

impl Limit {
    /// One of `peers` equal shares, for members of a fleet that must each keep to their own.
    ///
    /// A smooth limit's tokens are `peers` times as wide, so that all shares together have
    /// its very rate. A stepped one's steps bring whole tokens, rounded down; where there are
    /// fewer than peers, one token at every so many steps that all together bring no more.
    /// The burst is divided, rounded down, but at least 1. So together the shares hold at
    /// most the burst, or one token for each peer where that is more.
    ///
    /// # Errors
    /// The bound that the share breaks, as [`smooth`](Self::smooth) and
    /// [`stepped`](Self::stepped): a token of it can take too long.
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
