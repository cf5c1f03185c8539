//! The options that the limiters of all rules share: the store, and what is done when it fails.

use core::time::Duration;

use tidegate::{Error, LeaseOptions, Limiter, LimiterBuilder, OnStoreError, Store};

use crate::cli::ServeOptions;

/// The store when none is given: the memory of this process, which needs nothing else.
const DEFAULT_STORE: &str = "memory://";

/// The store and the options of every limiter on it.
#[derive(Clone, Debug)]
pub(crate) struct StoreOptions {
    store: Store,
    on_store_error: OnStoreError,
    deny_cache: Option<Duration>,
    lease: Option<LeaseOptions>,
}

impl StoreOptions {
    /// Opens the store of the command line.
    ///
    /// # Errors
    /// A sentence that names the option and its bound.
    pub(crate) fn open(options: &ServeOptions) -> Result<Self, String> {
        let url = options.store.as_deref().unwrap_or(DEFAULT_STORE);
        let store =
            Store::open(url, options.store_timeout).map_err(|error| named(&error, "--store"))?;
        let (policy, peers) = (&options.on_store_error, options.peers);
        let on_store_error = OnStoreError::parse(policy, peers)
            .map_err(|error| named(&error, "--on-store-error"))?;
        let lease = options.lease_ttl.map(|ttl| {
            let options_of_ttl = LeaseOptions::new(ttl);
            options.lease_max_share.map_or(options_of_ttl, |share| options_of_ttl.max_share(share))
        });
        let this = Self { store, on_store_error, deny_cache: options.deny_cache, lease };
        // A limiter of a fast limit fails only by the options, so that their errors are not
        // reported as errors of a rule.
        match this.limiter("tidegate").limit("1000000/s").build() {
            Err(error) if option_of(&error).is_some() => Err(named(&error, "--store")),
            _ => Ok(this),
        }
    }

    /// Options that ask no server, for a file of rules that is only checked.
    ///
    /// # Errors
    /// A sentence, which no input leads to.
    pub(crate) fn in_memory() -> Result<Self, String> {
        let store = Store::open(DEFAULT_STORE, Duration::from_secs(1));
        let store = store.map_err(|error| named(&error, DEFAULT_STORE))?;
        Ok(Self { store, on_store_error: OnStoreError::Raise, deny_cache: None, lease: None })
    }

    /// A builder of a limiter with these options.
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

    /// The same options without leases.
    pub(crate) fn without_leases(&self) -> Self {
        Self { lease: None, ..self.clone() }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Whether requests are answered while the store fails.
    pub(crate) fn has_fallback(&self) -> bool {
        self.on_store_error != OnStoreError::Raise
    }
}

/// The command-line option that a limiter's error is about; `None` when it is about another
/// argument.
pub(crate) fn option_of(error: &Error) -> Option<&'static str> {
    let Error::InvalidArgument { name, .. } = error else { return None };
    Some(match *name {
        "store_timeout" => "--store-timeout",
        "on_store_error" => "--on-store-error",
        "peers" => "--peers",
        "deny_cache" => "--deny-cache",
        "lease" => "--lease-ttl, --lease-max-share",
        _ => return None,
    })
}

fn named(error: &Error, otherwise: &str) -> String {
    format!("{}: {error}", option_of(error).unwrap_or(otherwise))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_option_and_the_bound() -> Result<(), String> {
        for (arguments, expected) in [
            (
                &["--store-timeout", "2min"][..],
                "--store-timeout: invalid store_timeout: it must be 1 ms to 60 s",
            ),
            (
                &["--on-store-error", "ignore"],
                "--on-store-error: invalid on_store_error: it must be \"raise\", \"allow\", \"deny\" or \"local\"",
            ),
            (
                &["--on-store-error", "local"],
                "--peers: invalid peers: on_store_error \"local\" needs",
            ),
            (
                &["--on-store-error", "local", "--peers", "0"],
                "--peers: invalid peers: it must be 1 to 1000000, but is 0",
            ),
            (&["--peers", "3"], "--peers: invalid peers: it is for on_store_error \"local\" only"),
            (&["--deny-cache", "61s"], "--deny-cache: invalid deny_cache: it must be 0 to 60 s"),
            (
                &["--lease-ttl", "99ms"],
                "--lease-ttl, --lease-max-share: invalid lease: the ttl must be 100 ms to 60 s",
            ),
            (
                &["--lease-ttl", "1s", "--lease-max-share", "1.1"],
                "--lease-ttl, --lease-max-share: invalid lease: the largest share must be 0.001 to 1",
            ),
            (
                &["--lease-ttl", "1s", "--lease-max-share", "nan"],
                "--lease-ttl, --lease-max-share: invalid lease: the largest share must be 0.001 to 1",
            ),
        ] {
            let words = ["tidegate", "serve", "--store", "redis://127.0.0.1:1", "--limit", "1/s"];
            let words = [&words[..], arguments].concat();
            let options = ServeOptions::parse_words(&words)?;
            let message = StoreOptions::open(&options).err().unwrap_or_default();
            assert!(message.starts_with(expected), "{arguments:?}: {message}");
        }
        Ok(())
    }
}
