//! Slices and budgets of shared buckets: how they are asked for, spent and renewed, in every program.

mod call;
mod keeper;
mod leased;
mod once;
mod options;
mod plan;

pub use call::LeaseCall;
pub use keeper::LeaseKeeper;
pub use once::lease_once;
pub use options::LeaseOptions;
pub use plan::LeasePlan;
