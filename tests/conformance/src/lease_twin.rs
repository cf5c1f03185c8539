//! Runs the script of leases in this process and in a real Redis, and the engine on the same case.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mlua::{Function, HookTriggers, Lua, MultiValue, Table, Value, VmState};
use redis::Connection;
use tidegate::bindings::{LEASE, LeaseCall, value};
use tidegate_core::{
    Grant, LeaseAsk, LeaseTerms, LeasedBucket, Limit, MAX_NODES, NodeRecord, grant_lease,
};

use crate::lua_twin::{redis_table, with_nanoseconds};
use crate::{MILLI, SECOND};

/// A bucket, and the records of the nodes that hold slices of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// The bucket's value.
    pub bucket: Option<Vec<u8>>,
    /// The nodes' records, by id.
    pub records: BTreeMap<String, String>,
}

/// One request of one node.
#[derive(Clone, Debug)]
pub struct LeaseCase {
    /// The server's clock, in nanoseconds.
    pub now: u64,
    /// The limiter's limits.
    pub limits: Vec<Limit>,
    /// The terms of the leases.
    pub terms: LeaseTerms,
    /// The node.
    pub id: u64,
    /// The node's request.
    pub ask: LeaseAsk,
    /// The bucket and the records before.
    pub shared: Shared,
}

/// The result of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leased {
    /// A grant, and the state that the run left.
    Granted {
        /// The grant.
        grant: Grant,
        /// The debts of the limits afterwards.
        debts: Vec<u64>,
        /// The nodes' records.
        records: BTreeMap<String, String>,
        /// The time to live of the records in milliseconds, if they were written.
        lives: Option<u64>,
    },
    /// This error; nothing was changed.
    Failed(String),
}

impl LeaseCase {
    /// The call of the script.
    pub fn call(&self) -> LeaseCall {
        LeaseCall::new(b"bucket", &self.limits, &self.terms, self.id, &self.ask)
    }

    /// The engine's result.
    ///
    /// # Panics
    /// When there are too many limits.
    pub fn expected(&self) -> Leased {
        let Self { now, limits, terms, ask, .. } = self;
        let Ok(stored) = value::read(core::slice::from_ref(&self.shared.bucket), limits, *now)
        else {
            return Leased::Failed("CORRUPT key 1 ".into());
        };
        let own = format!("{:016x}", self.id);
        let mut records = self.shared.records.clone();
        records.remove(&own);
        let mut gone: Vec<String> =
            records.keys().filter(|id| self.node(&records[*id]).is_none()).cloned().collect();
        gone.truncate(100);
        let alive: Vec<(u64, NodeRecord)> = records.values().filter_map(|r| self.node(r)).collect();
        for id in gone {
            records.remove(&id);
        }
        let others: Vec<NodeRecord> = alive.iter().map(|(_, node)| *node).collect();
        let mut cells = stored.cells;
        let bucket = LeasedBucket { limits, cells: &mut cells, others: &others };
        let (grant, record) = grant_lease(bucket, terms, *now, ask).expect("one to four limits");
        let mut lives = None;
        if record.want > 0 {
            let until = now / MILLI + terms.ttl() / MILLI;
            let NodeRecord { taken, most, want } = record;
            records.insert(own, format!("{until} {taken} {most} {want}"));
            let last = alive.iter().map(|(until, _)| *until).max().unwrap_or(0).max(until);
            lives = Some(last - now / MILLI);
        }
        Leased::Granted { grant, debts: debts(limits, &cells, *now), records, lives }
    }

    fn node(&self, record: &str) -> Option<(u64, NodeRecord)> {
        const BIGGEST: u64 = 10_000_000_000_000;
        let numbers: Vec<u64> = record
            .split(' ')
            .map(|word| word.parse().ok().filter(|_| word.bytes().all(|b| b.is_ascii_digit())))
            .collect::<Option<_>>()?;
        let [until, taken, most, want] = *numbers.as_slice() else { return None };
        let left = until.checked_sub(self.now / MILLI).filter(|left| *left > 0)?;
        let fits = left.max(taken).max(most).max(want) <= BIGGEST;
        fits.then_some((until, NodeRecord { taken, most, want }))
    }

    fn granted(
        &self,
        answer: &[u8],
        bucket: Option<Vec<u8>>,
        records: BTreeMap<String, String>,
        lives: Option<u64>,
    ) -> Leased {
        let grant = match LeaseCall::grant(answer) {
            Ok(grant) => grant,
            Err(error) => return Leased::Failed(error.to_string()),
        };
        match value::read(&[bucket], &self.limits, self.now) {
            Ok(stored) => {
                let debts = debts(&self.limits, &stored.cells, self.now);
                Leased::Granted { grant, debts, records, lives }
            }
            Err(_) => Leased::Failed("wrote what is no bucket".into()),
        }
    }
}

impl Leased {
    /// Whether this result is the expected one. Only the beginning of an error is compared, and the
    /// time to live may have lost `slack` milliseconds.
    pub fn is(&self, expected: &Self, slack: u64) -> bool {
        match (self, expected) {
            (Self::Failed(error), Self::Failed(expected)) => error.starts_with(expected),
            (
                Self::Granted { grant, debts, records, lives },
                Self::Granted { grant: grant2, debts: debts2, records: records2, lives: lives2 },
            ) => {
                let close = match (lives, lives2) {
                    (Some(lives), Some(expected)) => {
                        (expected.saturating_sub(slack)..=*expected).contains(lives)
                    }
                    (None, None) => true,
                    _ => false,
                };
                grant == grant2 && debts == debts2 && records == records2 && close
            }
            _ => false,
        }
    }
}

fn debts(limits: &[Limit], cells: &[u64], now: u64) -> Vec<u64> {
    let debt = |(limit, cell): (&Limit, &u64)| cell.saturating_sub(limit.timeline().position(now));
    limits.iter().zip(cells).map(debt).collect()
}

/// The script, loaded in this process.
pub struct LeaseTwin {
    lua: Lua,
    script: Function,
    server: Rc<RefCell<Server>>,
    /// How often the interpreter's hook has run, which ends a script that runs for too long.
    ticks: Arc<AtomicU32>,
}

#[derive(Default)]
struct Server {
    now: u64,
    shared: Shared,
    lives: Option<u64>,
}

impl LeaseTwin {
    /// Loads a script's text.
    ///
    /// # Errors
    /// When it is not Lua.
    pub fn load(text: &str) -> mlua::Result<Self> {
        let lua = Lua::new();
        let server = Rc::new(RefCell::new(Server::default()));
        let ticks = Arc::new(AtomicU32::new(0));
        lua.globals().set("redis", fake_redis(&lua, &server)?)?;
        // Redis has Lua 5.1, in which `unpack` is a global.
        lua.load("unpack = unpack or table.unpack").exec()?;
        // A mutant may be an endless loop.
        let every = HookTriggers::new().every_nth_instruction(100_000);
        let counting = Arc::clone(&ticks);
        lua.set_hook(every, move |_, _| match counting.fetch_add(1, Ordering::Relaxed) {
            0..100 => Ok(VmState::Continue),
            _ => Err(mlua::Error::RuntimeError("it does not end".into())),
        })?;
        let script = lua.load(with_nanoseconds(text)).into_function()?;
        Ok(Self { lua, script, server, ticks })
    }

    /// Runs the script on a case.
    ///
    /// # Errors
    /// When the script itself fails.
    pub fn run(&self, case: &LeaseCase) -> mlua::Result<Leased> {
        let call = case.call();
        let shared = case.shared.clone();
        *self.server.borrow_mut() = Server { now: case.now, shared, lives: None };
        self.ticks.store(0, Ordering::Relaxed);
        let globals = self.lua.globals();
        globals.set("KEYS", self.lua.create_sequence_from(["bucket", "leases"])?)?;
        globals.set("ARGV", self.lua.create_sequence_from(call.arguments)?)?;
        let reply: Table = self.script.call(())?;
        let Server { shared, lives, .. } = std::mem::take(&mut *self.server.borrow_mut());
        if let Some(error) = reply.get::<Option<String>>("err")? {
            return Ok(if shared == case.shared {
                Leased::Failed(error)
            } else {
                Leased::Failed(format!("wrote, then answered {error}"))
            });
        }
        let answer: mlua::LuaString = reply.get(4)?;
        Ok(case.granted(&answer.as_bytes(), shared.bucket, shared.records, lives))
    }
}

fn fake_redis(lua: &Lua, server: &Rc<RefCell<Server>>) -> mlua::Result<Table> {
    let server = Rc::clone(server);
    let call = lua.create_function(move |lua, arguments: MultiValue| {
        let words: Vec<String> = arguments.iter().map(word).collect::<mlua::Result<_>>()?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut server = server.borrow_mut();
        match words.as_slice() {
            ["TIME"] => {
                let (seconds, nanos) = (server.now / SECOND, server.now % SECOND);
                let time = lua.create_sequence_from([seconds.to_string(), nanos.to_string()])?;
                Ok(Value::Table(time))
            }
            ["GET", "bucket"] => match &server.shared.bucket {
                Some(value) => Ok(Value::String(lua.create_string(value)?)),
                None => Ok(Value::Boolean(false)),
            },
            ["SET", "bucket", value, "PX", _] => {
                server.shared.bucket = Some(value.as_bytes().to_vec());
                Ok(Value::Boolean(true))
            }
            ["HGETALL", "leases"] => {
                let records = &server.shared.records;
                let flat = records.iter().flat_map(|(id, record)| [id.as_str(), record]);
                Ok(Value::Table(lua.create_sequence_from(flat)?))
            }
            ["HSET", "leases", id, record] => {
                server.shared.records.insert((*id).to_owned(), (*record).to_owned());
                Ok(Value::Boolean(true))
            }
            ["HDEL", "leases", ids @ ..] if !ids.is_empty() => {
                ids.iter().for_each(|id| _ = server.shared.records.remove(*id));
                Ok(Value::Boolean(true))
            }
            ["PEXPIRE", "leases", lives] => {
                let lives = lives.parse().ok().filter(|lives| *lives > 0);
                server.lives = Some(lives.ok_or_else(|| {
                    mlua::Error::RuntimeError("value is not an integer or out of range".into())
                })?);
                Ok(Value::Boolean(true))
            }
            _ => Err(mlua::Error::RuntimeError(format!("unexpected command {words:?}"))),
        }
    })?;
    redis_table(lua, call)
}

/// An argument as Redis takes it: whole numbers are written in full.
fn word(argument: &Value) -> mlua::Result<String> {
    match argument {
        Value::String(text) => Ok(text.to_str()?.to_owned()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(mlua::Error::RuntimeError(format!("unexpected argument {other:?}"))),
    }
}

/// Runs the script in a real Redis, by the clock of the test.
///
/// # Panics
/// When the server fails.
pub fn run_in_redis(connection: &mut Connection, case: &LeaseCase) -> Leased {
    let script = with_nanoseconds(LEASE.text())
        .replace("redis.call('TIME')", "redis.call('MGET', 'seconds', 'nanoseconds')");
    let mut writing = redis::pipe();
    writing.cmd("DEL").arg(&["bucket", "leases"]);
    writing.cmd("MSET").arg("seconds").arg(case.now / SECOND);
    writing.arg("nanoseconds").arg(case.now % SECOND);
    if let Some(value) = &case.shared.bucket {
        writing.cmd("SET").arg("bucket").arg(value);
    }
    for (id, record) in &case.shared.records {
        writing.cmd("HSET").arg("leases").arg(id).arg(record);
    }
    writing.exec(connection).expect("the keys are written");
    let call = case.call();
    // No time passes within a transaction, so nothing that was written expires before it is read.
    let mut run = redis::cmd("EVAL");
    run.arg(script).arg(2).arg("bucket").arg("leases").arg(&call.arguments);
    redis::cmd("MULTI").exec(connection).expect("a transaction");
    run.exec(connection).expect("queued");
    redis::cmd("GET").arg("bucket").exec(connection).expect("queued");
    redis::cmd("HGETALL").arg("leases").exec(connection).expect("queued");
    redis::cmd("PTTL").arg("leases").exec(connection).expect("queued");
    type Answer = (Vec<Option<Vec<u8>>>, Option<Vec<u8>>, BTreeMap<String, String>, i64);
    match redis::cmd("EXEC").query::<Answer>(connection) {
        Ok((reply, bucket, records, lives)) => {
            let answer = reply.get(3).cloned().flatten().unwrap_or_default();
            case.granted(&answer, bucket, records, u64::try_from(lives).ok())
        }
        Err(error) => Leased::Failed(format!(
            "{} {}",
            error.code().unwrap_or_default(),
            error.detail().unwrap_or_default()
        )),
    }
}

/// How many records a case may hold and still be answered with a grant.
pub const MOST_OTHERS: usize = MAX_NODES;
