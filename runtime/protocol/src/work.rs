//! What a server is asked to do, and who gets the answer.

use tidegate_core::{Grant, Outcome};

use crate::error::Error;
use crate::lease::LeaseCall;
use crate::permits::{PermitCall, PermitReply};
use crate::request::Request;

/// A callback for the outcome of an operation. Whoever drops it uncalled leaves its caller to
/// answer that the outcome was lost.
pub type Done = Box<dyn FnOnce(Result<Outcome, Error>) + Send>;

/// A callback for the grant that answers a lease call.
pub type GrantDone = Box<dyn FnOnce(Result<Grant, Error>) + Send>;

/// A callback for the answer to a call about permits.
pub type PermitsDone = Box<dyn FnOnce(Result<PermitReply, Error>) + Send>;

/// What a server is asked to do, and the callback for its answer.
pub enum Work {
    /// An operation on buckets.
    Operation {
        /// The operation and its keys.
        request: Request,
        /// Gets the outcome.
        done: Done,
    },
    /// A slice is taken, renewed or given back.
    Lease {
        /// The script call.
        call: Box<LeaseCall>,
        /// Gets the grant.
        done: GrantDone,
    },
    /// Callers take, renew or leave permits of one key.
    Permits {
        /// The script call.
        call: Box<PermitCall>,
        /// Gets the answer.
        done: PermitsDone,
    },
}

/// Work on keys of one hash slot.
pub struct Addressed {
    /// The slot; 0 outside of a cluster.
    pub slot: u16,
    /// The work.
    pub work: Work,
}
