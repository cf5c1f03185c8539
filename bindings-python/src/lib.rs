//! The native module of the Python package `tidegate`: names, conversions and errors around the
//! Rust limiter, which takes every decision.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod arguments;
mod clients;
mod clock;
mod completions;
mod concurrency;
mod decision;
mod egress;
mod errors;
mod limit;
mod limiter;
mod limits;
mod outbound;
mod outcome;
mod pressure;
mod reservation;
mod seconds;
mod signal;
mod store_health;
mod store_log;
mod waiting;

use pyo3::prelude::*;

/// The native part of the package `tidegate`; import that instead.
#[pymodule(gil_used = false)]
mod _tidegate {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::clients::Batch;
    #[pymodule_export]
    use crate::clients::ClientConnection;
    #[pymodule_export]
    use crate::clients::PendingQueue;
    #[pymodule_export]
    use crate::clock::FakeClock;
    #[pymodule_export]
    use crate::completions::Completions;
    #[pymodule_export]
    use crate::completions::PermitWaiter;
    #[pymodule_export]
    use crate::completions::Waiter;
    #[pymodule_export]
    use crate::concurrency::Concurrency;
    #[pymodule_export]
    use crate::concurrency::Permit;
    #[pymodule_export]
    use crate::decision::Decision;
    #[pymodule_export]
    use crate::decision::DecisionOfTiers;
    #[pymodule_export]
    use crate::decision::TierDecision;
    #[pymodule_export]
    use crate::decision::restore;
    #[pymodule_export]
    use crate::decision::restore_tier;
    #[pymodule_export]
    use crate::egress::Egress;
    #[pymodule_export]
    use crate::limit::Limit;
    #[pymodule_export]
    use crate::limiter::Limiter;
    #[pymodule_export]
    use crate::limits::Limits;
    #[pymodule_export]
    use crate::outbound::OutboundCall;
    #[pymodule_export]
    use crate::outbound::RetryBudget;
    #[pymodule_export]
    use crate::outbound::is_idempotent;
    #[pymodule_export]
    use crate::outbound::profile_of_host;
    #[pymodule_export]
    use crate::pressure::Pressure;
    #[pymodule_export]
    use crate::reservation::Reservation;
    #[pymodule_export]
    use crate::signal::Signal;
    #[pymodule_export]
    use crate::signal::read_signal;
    #[pymodule_export]
    use crate::store_health::StoreHealth;
    #[pymodule_export]
    use crate::waiting::Waiting;

    #[pymodule_init]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::store_log::start();
        Ok(())
    }

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
