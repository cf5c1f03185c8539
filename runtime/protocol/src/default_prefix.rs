//! The limits of the limiters on a store that are given no prefix. Their keys are the same in Redis, so
//! limiters with other limits would charge each other's buckets without having asked for that.

use std::sync::{Arc, Weak};

use tidegate_core::Limit;

use crate::Error;

/// The limits that have the default prefix of a store, while a limiter with them is open.
#[derive(Debug)]
pub struct PrefixClaim {
    limits: Arc<[Limit]>,
    holders: Weak<PrefixHold>,
}

/// A limiter's part in the default prefix. When all are gone, other limits may have it.
#[derive(Debug)]
pub struct PrefixHold(());

impl PrefixClaim {
    /// The claim of a first limiter, and its part in it.
    #[must_use]
    pub fn new(limits: &Arc<[Limit]>) -> (Self, Arc<PrefixHold>) {
        let hold = Arc::new(PrefixHold(()));
        (Self { limits: Arc::clone(limits), holders: Arc::downgrade(&hold) }, hold)
    }

    /// Takes part in this claim; `None` if all who had a part in it are gone.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] while limiters with other limits have a part in it.
    pub fn join(&self, limits: &[Limit]) -> Result<Option<Arc<PrefixHold>>, Error> {
        match self.holders.upgrade() {
            Some(_) if *self.limits != *limits => Err(taken(&self.limits, limits)),
            holders => Ok(holders),
        }
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
