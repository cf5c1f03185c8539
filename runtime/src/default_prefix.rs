//! The limits that have the default prefix of a store, for limiters on any thread and in forked children.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tidegate_core::Limit;
use tidegate_protocol::{PrefixClaim, PrefixHold};

use crate::Error;

/// The limits that have the default prefix of a store, while a limiter with them is open. Not behind a
/// lock, so that a forked child can use what it inherits.
#[derive(Default)]
pub(crate) struct DefaultPrefix(ArcSwapOption<PrefixClaim>);

impl DefaultPrefix {
    /// Takes part in the default prefix.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] while limiters with other limits have it.
    pub(crate) fn hold(&self, limits: &Arc<[Limit]>) -> Result<Arc<PrefixHold>, Error> {
        let (new, own) = PrefixClaim::new(limits);
        let new = Arc::new(new);
        let mut held = Ok(Arc::clone(&own));
        self.0.rcu(|claim| {
            let joined = claim.as_ref().and_then(|claim| claim.join(limits).transpose());
            match joined {
                Some(joined) => {
                    held = joined;
                    claim.clone()
                }
                None => {
                    held = Ok(Arc::clone(&own));
                    Some(Arc::clone(&new))
                }
            }
        });
        held
    }
}
