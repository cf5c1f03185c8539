//! `Limiter`: the methods for threads, and what `AsyncLimiter` needs of it.

use core::mem;
use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};
use tidegate::bindings::{CancelOnDrop, PerProcess, generation, lock::Mutex, tiered};
use tidegate::{
    Cost, Error, LeaseOptions, ManualClock, OnFull, OnStoreError, Operation, TieredDecision,
};

use crate::arguments::{
    Checks, Keys, StoreChoice, actual, charged, clock, cost, deny_cache, given, has_no_calls,
    key_per_limit, lease, max_keys, max_wait, max_waiting, on_full, on_store_error, one_key, peers,
    per_key_calls, prefix, store, store_timeout, timeout, tokens, wait,
};
use crate::clients::ClientConnection;
use crate::decision::{Decision, DecisionOfTiers};
use crate::errors::{exception, invalid_argument, rate_limited};
use crate::limit::Limit;
use crate::limits::limits;
use crate::pressure::Pressure;
use crate::reservation::Reservation;
use crate::seconds::saturating_nanos;
use crate::store_health::StoreHealth;
use crate::waiting::{Waiting, await_store, is_sleep_replaced};

const IN_THE_URL: &str = "it is for a client of your own; write ?per_key_calls=true into the URL";
const NO_PICKLE: &str = "a limiter is neither pickled nor copied: its buckets or its connection belong to this process; \
    make one in each process with the same arguments, and with a store that they share, such as \
    \"shm://name\" or \"redis://host\"";

/// How many limiters for limits of calls are kept; when there are more, all are made anew.
const MAX_PLANS: usize = 1024;
/// The cost of a call that names none.
const ONE: Cost = Cost::same(1);

/// Decides whether keys may spend tokens, under one to four limits that all must allow.
///
/// Each of `limits` is a text, such as "100/min burst 20", or a Limit. `store` says where the
/// buckets live: "memory://" (in this limiter), "shm://name" (shared by the processes of this
/// machine), or the Redis that a fleet shares: its URL, "redis://[user:password@]host[:port][/database]",
/// "rediss://..." (TLS) or "redis+unix:///path", or a client that the program has already,
/// such as redis.Redis(), or redis.asyncio.Redis() for AsyncLimiter. Limiters with the same
/// `prefix` (1 to 256 bytes, "tidegate" unless given) and key share a bucket there; limiters with
/// other limits on one Redis must not all leave it out. `store_timeout` bounds each operation
/// on Redis, in seconds: 0.001 to 60. `clock` is a FakeClock, for memory only.
///
/// In memory each limit has room for `max_keys` keys that owe something, 1 to 100,000,000, a
/// million unless given. `on_full` says what happens to a new key when there is no room:
/// "evict_idlest" (unless given) drops the bucket that would be full soonest, "deny" refuses the
/// key. `pressure` counts both. For "shm://name" both are part of the URL. Redis has a bound of its
/// own, so there they are without effect.
///
/// `on_store_error` says what is answered while Redis fails: "raise" (unless given) raises a
/// StoreError; "allow" and "deny" answer that to everything; "local" goes on in this process with
/// one of `peers` equal shares of each limit. `peers` is how many processes use the bucket, 1 to
/// 1,000,000. `store_health` counts such answers, whose source is "fallback".
///
/// A key that Redis has refused is refused again without asking until its `retry_after` has
/// passed, for at most `deny_cache` seconds: 0 (always ask) to 60, 0.1 unless given. What this
/// process gives back is known at once; what others give back is known that much later.
///
/// With `lease={"ttl": seconds, "max_share": fraction}` this process debits tokens of a busy key
/// ahead of time, spends them at a pace without asking Redis, and renews its slice in the
/// background. The ttl is 0.1 to 60 seconds; `max_share` is the largest share of the rate that
/// this process takes, 1 unless given. Leases are for `check`; the source is "lease".
///
/// `max_waiting` is how many callers may wait for one key in `acquire` at a time: 1 to 1,000,000,
/// 10,000 unless given.
///
/// `per_key_calls=True` sends one key in each script call over a client of the program's own, for a
/// proxy that spreads keys over several servers (Envoy's redis_proxy, twemproxy). It then holds for all
/// limiters over that client. A URL says it itself: `?per_key_calls=true`.
///
/// With `store=os.environ.get("REDIS_URL", "memory://")` the same options serve both: those for
/// failures, leases, timeouts and caches have no effect in memory. Their values are checked.
///
/// No connection is made before the first use. Use it from any thread, and in forked children.
/// As a context manager it closes at the end.
///
/// Raises InvalidLimit for a limit that cannot be kept, and InvalidArgument.
///
/// >>> from tidegate import Limiter
/// >>> limiter = Limiter("10/s burst 20", "1000/d")
/// >>> decision = limiter.check("user:42")
/// >>> decision.allowed, decision.remaining, decision.limit_name
/// (True, 19, '10/s burst 20')
#[pyclass(frozen, dict, weakref, module = "tidegate")] // the dict is for mocks of a limiter's methods
pub(crate) struct Limiter {
    limiter: tidegate::Limiter,
    limits: Py<PyTuple>,
    /// By tier, made once, so that a decision only adds a reference.
    names: Box<[Py<PyString>]>,
    /// The same names, for decisions that have something of each limit.
    all_names: Py<PyTuple>,
    clock: Option<Arc<ManualClock>>,
    /// The connection of the client that the program has brought, if it has.
    connection: Option<Py<ClientConnection>>,
    /// The limiters for limits of calls that were used last.
    plans: PerProcess<Mutex<HashMap<tidegate::Limits, Py<Self>>>>,
}

#[pymethods]
impl Limiter {
    #[new]
    #[pyo3(
        signature = (
            *limits,
            store=StoreChoice::Url("memory://".to_owned()),
            prefix=None,
            store_timeout=Duration::from_millis(50),
            clock=None,
            max_keys=None,
            on_full=None,
            on_store_error=None,
            peers=None,
            deny_cache=None,
            lease=None,
            max_waiting=None,
            per_key_calls=false
        ),
        text_signature = "(*limits, store='memory://', prefix=None, store_timeout=0.05, \
                          clock=None, max_keys=None, on_full=None, on_store_error=None, peers=None, \
                          deny_cache=None, lease=None, max_waiting=None, per_key_calls=False)"
    )]
    #[allow(clippy::too_many_arguments)] // they are Python's keywords
    fn new(
        py: Python<'_>,
        limits: &Bound<'_, PyTuple>,
        #[pyo3(from_py_with = store)] store: StoreChoice,
        #[pyo3(from_py_with = prefix)] prefix: Option<String>,
        #[pyo3(from_py_with = store_timeout)] store_timeout: Duration,
        #[pyo3(from_py_with = clock)] clock: Option<Arc<ManualClock>>,
        #[pyo3(from_py_with = max_keys)] max_keys: Option<usize>,
        #[pyo3(from_py_with = on_full)] on_full: Option<OnFull>,
        #[pyo3(from_py_with = on_store_error)] on_store_error: Option<String>,
        #[pyo3(from_py_with = peers)] peers: Option<u64>,
        #[pyo3(from_py_with = deny_cache)] deny_cache: Option<Duration>,
        #[pyo3(from_py_with = lease)] lease: Option<LeaseOptions>,
        #[pyo3(from_py_with = max_waiting)] max_waiting: Option<usize>,
        #[pyo3(from_py_with = per_key_calls)] per_key_calls: bool,
    ) -> PyResult<Self> {
        let mut builder = tidegate::Limiter::builder().store_timeout(store_timeout);
        if let Some(prefix) = prefix {
            builder = builder.prefix(&prefix);
        }
        let connection = match store {
            StoreChoice::Url(url) => {
                if per_key_calls && !has_no_calls(&url) {
                    return Err(invalid_argument(py, "per_key_calls", IN_THE_URL.to_owned()));
                }
                builder = builder.store_url(&url);
                None
            }
            StoreChoice::Client(connection) => {
                let store = connection.get().store(store_timeout);
                builder = builder.store(store.map_err(|error| exception(py, &error))?);
                Some(connection)
            }
        };
        for limit in limits {
            builder = builder.add_limit(Limit::of(&limit)?);
        }
        if let Some(clock) = &clock {
            builder = builder.clock(Arc::clone(clock) as _);
        }
        if let Some(max_keys) = max_keys {
            builder = builder.max_keys(max_keys);
        }
        if let Some(on_full) = on_full {
            builder = builder.on_full(on_full);
        }
        if on_store_error.is_some() || peers.is_some() {
            let name = on_store_error.as_deref().unwrap_or("raise");
            let policy = OnStoreError::parse(name, peers).map_err(|error| exception(py, &error))?;
            builder = builder.on_store_error(policy);
        }
        if let Some(deny_cache) = deny_cache {
            builder = builder.deny_cache(deny_cache);
        }
        if let Some(lease) = lease {
            builder = builder.lease(lease);
        }
        if let Some(max_waiting) = max_waiting {
            builder = builder.max_waiting(max_waiting);
        }
        let limiter = builder.build().map_err(|error| exception(py, &error))?;
        if let (true, Some(connection)) = (per_key_calls, &connection) {
            connection.get().send_keys_apart();
        }
        Self::of(py, limiter, clock, connection)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(NO_PICKLE))
    }

    /// The limits, in the order given.
    #[getter]
    fn limits<'py>(&self, py: Python<'py>) -> &Bound<'py, PyTuple> {
        self.limits.bind(py)
    }

    /// Counts what could not be kept because there was no room, since the buckets were made. For
    /// "shm://name" it counts for all processes together; for Redis, which has bounds of its own,
    /// it stays zero.
    ///
    /// >>> limiter = Limiter("1/d", max_keys=1, on_full="deny")
    /// >>> decisions = limiter.check_many([f"user:{n}" for n in range(100)])
    /// >>> limiter.pressure.denied == sum(not decision.allowed for decision in decisions)
    /// True
    #[getter]
    fn pressure(&self) -> Pressure {
        self.limiter.pressure().into()
    }

    /// How the store has done: whether it is asked at present, how many calls on it failed, the last
    /// failure, and how many calls this limiter has answered itself, as `on_store_error` says. The
    /// logger "tidegate" gets a warning when a store is left alone because it keeps failing, and an
    /// info when it answers again.
    ///
    /// >>> limiter = Limiter("10/s", store="redis://127.0.0.1:1", on_store_error="deny")
    /// >>> limiter.check("k").source  # nobody listens there
    /// 'fallback'
    /// >>> limiter.store_health
    /// StoreHealth(state='closed', failures=1, fallbacks=1)
    /// >>> limiter.store_health.last_error.code
    /// 'store_error'
    #[getter]
    fn store_health(&self) -> StoreHealth {
        self.limiter.store_health().into()
    }

    /// Spends `cost` tokens of `key` if every limit allows. Never waits for tokens,
    /// only for the store, with the interpreter free for other threads.
    ///
    /// `key` is str (as UTF-8) or bytes of any length, or a sequence of one such key for each
    /// limit, which names other buckets than a single key does. `cost` is 0 to 2**63 - 1, or a
    /// sequence of one such number for each limit; a cost of 0 looks without spending, and peek
    /// answers for any cost without spending.
    ///
    /// `limits` are those of this call instead of the limiter's own, a customer's plan, say: Limits, a
    /// Limit, a text, or a sequence of these. Prefix and key alone tell which bucket it is, so a key
    /// has one bucket under all limits. When they change, what it owes stays the same in whole
    /// tokens, rounded up. Calls with limits of their own are not leased, and shm:// takes none. Every
    /// method on a key takes `limits`; a charge is settled or credited under the limits it was made
    /// with.
    ///
    /// Raises InvalidArgument, CostTooLarge for a cost above a limit's burst, and on Redis
    /// StoreError, StoreTimeout or CorruptBucket. After StoreTimeout the cost may or may not have
    /// been charged.
    ///
    /// >>> limiter = Limiter("10/min", "15/min")
    /// >>> limiter.check(["user:1", "org:7"], cost=10).allowed
    /// True
    /// >>> limiter.check(["user:2", "org:7"], cost=10).limit_name
    /// '15/min'
    /// >>> model = Limiter("60/min", "90000/min")
    /// >>> model.check("user:1", [1, 1500]).allowed  # one request and 1500 tokens, or neither
    /// True
    #[pyo3(
        signature = (key, cost=ONE, *, limits=None),
        text_signature = "($self, key, cost=1, *, limits=None)"
    )]
    fn check(
        &self,
        key: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = cost)] cost: Cost,
        #[pyo3(from_py_with = limits)] limits: Option<tidegate::Limits>,
    ) -> PyResult<Py<Decision>> {
        let py = key.py();
        if let Some(limits) = limits {
            return self.under(py, &limits)?.get().check(key, cost, None);
        }
        // In memory, the decision goes straight to Python: handing it on costs a tenth of the call.
        let keys = match one_key(key.as_borrowed())? {
            Some(key_bytes) => {
                if !self.limiter.is_remote() {
                    if self.has_tiers() {
                        return self.answer(py, self.limiter.check_tiers(key_bytes, cost));
                    }
                    return match self.limiter.check(key_bytes, cost) {
                        Ok(decided) => Py::new(py, self.decision(py, decided)),
                        Err(error) => Err(exception(py, &error)),
                    };
                }
                if let Some(decided) = self.limiter.check_leased(key_bytes, cost) {
                    return self.tiered(py, decided.into());
                }
                Keys::One(key_bytes)
            }
            None => key_per_limit(key)?,
        };
        self.run(py, &keys, Operation::Check { cost })
    }

    /// Makes many checks in one go, at most 10,000, each a key or a tuple of a key and a cost. Each is
    /// decided by itself, in order; a refused one does not stop the others.
    ///
    /// Raises the errors of check. A mistake in any of the arguments charges nothing. When the
    /// store fails, other checks may have been charged.
    ///
    /// >>> decisions = Limiter("10/s").check_many(["a", ("a", 9), ("a", 1)])
    /// >>> [decision.allowed for decision in decisions]
    /// [True, True, False]
    #[pyo3(signature = (checks, *, limits=None), text_signature = "($self, checks, *, limits=None)")]
    fn check_many<'py>(
        &self,
        py: Python<'py>,
        checks: Checks<'_>,
        #[pyo3(from_py_with = limits)] limits: Option<tidegate::Limits>,
    ) -> PyResult<Bound<'py, PyList>> {
        if let Some(limits) = limits {
            return self.under(py, &limits)?.get().check_many(py, checks, None);
        }
        let answer = if self.limiter.is_remote() {
            let mut lent = Ok(());
            let waited = await_store(py, |sender| {
                lent = checks.lend(|checks| {
                    self.limiter.check_many_then(checks, |answer| sender.send(answer));
                });
            });
            lent?;
            waited?
        } else if self.has_tiers() {
            checks.lend(|checks| self.limiter.check_many_tiers(checks))?
        } else {
            let answer = checks.lend(|checks| self.limiter.check_many(checks))?;
            let decided = answer.map_err(|error| exception(py, &error))?;
            return PyList::new(py, decided.into_iter().map(|decided| self.decision(py, decided)));
        };
        let decided = answer.map_err(|error| exception(py, &error))?;
        let decisions = decided.into_iter().map(|decided| self.tiered(py, decided));
        PyList::new(py, decisions.collect::<PyResult<Vec<_>>>()?)
    }

    /// Answers what check would answer now, and spends nothing. So `remaining` and `reset_after` of
    /// an allowed peek are those after the charge that a check would make. A cost of 0 is always
    /// allowed, and tells what the buckets hold.
    ///
    /// Another caller may spend the tokens before a check that follows: to spend, call check alone.
    ///
    /// Raises the errors of check.
    ///
    /// >>> limiter = Limiter("2/d")
    /// >>> limiter.check("job", cost=2).allowed
    /// True
    /// >>> limiter.peek("job").allowed
    /// False
    /// >>> limiter.peek("job", cost=0).remaining
    /// 0
    #[pyo3(
        signature = (key, cost=ONE, *, limits=None),
        text_signature = "($self, key, cost=1, *, limits=None)"
    )]
    fn peek(
        &self,
        py: Python<'_>,
        key: Keys<'_>,
        #[pyo3(from_py_with = cost)] cost: Cost,
        #[pyo3(from_py_with = limits)] limits: Option<tidegate::Limits>,
    ) -> PyResult<Py<Decision>> {
        if let Some(limits) = limits {
            return self.under(py, &limits)?.get().peek(py, key, cost, None);
        }
        let answer = if self.limiter.is_remote() {
            await_store(py, |sender| {
                key.lend(|keys| self.limiter.peek_then(keys, cost, |answer| sender.send(answer)));
            })?
        } else {
            key.lend(|keys| self.limiter.peek_tiers(keys, cost))
        };
        self.answer(py, answer)
    }

    /// Takes the next slot for `cost` tokens if it is at most `max_wait` seconds away, or however
    /// far away it is when `max_wait` is None. Never waits for tokens: they are charged now, to be
    /// spent after the reservation's `delay`. When the slot is too far away the reservation is
    /// refused and has charged nothing.
    ///
    /// Slots are handed out first come, first served, whatever their cost.
    ///
    /// Raises the errors of check.
    ///
    /// >>> limiter = Limiter("2/s burst 1", clock=FakeClock())
    /// >>> [limiter.reserve("job").delay for _ in range(3)]
    /// [0.0, 0.5, 1.0]
    /// >>> limiter.reserve("job", max_wait=1).allowed
    /// False
    #[pyo3(
        signature = (key, cost=ONE, *, max_wait=None, limits=None),
        text_signature = "($self, key, cost=1, *, max_wait=None, limits=None)"
    )]
    fn reserve(
        slf: &Bound<'_, Self>,
        key: Keys<'_>,
        #[pyo3(from_py_with = cost)] cost: Cost,
        #[pyo3(from_py_with = max_wait)] max_wait: Option<Duration>,
        #[pyo3(from_py_with = limits)] limits: Option<tidegate::Limits>,
    ) -> PyResult<Reservation> {
        if let Some(limits) = limits {
            let under = slf.get().under(slf.py(), &limits)?;
            return Self::reserve(under.bind(slf.py()), key, cost, max_wait, None);
        }
        let (py, limiter) = (slf.py(), &slf.get().limiter);
        let answer = if limiter.is_remote() {
            await_store(py, |sender| {
                let done = |answer: Result<_, _>| sender.send(answer.map(CancelOnDrop::from));
                key.lend(|keys| limiter.reserve_then(keys, cost, max_wait, done));
            })?
        } else {
            key.lend(|keys| limiter.reserve(keys, cost, max_wait)).map(CancelOnDrop::from)
        };
        let made = answer.map_err(|error| exception(py, &error))?;
        Reservation::new(py, slf.as_unbound(), made)
    }

    /// Waits until `cost` tokens may be spent, and spends them. Callers for one key wait in a line,
    /// first come, first served; nobody polls. Answers the decision, which is allowed.
    ///
    /// Tokens that would come later than `timeout` seconds raise RateLimited at once, and nothing
    /// is charged; None waits however long it takes. So does a caller too many: `max_waiting` of
    /// them can wait for a key. When the wait is interrupted (Ctrl-C, or whatever a signal handler
    /// raises) the caller leaves the line, and those behind it move up. `hold` reaches those who
    /// wait, in other processes within 0.1 s. With a FakeClock nobody waits: the clock is moved to
    /// the slot. Where time.sleep has been replaced (gevent), the caller reserves a slot of its own
    /// and sleeps with that.
    ///
    /// Raises RateLimited, StoreError when the limiter is closed meanwhile, and the errors of check.
    ///
    /// >>> clock = FakeClock()
    /// >>> limiter = Limiter("2/s burst 1", clock=clock)
    /// >>> for _ in range(3):
    /// ...     decision = limiter.acquire("vendor")
    /// >>> clock.now() / 1e9
    /// 1.0
    /// >>> limiter.acquire("vendor", timeout=0.1)
    /// Traceback (most recent call last):
    /// tidegate.RateLimited: rate limited: no slot within the timeout; try again in 400ms
    #[pyo3(
        signature = (key, cost=ONE, *, timeout=None, limits=None),
        text_signature = "($self, key, cost=1, *, timeout=None, limits=None)"
    )]
    fn acquire(
        slf: &Bound<'_, Self>,
        key: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = cost)] cost: Cost,
        #[pyo3(from_py_with = timeout)] timeout: Option<Duration>,
        #[pyo3(from_py_with = limits)] limits: Option<tidegate::Limits>,
    ) -> PyResult<Py<Decision>> {
        let py = slf.py();
        if let Some(limits) = limits {
            let under = slf.get().under(py, &limits)?;
            return Self::acquire(under.bind(py), key, cost, timeout, None);
        }
        let this = slf.get();
        if let Some(decision) = this._acquire_now(key, cost)? {
            return Ok(decision);
        }
        if this.clock.is_some() || is_sleep_replaced(py)? {
            let reservation = Self::reserve(slf, key.extract()?, cost, timeout, None)?;
            reservation._require(key)?;
            return reservation.wait(py);
        }
        let keys: Keys<'_> = key.extract()?;
        let mut waiter = None;
        let answer = await_store(py, |sender| {
            let done = |answer| sender.send(answer);
            waiter = Some(keys.lend(|keys| this.limiter.acquire_then(keys, cost, timeout, done)));
        });
        let granted = match answer {
            Err(interrupt) => {
                if let Some(waiter) = waiter {
                    py.detach(|| waiter.leave());
                }
                return Err(interrupt);
            }
            Ok(Ok(granted)) => granted,
            Ok(Err(Error::RateLimited { decision, .. })) => {
                let decided = Py::new(py, this.decision(py, decision))?;
                return Err(rate_limited(decided, key, &decision));
            }
            Ok(Err(error)) => return Err(exception(py, &error)),
        };
        this.tiered(py, granted.claim())
    }

    /// Charges an estimate for a `with` block. Entering waits as acquire does; the block gets a
    /// Charge, whose settle corrects the charge once the true cost is known. What is neither settled
    /// nor cancelled in the block counts as used at the estimate. An exception that leaves the block
    /// gives all of the tokens back, unless `on_error` is "settle", which keeps the estimate. A
    /// failure of the store meanwhile does not replace that exception; the estimate stays charged.
    /// It stays charged too after a settle that failed with a StoreError, because the store may have
    /// carried it out.
    ///
    /// Raises InvalidArgument for `on_error`. Entering raises the errors of acquire.
    ///
    /// >>> limiter = Limiter("60000/min", clock=FakeClock())
    /// >>> with limiter.reserving("model", cost=4_000, timeout=10) as charge:
    /// ...     used = 1_500  # call the model here
    /// ...     decision = charge.settle(used)
    /// >>> decision.remaining
    /// 58500
    /// >>> with limiter.reserving("model", cost=4_000):
    /// ...     raise ConnectionError("the model cannot be reached")
    /// Traceback (most recent call last):
    /// ConnectionError: the model cannot be reached
    /// >>> limiter.peek("model", cost=0).remaining
    /// 58500
    #[pyo3(
        signature = (key, cost, timeout=None, *, on_error=None, limits=None),
        text_signature = "($self, key, cost, timeout=None, *, on_error='cancel', limits=None)"
    )]
    fn reserving<'py>(
        slf: &Bound<'py, Self>,
        key: &Bound<'py, PyAny>,
        cost: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
        #[pyo3(from_py_with = given)] on_error: Option<Py<PyAny>>,
        #[pyo3(from_py_with = limits)] limits: Option<tidegate::Limits>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let under = limits.map(|limits| slf.get().under(slf.py(), &limits)).transpose()?;
        let slf = under.as_ref().map_or(slf, |under| under.bind(slf.py()));
        let reserving = slf.py().import("tidegate._charge")?.getattr("Reserving")?;
        match on_error {
            None => reserving.call1((slf, key, cost, timeout)),
            Some(on_error) => reserving.call1((slf, key, cost, timeout, on_error)),
        }
    }

    /// The callers that wait for `key` in acquire, in this process and on this limiter: how many, for
    /// how many tokens together, and for how many seconds still, until the last of them is served.
    ///
    /// Raises InvalidArgument, and StoreError when the limiter is closed.
    ///
    /// >>> Limiter("10/s").waiting("vendor")
    /// Waiting(callers=0, tokens=0, until=0.0)
    #[pyo3(signature = (key, *, limits=None), text_signature = "($self, key, *, limits=None)")]
    fn waiting(
        &self,
        py: Python<'_>,
        key: Keys<'_>,
        #[pyo3(from_py_with = limits)] limits: Option<tidegate::Limits>,
    ) -> PyResult<Waiting> {
        if let Some(limits) = limits {
            return self.under(py, &limits)?.get().waiting(py, key, None);
        }
        let waiting = key.lend(|keys| self.limiter.waiting(keys));
        waiting.map(Waiting).map_err(|error| exception(py, &error))
    }

    /// Corrects a charge once its true size is known: `charged` tokens were taken and `actual`
    /// were used, each 0 to 2**63 - 1. The difference is given back, or taken even if the limit
    /// does not allow it, above the burst too. Answers what the buckets then hold, as peek does.
    ///
    /// Raises the errors of check, except CostTooLarge.
    ///
    /// >>> limiter = Limiter("60000/min", clock=FakeClock())
    /// >>> limiter.check("model", 4_000).remaining
    /// 56000
    /// >>> limiter.settle("model", charged=4_000, actual=1_500).remaining
    /// 58500
    #[pyo3(
        signature = (key, charged, actual, *, limits=None),
        text_signature = "($self, key, charged, actual, *, limits=None)"
    )]
    fn settle(
        &self,
        py: Python<'_>,
        key: Keys<'_>,
        #[pyo3(from_py_with = charged)] charged: Cost,
        #[pyo3(from_py_with = actual)] actual: Cost,
        #[pyo3(from_py_with = limits)] limits: Option<tidegate::Limits>,
    ) -> PyResult<Py<Decision>> {
        self.run_under(py, limits, &key, Operation::Settle { charged, actual })
    }

    /// Gives `tokens` back, 0 to 2**63 - 1, never above full. Answers as settle does.
    ///
    /// Raises the errors of settle.
    ///
    /// >>> limiter = Limiter("10/s", clock=FakeClock())
    /// >>> limiter.check("k", 8).remaining, limiter.credit("k", 5).remaining
    /// (2, 7)
    #[pyo3(
        signature = (key, tokens, *, limits=None),
        text_signature = "($self, key, tokens, *, limits=None)"
    )]
    fn credit(
        &self,
        py: Python<'_>,
        key: Keys<'_>,
        #[pyo3(from_py_with = tokens)] tokens: Cost,
        #[pyo3(from_py_with = limits)] limits: Option<tidegate::Limits>,
    ) -> PyResult<Py<Decision>> {
        self.run_under(py, limits, &key, Operation::Credit { tokens })
    }

    /// Pauses for `wait` seconds, because the far side said so (Retry-After). A smooth limit has
    /// exactly one token at the end of the pause, and the rest arrive at the normal pace. Of two
    /// holds the later end counts; no hold is longer than 104 days. Those who wait in acquire
    /// wait until after it; a reservation keeps its time. Answers as settle does.
    ///
    /// Raises the errors of settle.
    ///
    /// >>> limiter = Limiter("50/s", clock=FakeClock())
    /// >>> limiter.hold("vendor", 30).remaining
    /// 0
    /// >>> limiter.check("vendor").retry_after
    /// 30.0
    #[pyo3(
        signature = (key, wait, *, limits=None),
        text_signature = "($self, key, wait, *, limits=None)"
    )]
    fn hold(
        &self,
        py: Python<'_>,
        key: Keys<'_>,
        #[pyo3(from_py_with = wait)] wait: Duration,
        #[pyo3(from_py_with = limits)] limits: Option<tidegate::Limits>,
    ) -> PyResult<Py<Decision>> {
        self.run_under(py, limits, &key, Operation::Hold { wait: saturating_nanos(wait) })
    }

    /// Makes the buckets full: all that they owe is forgotten, holds included. Answers as settle
    /// does.
    ///
    /// Raises the errors of settle.
    ///
    /// >>> limiter = Limiter("10/s", clock=FakeClock())
    /// >>> limiter.check("k", 8).remaining, limiter.reset("k").remaining
    /// (2, 10)
    #[pyo3(signature = (key, *, limits=None), text_signature = "($self, key, *, limits=None)")]
    fn reset(
        &self,
        py: Python<'_>,
        key: Keys<'_>,
        #[pyo3(from_py_with = limits)] limits: Option<tidegate::Limits>,
    ) -> PyResult<Py<Decision>> {
        self.run_under(py, limits, &key, Operation::Reset)
    }

    /// Asks the store once whether it serves this limiter, for readiness probes. Answers None within
    /// `store_timeout`, or raises; `on_store_error` has no part in it. Redis runs a script that reads
    /// and writes nothing, so a server that refuses the limiter's own calls does not pass. In memory
    /// the answer is there at once. Each call is a round trip: a probe that anyone can call should
    /// keep the answer for a moment.
    ///
    /// Raises StoreError, also when the limiter is closed, and StoreTimeout.
    ///
    /// >>> Limiter("10/s").ping()
    /// >>> limiter = Limiter("10/s", store="redis://127.0.0.1:1", on_store_error="allow")
    /// >>> try:
    /// ...     limiter.ping()
    /// ... except StoreError as error:
    /// ...     print(error.code)  # nobody listens there
    /// store_error
    fn ping(&self, py: Python<'_>) -> PyResult<()> {
        let answer = await_store(py, |sender| {
            self.limiter.ping_then(|answer| sender.send(answer));
        })?;
        answer.map_err(|error| exception(py, &error))
    }

    /// Closes the limiter: later calls raise StoreError. Closing it twice does no harm. Leased
    /// tokens are given back, which takes `store_timeout` at most.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.limiter.close());
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) {
        let _ = (exc_type, exc_value, traceback);
        self.close(py);
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let store = self.limiter.source().as_str();
        let limits = self.limits.bind(py).iter().map(|limit| Ok(limit.repr()?.to_string()));
        let limits = limits.collect::<PyResult<Vec<_>>>()?.join(", ");
        Ok(format!("<tidegate.Limiter({limits}) in {store}>"))
    }

    /// The transport over a client that the program has brought, if it has.
    #[getter]
    fn _transport(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.connection.as_ref().map(|connection| connection.get().transport(py))
    }

    /// The same buckets under the limits of a call; itself if the call brings none.
    #[pyo3(signature = (limits))]
    fn _under(
        slf: &Bound<'_, Self>,
        #[pyo3(from_py_with = limits)] limits: Option<tidegate::Limits>,
    ) -> PyResult<Py<Self>> {
        match limits {
            Some(limits) => slf.get().under(slf.py(), &limits),
            None => Ok(slf.clone().unbind()),
        }
    }

    /// Whether buckets are leased, so that a check may need no store.
    #[getter]
    fn _is_leased(&self) -> bool {
        self.limiter.is_leased()
    }

    /// Whether calls wait for a store.
    #[getter]
    fn _is_remote(&self) -> bool {
        self.limiter.is_remote()
    }

    /// The decision of an acquire that need not wait; None if it must join the line.
    #[pyo3(signature = (key, cost))]
    fn _acquire_now(
        &self,
        key: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = cost)] cost: Cost,
    ) -> PyResult<Option<Py<Decision>>> {
        let py = key.py();
        let answer = match one_key(key.as_borrowed())? {
            Some(key_bytes) if !self.has_tiers() => {
                let answer = self.limiter.acquire_now(key_bytes, cost);
                let decided = answer.map_err(|error| exception(py, &error))?;
                return decided.map(|decided| Py::new(py, self.decision(py, decided))).transpose();
            }
            Some(key_bytes) => self.limiter.acquire_now(key_bytes, cost),
            None => key_per_limit(key)?.lend(|keys| self.limiter.acquire_now(keys, cost)),
        };
        let decided = answer.map_err(|error| exception(py, &error))?;
        decided.map(|decided| self.tiered(py, decided)).transpose()
    }

    /// Whether it is on a FakeClock, on which nobody waits.
    #[getter]
    fn _has_fake_clock(&self) -> bool {
        self.clock.is_some()
    }

    /// The decision of a check in memory, or of one that a lease pays for; None when the store
    /// has to be asked.
    fn _check_without_store(
        &self,
        key: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = cost)] cost: Cost,
    ) -> PyResult<Option<Py<Decision>>> {
        if !self.limiter.is_remote() {
            return self.check(key, cost, None).map(Some);
        }
        let Some(key_bytes) = one_key(key.as_borrowed())? else { return Ok(None) };
        let decided = self.limiter.check_leased(key_bytes, cost);
        decided.map(|decided| self.tiered(key.py(), decided.into())).transpose()
    }
}

impl Limiter {
    /// The Rust limiter.
    pub(crate) fn facade(&self) -> &tidegate::Limiter {
        &self.limiter
    }

    pub(crate) fn is_remote(&self) -> bool {
        self.limiter.is_remote()
    }

    pub(crate) fn fake_clock(&self) -> Option<&ManualClock> {
        self.clock.as_deref()
    }

    /// The same buckets under the limits of a call.
    fn under(&self, py: Python<'_>, limits: &tidegate::Limits) -> PyResult<Py<Self>> {
        let plans = self.plans.get_or_default();
        if let Some(known) = plans.lock().get(limits) {
            return Ok(known.clone_ref(py));
        }
        let limiter = self.limiter.with_limits(limits).map_err(|error| exception(py, &error))?;
        let connection = self.connection.as_ref().map(|connection| connection.clone_ref(py));
        let made = Py::new(py, Self::of(py, limiter, self.clock.clone(), connection)?)?;
        let mut plans = plans.lock();
        let forgotten = if plans.len() < MAX_PLANS { None } else { Some(mem::take(&mut *plans)) };
        plans.insert(limits.clone(), made.clone_ref(py));
        drop(plans);
        drop(forgotten);
        Ok(made)
    }

    fn of(
        py: Python<'_>,
        limiter: tidegate::Limiter,
        clock: Option<Arc<ManualClock>>,
        connection: Option<Py<ClientConnection>>,
    ) -> PyResult<Self> {
        let named = limiter.limits();
        let names = named.iter().map(|named| PyString::new(py, &named.name).unbind()).collect();
        let all_names = PyTuple::new(py, named.iter().map(|named| &named.name))?.unbind();
        let limits = PyTuple::new(py, named.iter().cloned().map(Limit))?.unbind();
        let plans = PerProcess::new(generation);
        Ok(Self { limiter, limits, names, all_names, clock, connection, plans })
    }

    #[inline]
    pub(crate) fn decision(&self, py: Python<'_>, decided: tidegate::Decision) -> Decision {
        let name = match self.names.get(usize::from(decided.tier)) {
            Some(name) => name.clone_ref(py),
            None => PyString::new(py, self.limiter.limit_name(&decided)).unbind(),
        };
        Decision::new(decided, name)
    }

    /// Whether a decision has more to say than what its binding limit says.
    #[inline]
    fn has_tiers(&self) -> bool {
        self.names.len() > 1
    }

    /// The decision with what each limit says.
    pub(crate) fn tiered(&self, py: Python<'_>, decided: TieredDecision) -> PyResult<Py<Decision>> {
        let decision = self.decision(py, decided.into());
        if self.has_tiers() {
            DecisionOfTiers::make(py, decision, decided, self.all_names.clone_ref(py))
        } else {
            Py::new(py, decision)
        }
    }

    fn answer(
        &self,
        py: Python<'_>,
        answer: Result<TieredDecision, Error>,
    ) -> PyResult<Py<Decision>> {
        match answer {
            Ok(decided) => self.tiered(py, decided),
            Err(error) => Err(exception(py, &error)),
        }
    }

    fn run_under(
        &self,
        py: Python<'_>,
        limits: Option<tidegate::Limits>,
        key: &Keys<'_>,
        operation: Operation,
    ) -> PyResult<Py<Decision>> {
        match limits {
            Some(limits) => self.under(py, &limits)?.get().run(py, key, operation),
            None => self.run(py, key, operation),
        }
    }

    /// Runs an operation that answers with a decision.
    #[inline(never)]
    fn run(&self, py: Python<'_>, key: &Keys<'_>, operation: Operation) -> PyResult<Py<Decision>> {
        let answer = if self.limiter.is_remote() {
            self.on_store(py, key, operation)?
        } else {
            tiered(key.lend(|keys| self.limiter.run_blocking(keys, operation)))
        };
        self.answer(py, answer)
    }

    fn on_store(
        &self,
        py: Python<'_>,
        key: &Keys<'_>,
        operation: Operation,
    ) -> PyResult<Result<TieredDecision, Error>> {
        let outcome = await_store(py, |sender| {
            key.lend(|keys| self.limiter.run(keys, operation, |outcome| sender.send(outcome)));
        });
        outcome.map(tiered)
    }
}
