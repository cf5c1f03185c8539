//! The limiters of all rules, on one store.

use core::time::Duration;

use tidegate::Limiter;
use tidegate::{Error, LeaseOptions, LimiterBuilder, OnStoreError, Store};

use crate::cli::ServeOptions;

/// Where the buckets of all rules live, and what is done when they cannot be reached.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    store: Store,
    on_store_error: OnStoreError,
    deny_cache: Option<Duration>,
    lease: Option<LeaseOptions>,
}

impl Buckets {
    /// As the options say.
    ///
    /// # Errors
    /// A sentence that names the option and its bound.
    pub(crate) fn open(options: &ServeOptions) -> Result<Self, String> {
        let store = Store::open(&options.store, options.store_timeout)
            .map_err(|error| format!("--store: {error}"))?;
        let (policy, peers) = (options.on_store_error.name(), options.peers.map(u64::from));
        let on_store_error = OnStoreError::parse(policy, peers).map_err(|error| named(&error))?;
        let lease =
            options.lease_ttl.map(|ttl| LeaseOptions::new(ttl).max_share(options.lease_max_share));
        let this = Self { store, on_store_error, deny_cache: options.deny_cache, lease };
        // So that the options' own mistakes are not a rule's.
        let any = this.limiter("tidegate").limit("1000000/s").build();
        match any {
            Err(error) if option_of(&error).is_some() => Err(named(&error)),
            _ => Ok(this),
        }
    }

    /// A limiter on them.
    pub(crate) fn limiter(&self, prefix: &str) -> LimiterBuilder {
        let mut builder = Limiter::builder()
            .store(self.store.clone())
            .prefix(prefix)
            .on_store_error(self.on_store_error);
        if let Some(longest) = self.deny_cache {
            builder = builder.deny_cache(longest);
        }
        match self.lease {
            Some(lease) => builder.lease(lease),
            None => builder,
        }
    }

    /// The same, whose tokens are never taken ahead of time.
    pub(crate) fn unleased(&self) -> Self {
        Self { lease: None, ..self.clone() }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Whether requests are answered also while the store fails.
    pub(crate) fn have_a_fallback(&self) -> bool {
        self.on_store_error != OnStoreError::Raise
    }
}

/// The option that a limiter's error is about, if it is about one of them.
pub(crate) fn option_of(error: &Error) -> Option<&'static str> {
    let Error::InvalidArgument { name, .. } = error else { return None };
    Some(match *name {
        "on_store_error" => "--on-store-error",
        "peers" => "--peers",
        "deny_cache" => "--deny-cache",
        "lease" => "--lease-ttl, --lease-max-share",
        _ => return None,
    })
}

fn named(error: &Error) -> String {
    format!("{}: {error}", option_of(error).unwrap_or("--on-store-error"))
}
