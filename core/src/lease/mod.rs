//! Leases: a node takes a slice of a shared bucket ahead and spends it locally at a pace.
//!
//! Rates here are whole numbers of thousandths of a token per second, so that a node's share
//! of a small limit is still an integer.

mod budget;
mod grant;
mod quota;
mod quota_slice;
mod rate;
mod rate_meter;
mod slice;
mod sliding_second;
mod spending_window;
mod terms;

pub use budget::{Budget, BudgetSpend};
pub use grant::{Grant, LeaseAsk, LeasedBucket, NodeRecord, ShareKind, grant_lease};
pub use quota::{Quota, QuotaMember, QuotaReport, RefillRate};
pub use quota_slice::{QuotaSlice, QuotaSpend, QuotaTerms};
pub use slice::{Next, Slice, SpendResult};
pub use terms::{LeaseError, LeaseTerms, MAX_NODES};
