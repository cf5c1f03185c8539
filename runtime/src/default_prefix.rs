//! The limits of the limiters on a store that are given no prefix. Their keys are the same in Redis, so
//! limiters with other limits would charge each other's buckets without having asked for that.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use tidegate_core::Limit;

use crate::Error;

/// The limits that have the default prefix of a store, while a limiter with them is open. Not behind a
/// lock, so that a forked child can use what it inherits.
#[derive(Default)]
pub(crate) struct DefaultPrefix(ArcSwapOption<Claim>);

struct Claim {
    limits: Arc<[Limit]>,
    holders: Weak<PrefixHold>,
}

/// A limiter's part in the default prefix. When all are gone, other limits may have it.
pub(crate) struct PrefixHold(());

impl DefaultPrefix {
    /// Takes part in the default prefix.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] while limiters with other limits have it.
    pub(crate) fn hold(&self, limits: &Arc<[Limit]>) -> Result<Arc<PrefixHold>, Error> {
        let new = Arc::new(PrefixHold(()));
        let mut held = Ok(Arc::clone(&new));
        self.0.rcu(|claim| {
            if let Some(claim) = claim
                && let Some(holders) = claim.holders.upgrade()
            {
                held = match claim.limits == *limits {
                    true => Ok(holders),
                    false => Err(taken(&claim.limits, limits)),
                };
                return Some(Arc::clone(claim));
            }
            held = Ok(Arc::clone(&new));
            Some(Arc::new(Claim { limits: Arc::clone(limits), holders: Arc::downgrade(&new) }))
        });
        held
    }
}

fn taken(theirs: &[Limit], own: &[Limit]) -> Error {
    let texts = |limits: &[Limit]| {
        let texts: Vec<String> = limits.iter().map(Limit::to_string).collect();
        texts.join(", ")
    };
    let (theirs, own) = (texts(theirs), texts(own));
    let message = format!(
        "a limiter of {theirs} and one of {own} on one store would share the bucket of a key: give \
         each a prefix of its own, or the same one to share on purpose"
    );
    Error::argument("prefix", message)
}
