//! Where buckets live: memory, a shared file or a Redis.

use core::{fmt, time::Duration};
use std::sync::Arc;

use tidegate_protocol::{ClientConnection, ClientStore, Host as _, StoreChange};

use crate::Error;
use crate::bounds::check_store_timeout;
use crate::host::{GuardedStore, NativeHost, set_store_hook};
use crate::redis::{self, Address};
use crate::shared_store::SharedStore;
use crate::shm::ShmOptions;

/// The store timeout unless one is given.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_millis(50);

/// Where buckets live, shared by the limiters that are given a clone of it.
///
/// `memory://` is the process itself: each limiter has buckets of its own there.
/// `shm://name` is memory that the processes of this host share, on Linux and macOS.
/// Limiters of one name share buckets when prefix and limits are equal too. Options:
/// `?max_keys=100000` (keys that owe something, 1 to 100,000,000, 23 bytes each per limit),
/// `&on_full=evict_idlest` or `deny`, `&mode=600` (or 660, 666: who may share), `&dir=/path`.
/// `redis://[user:password@]host[:port][/database]` and `redis+unix:///path` name a Redis that
/// a fleet shares; `redis+cluster://[user:password@]host1:port1,host2:port2` a cluster, by some
/// of its nodes; `redis+sentinel://[user:password@]host1:port1,host2:port2/master[/database]`
/// the master of that name, by the sentinels who watch over it. With `rediss` they are over
/// TLS; `valkey` and `valkeys` mean the same.
/// Limiters with one `Store` share its connection, its circuit breaker and what is known of refused
/// keys. So do limiters on the same URL with the same timeout: the first one opens the store, and
/// the last one closes it.
/// Options: `?protocol=resp3`, `db=1`, for TLS `ca=/path`, `cert=/path` and `key=/path` (PEM) and
/// `verify=none` (the certificate is not checked),
/// for a cluster or sentinels `tls=true`, for sentinels `sentinel_username=` and
/// `sentinel_password=`, for a socket `user=` and `pass=`, and `password_file=/path` instead of a
/// password, which is read again for each connection.
#[derive(Clone)]
pub struct Store(pub(crate) Backend);

#[derive(Clone)]
pub(crate) enum Backend {
    Memory,
    Shm(ShmOptions),
    Redis(Arc<SharedStore>),
}

impl Store {
    /// Reads a store URL, and connects at the first use. `timeout` bounds each operation,
    /// connecting included: 1 ms to 60 s. If a Redis is open in this process for the same URL and
    /// timeout, that is the one: the URL is compared letter by letter, and files that it names are
    /// not read again.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a URL or timeout that cannot be used. The
    /// message never repeats the URL's user or password.
    pub fn open(url: &str, timeout: Duration) -> Result<Self, Error> {
        Self::open_with(url, timeout, None)
    }

    /// [`open`](Self::open) for a Redis whose I/O is to run on a Tokio runtime of the
    /// program's own, with its I/O and time drivers, instead of on Tidegate's thread: checks
    /// made by tasks there then cross no thread, which costs the fewest cycles. Busy tasks
    /// keep it waiting, though, so that a timeout may be noticed late.
    ///
    /// Where a blocking method is called on that runtime's only thread, it answers
    /// [`Error::StoreTimeout`] after a second, as nobody is left to do the I/O; when the runtime
    /// has been shut down, calls answer [`Error::Store`]. Timers, leases and the child of a fork
    /// use Tidegate's thread.
    ///
    /// ```no_run
    /// use core::time::Duration;
    /// use tidegate::{Limiter, Store};
    /// # async fn example() -> Result<(), tidegate::Error> {
    /// let runtime = tokio::runtime::Handle::current();
    /// let store = Store::open_on("redis://127.0.0.1", Duration::from_millis(50), &runtime)?;
    /// let limiter = Limiter::builder().limit("100/s").store(store).build()?;
    /// limiter.check_async("user:42", 1).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`Error::InvalidArgument`] for memory, which does no I/O.
    pub fn open_on(
        url: &str,
        timeout: Duration,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, Error> {
        let store = Self::open_with(url, timeout, Some(runtime))?;
        match store.0 {
            Backend::Redis(_) => Ok(store),
            Backend::Memory | Backend::Shm(_) => {
                Err(Error::argument("runtime", "it is for a Redis store only; memory does no I/O"))
            }
        }
    }

    fn open_with(
        url: &str,
        timeout: Duration,
        runtime: Option<&tokio::runtime::Handle>,
    ) -> Result<Self, Error> {
        check_store_timeout(timeout)?;
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(unknown_url("it has no scheme"));
        };
        match scheme {
            "memory" if rest.is_empty() => Ok(Self(Backend::Memory)),
            "memory" => Err(unknown_url("nothing may follow memory://")),
            "shm" => Ok(Self(Backend::Shm(ShmOptions::parse(rest)?))),
            scheme if Address::has_scheme(scheme) => {
                Ok(Self(Backend::Redis(redis::open(url, timeout, runtime)?)))
            }
            // The message does not repeat the scheme, because a misplaced password may stand there.
            _ => Err(unknown_url("its scheme is not known")),
        }
    }

    /// A Redis that is reached over a client of the program's own. `timeout` is for how long
    /// callers want to wait: 1 ms to 60 s.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for the timeout.
    pub(crate) fn over_client(
        connection: Arc<ClientConnection>,
        timeout: Duration,
    ) -> Result<Self, Error> {
        check_store_timeout(timeout)?;
        let store = Arc::new(ClientStore::new(connection, timeout, NativeHost::now));
        let guarded = GuardedStore::new(store, timeout);
        Ok(Self(Backend::Redis(Arc::new(SharedStore::new(guarded, None, Arc::default())))))
    }

    /// Calls `hook` when a Redis is opened with `verify=none`, when one begins to be left alone because it
    /// keeps failing, and when it is asked again: once for each such change of a store, or in a cluster of a node, and never for each call.
    /// Without it a store can fail unnoticed if the policy answers instead
    /// ([`OnStoreError`](crate::OnStoreError)). There is one hook for the process, because limiters
    /// share their stores; the last one that was set counts.
    ///
    /// The hook runs on the thread that got the answer of a call, which may be the one that does the I/O
    /// of all stores. So it should write a line to the log or send to a channel, and make no call of a
    /// limiter.
    ///
    /// ```
    /// tidegate::Store::on_change(|change| match change.is_warning() {
    ///     true => eprintln!("warning: {change}"),
    ///     false => eprintln!("info: {change}"),
    /// });
    /// ```
    pub fn on_change(hook: impl Fn(&StoreChange) + Send + Sync + 'static) {
        set_store_hook(hook);
    }

    /// Whether the store answers within its timeout. Memory always does, shared or not; a client
    /// of the program's own is not asked.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::StoreTimeout`].
    pub fn ping(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let backend = self.0.clone();
        async move {
            match backend {
                Backend::Memory | Backend::Shm(_) => Ok(()),
                Backend::Redis(store) => match &store.native {
                    Some(redis) => redis.ping().await,
                    None => Ok(()),
                },
            }
        }
    }
}

fn unknown_url(why: &str) -> Error {
    Error::argument(
        "store",
        format!(
            "{why}; use memory://, shm://, redis://, rediss://, redis+unix://, redis+cluster:// \
             or redis+sentinel://"
        ),
    )
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({self})")
    }
}

/// Where the buckets are, for logs: scheme, hosts, ports and database, without a user, a password
/// or an option that could hold one.
impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Backend::Memory => f.write_str("memory://"),
            Backend::Shm(options) => options.fmt(f),
            Backend::Redis(store) => store.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shown_without_user_password_and_options() -> Result<(), Error> {
        for (url, shown) in [
            ("memory://", "memory://"),
            ("redis://127.0.0.1", "redis://127.0.0.1:6379/0"),
            ("valkey://:secret@db:6380/2", "redis://db:6380/2"),
            ("rediss://user:s3%2Fcr%40secret@[::1]:6380?db=3", "rediss://[::1]:6380/3"),
            ("rediss://:secret@db?verify=none", "rediss://db:6379/0?verify=none"),
            ("redis+unix:///run/redis.sock?user=u&pass=secret", "redis+unix:///run/redis.sock/0"),
            ("redis+cluster://:secret@a,b:7001?tls=true", "rediss+cluster://a:6379,b:7001"),
            (
                "redis+sentinel://u:secret@a,b:7/main/1?sentinel_password=secret",
                "redis+sentinel://a:26379,b:7/main/1",
            ),
        ] {
            let store = Store::open(url, DEFAULT_TIMEOUT)?;
            assert_eq!(store.to_string(), shown);
            assert_eq!(format!("{store:?}"), format!("Store({shown})"));
        }
        Ok(())
    }
}
