//! The egress machine: takes messages from a queue to a vendor, each under a token, a permit and an
//! open gate.

mod action;
mod held;
mod machine;
mod partition;
mod response;
mod terms;

pub use action::{DeadReason, EgressAction};
pub use held::{EgressMessage, HeldMessage};
pub use machine::{Admission, Egress, EgressCounts, EgressGauges};
pub use partition::EgressPartition;
pub use response::EgressResponse;
pub use terms::{EgressOrder, EgressTerms};
