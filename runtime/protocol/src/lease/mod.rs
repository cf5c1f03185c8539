//! Slices of shared buckets, as far as they are the same in every program.

mod call;
mod contract;
mod options;

pub use call::LeaseCall;
pub use contract::Contract;
pub use options::LeaseOptions;
