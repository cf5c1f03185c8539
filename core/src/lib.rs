#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod admit;
mod any_limit;
mod bounds;
mod breaker;
mod change;
mod clock;
mod controller;
mod cost;
mod credit;
mod decision;
mod egress;
mod error;
mod fixed;
mod gate;
mod gcra;
mod grammar;
mod hold;
mod lease;
mod limit;
mod operation;
mod outbound;
mod permits;
mod reservation;
mod retry;
mod settle;
mod sha256;
mod share;
mod signal;
mod spelling;
mod stored_key;
mod sync;
mod table;
mod tiers;
mod timeline;

pub use admit::admit;
pub use any_limit::{AnyLimit, BucketTiers};
pub use bounds::{MAX_KEY, MAX_RATE_PER_SECOND, MAX_SPAN, MAX_TIERS};
pub use breaker::{Attempt, Breaker, BreakerPolicy, BreakerState};
pub use change::change_limits;
pub use clock::{Clock, ManualClock};
pub use controller::{ControlPolicy, ControlReport, Controller};
pub use cost::Cost;
pub use credit::{credit, reset};
pub use decision::{Decision, Source, TierDecision, TieredDecision};
pub use egress::{
    Admission, DeadReason, Egress, EgressAction, EgressCounts, EgressGauges, EgressMessage,
    EgressOrder, EgressPartition, EgressResponse, EgressTerms, HeldMessage,
};
pub use error::{Error, Field};
pub use fixed::Fixed;
pub use gate::{CallOutcome, FULL_SHARE, Gate, GateAnswer, GatePolicy, GateReport};
pub use gcra::decide;
pub use hold::hold;
pub use lease::{
    Budget, BudgetSpend, Grant, LeaseAsk, LeaseError, LeaseTerms, LeasedBucket, MAX_NODES, Next,
    NodeRecord, Quota, QuotaMember, QuotaReport, QuotaSlice, QuotaSpend, QuotaTerms, RefillRate,
    ShareKind, Slice, SpendResult, grant_lease,
};
pub use limit::{Limit, Shape};
pub use operation::{Correction, Operation, OperationKind, Outcome, apply};
pub use outbound::{CallEvent, CallStep, CallTerms, OutboundCall, TransportFailure};
pub use permits::{
    PermitAnswer, PermitAsk, PermitHolder, PermitStanding, PermitState, PermitWaiter, decide_permit,
};
pub use reservation::{Charge, Reservation, Reserved, cancel, reserve};
pub use retry::{Failure, GiveUp, Retry, RetryBudget, RetryPolicy};
pub use settle::settle;
pub use signal::{
    DEFAULT_MAX_HOLD, HoldScope, Meaning, Profile, Row, Signal, SignalKind, SignalReader, Unit,
};
pub use spelling::{ErrorInText, Instead, Mistake, Quoted};
pub use stored_key::StoredKey;
pub use table::{
    OnFull, Segments, Slot, Table, TableFull, WINDOW, apply_tables, check_each_table, check_table,
    check_tables,
};
pub use tiers::{Cells, decide_each_tier, decide_tiers};
pub use timeline::Timeline;
