//! Quotas of nodes that spend elsewhere, for the service that assigns them. Not a public interface.

pub use tidegate_core::{
    Grant, LeaseAsk, LeaseError, LeaseTerms, Quota, QuotaMember, QuotaReport, RefillRate, ShareKind,
};
use tidegate_protocol::Host as _;

use crate::host::NativeHost;

/// A number by which a bucket knows a node. Those of all processes that share a store differ.
pub fn node_id() -> u64 {
    NativeHost::random()
}
