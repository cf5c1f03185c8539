//! Runs the script of permits in this process and in a real Redis, and the engine on the same case.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mlua::{Function, HookTriggers, Lua, MultiValue, Table, Value, VmState};
use redis::Connection;
use tidegate::bindings::{PERMITS, PermitCall, PermitReply, PermitStep, PermitTerms, ReplyPart};
use tidegate_core::{
    PermitAnswer, PermitHolder, PermitStanding, PermitState, PermitWaiter, decide_permit,
};

use crate::lua_twin::redis_table;

const MICRO: u64 = 1_000;
const NAMES: [&str; 3] = ["permits", "line", "waits"];

/// The largest score that a double holds exactly.
pub const LAST: f64 = 9_007_199_254_740_992.0;

/// What a key holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// A sorted set; an empty one is no key.
    Set(BTreeMap<String, f64>),
    /// A value of another type.
    Other,
}

/// One call, and the keys before it.
#[derive(Clone, Debug)]
pub struct PermitCase {
    /// The server's clock, in microseconds.
    pub now: u64,
    /// The terms; their durations are whole microseconds.
    pub terms: PermitTerms,
    /// The steps.
    pub steps: Vec<PermitStep>,
    /// The callers that hold permits, the line, and the callers that wait.
    pub keys: [Stored; 3],
}

/// The result of one run.
#[derive(Clone, Debug, PartialEq)]
pub enum Permitted {
    /// An answer, and the state that the run left.
    Answered {
        /// The answer.
        reply: PermitReply,
        /// The keys afterwards.
        keys: [Stored; 3],
        /// The time to live of each in milliseconds, if the key was given one.
        lives: [Option<u64>; 3],
    },
    /// This error; nothing was changed.
    Failed(String),
}

impl Default for Stored {
    fn default() -> Self {
        Self::Set(BTreeMap::new())
    }
}

impl Stored {
    /// The members with their scores, in order.
    fn sorted(&self) -> Vec<(String, f64)> {
        let Self::Set(set) = self else { return Vec::new() };
        let mut members: Vec<_> = set.iter().map(|(id, score)| (id.clone(), *score)).collect();
        members.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
        members
    }

    fn set(&mut self) -> &mut BTreeMap<String, f64> {
        match self {
            Self::Set(set) => set,
            Self::Other => unreachable!("the script has looked"),
        }
    }

    fn is_strange(&self) -> bool {
        let sorted = self.sorted();
        let ends = [sorted.first(), sorted.last()].into_iter().flatten();
        let mut scores = ends.map(|(_, score)| *score);
        *self == Self::Other || scores.any(|it| !(0.0..=LAST).contains(&it) || it.fract() != 0.0)
    }
}

impl PermitCase {
    /// The call of the script.
    pub fn call(&self) -> PermitCall {
        PermitCall::new("p", b"k", &self.terms, &self.steps)
    }

    /// The engine's result.
    pub fn expected(&self) -> Permitted {
        if let Some(key) = self.keys.iter().position(Stored::is_strange) {
            return Permitted::Failed(format!("CORRUPT key {} ", key + 1));
        }
        let mut keys = self.keys.clone();
        let now = self.now as f64;
        let [permits, line, waits] = keys.each_mut().map(Stored::set);
        permits.retain(|_, until| *until > now);
        let gone: Vec<String> =
            waits.iter().filter(|(_, until)| **until <= now).map(|(id, _)| id.clone()).collect();
        for id in gone {
            waits.remove(&id);
            line.remove(&id);
        }
        if line.len() != waits.len() {
            line.clear();
            waits.clear();
        }
        let answers = self.steps.iter().map(|step| self.step(step, permits, line, waits)).collect();
        let first = |set: &BTreeMap<String, f64>| set.values().copied().reduce(f64::min);
        let last = |set: &BTreeMap<String, f64>| set.values().copied().reduce(f64::max);
        let next = [first(permits), first(waits)].into_iter().flatten().reduce(f64::min);
        let lives = |until: Option<f64>| until.map(|it| (it as u64 - self.now) / 1_000 + 1);
        let (live, waiting) = (permits.len() as u64, line.len() as u64);
        let lives = [lives(last(permits)), lives(last(waits)), lives(last(waits))];
        let next = next.filter(|it| *it < LAST).map(|it| (it as u64 - self.now) * MICRO);
        let reply = PermitReply { live, line: waiting, next, answers };
        Permitted::Answered { reply, keys, lives }
    }

    fn step(
        &self,
        step: &PermitStep,
        permits: &mut BTreeMap<String, f64>,
        line: &mut BTreeMap<String, f64>,
        waits: &mut BTreeMap<String, f64>,
    ) -> PermitAnswer {
        let id = &step.id;
        let holders = permits.iter().map(|(id, until)| PermitHolder { id, until: *until as u64 });
        let waiters = line.iter().map(|(id, order)| PermitWaiter {
            id,
            order: *order as u64,
            until: waits[id] as u64,
        });
        let state = PermitState::of(&id, holders, waiters, self.now);
        let PermitTerms { limit, ttl, wait, max_line } = self.terms;
        let answer = decide_permit(&state, limit, max_line, step.ask);
        let extend = |set: &mut BTreeMap<String, f64>, lasts: u64| {
            let until = (self.now + lasts / MICRO) as f64;
            let last = set.entry(id.clone()).or_insert(until);
            *last = last.max(until);
        };
        match answer {
            PermitAnswer::Entered => {
                line.remove(id);
                waits.remove(id);
                extend(permits, ttl);
            }
            PermitAnswer::Waiting { .. } => {
                if state.standing == PermitStanding::Absent {
                    let last = line.values().copied().reduce(f64::max).unwrap_or(0.0);
                    line.insert(id.clone(), last + 1.0);
                }
                extend(waits, wait);
            }
            PermitAnswer::Left { .. } => {
                for set in [permits, line, waits] {
                    set.remove(id);
                }
            }
            PermitAnswer::Full | PermitAnswer::Lost => {}
        }
        answer
    }

    fn answered(
        &self,
        parts: &[ReplyPart],
        keys: [Stored; 3],
        lives: [Option<u64>; 3],
    ) -> Permitted {
        match self.call().reply(parts) {
            Ok(reply) => Permitted::Answered { reply, keys, lives },
            Err(error) => Permitted::Failed(error.to_string()),
        }
    }
}

impl Permitted {
    /// Whether this result is the expected one. Only the beginning of an error is compared, and the
    /// times to live may have lost `slack` milliseconds.
    pub fn is(&self, expected: &Self, slack: u64) -> bool {
        match (self, expected) {
            (Self::Failed(error), Self::Failed(expected)) => error.starts_with(expected),
            (
                Self::Answered { reply, keys, lives },
                Self::Answered { reply: reply2, keys: keys2, lives: lives2 },
            ) => {
                let close = lives.iter().zip(lives2).all(|lives| match lives {
                    (Some(lives), Some(expected)) => {
                        (expected.saturating_sub(slack)..=*expected).contains(lives)
                    }
                    (lives, expected) => lives == expected,
                });
                reply == reply2 && keys == keys2 && close
            }
            _ => false,
        }
    }
}

/// The script, loaded in this process.
pub struct PermitTwin {
    lua: Lua,
    script: Function,
    server: Rc<RefCell<Server>>,
    /// How often the interpreter's hook has run, which ends a script that runs for too long.
    ticks: Arc<AtomicU32>,
}

#[derive(Default)]
struct Server {
    now: u64,
    keys: [Stored; 3],
    lives: [Option<u64>; 3],
}

impl PermitTwin {
    /// Loads a script's text.
    ///
    /// # Errors
    /// When it is not Lua.
    pub fn load(text: &str) -> mlua::Result<Self> {
        let lua = Lua::new();
        let server = Rc::new(RefCell::new(Server::default()));
        let ticks = Arc::new(AtomicU32::new(0));
        lua.globals().set("redis", fake_redis(&lua, &server)?)?;
        let counting = Arc::clone(&ticks);
        let every = HookTriggers::new().every_nth_instruction(100_000);
        lua.set_hook(every, move |_, _| match counting.fetch_add(1, Ordering::Relaxed) {
            0..100 => Ok(VmState::Continue),
            _ => Err(mlua::Error::RuntimeError("it does not end".into())),
        })?;
        let script = lua.load(text).into_function()?;
        Ok(Self { lua, script, server, ticks })
    }

    /// Runs the script on a case.
    ///
    /// # Errors
    /// When the script itself fails.
    pub fn run(&self, case: &PermitCase) -> mlua::Result<Permitted> {
        let (now, keys) = (case.now, case.keys.clone());
        *self.server.borrow_mut() = Server { now, keys, lives: [None; 3] };
        self.ticks.store(0, Ordering::Relaxed);
        let globals = self.lua.globals();
        globals.set("KEYS", self.lua.create_sequence_from(NAMES)?)?;
        globals.set("ARGV", self.lua.create_sequence_from(case.call().arguments)?)?;
        let reply: Table = self.script.call(())?;
        let Server { keys, lives, .. } = std::mem::take(&mut *self.server.borrow_mut());
        if let Some(error) = reply.get::<Option<String>>("err")? {
            return Ok(match keys == case.keys {
                true => Permitted::Failed(error),
                false => Permitted::Failed(format!("wrote, then answered {error}")),
            });
        }
        // Redis cuts numbers to whole ones.
        let parts = reply.sequence_values::<f64>();
        let parts = parts.map(|part| Ok(ReplyPart::Integer(part? as i64)));
        Ok(case.answered(&parts.collect::<mlua::Result<Vec<_>>>()?, keys, lives))
    }
}

fn fake_redis(lua: &Lua, server: &Rc<RefCell<Server>>) -> mlua::Result<Table> {
    let server = Rc::clone(server);
    let call = lua.create_function(move |lua, arguments: MultiValue| {
        let words: Vec<String> = arguments.iter().map(word).collect::<mlua::Result<_>>()?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut server = server.borrow_mut();
        let unknown = || Err(mlua::Error::RuntimeError(format!("unexpected command {words:?}")));
        let number = |word: &str| word.parse::<f64>().map_err(mlua::Error::external);
        if words == ["TIME"] {
            let time = [(server.now / 1_000_000).to_string(), (server.now % 1_000_000).to_string()];
            return Ok(Value::Table(lua.create_sequence_from(time)?));
        }
        if let ["DEL", keys @ ..] = words.as_slice() {
            for key in keys {
                let Some(key) = NAMES.iter().position(|name| name == key) else { return unknown() };
                server.keys[key] = Stored::default();
            }
            return Ok(Value::Integer(0));
        }
        let Some(key) = words.get(1).and_then(|key| NAMES.iter().position(|name| name == key))
        else {
            return unknown();
        };
        let sorted = server.keys[key].sorted();
        if words[0] == "TYPE" {
            let kind = match &server.keys[key] {
                Stored::Other => "string",
                Stored::Set(set) if set.is_empty() => "none",
                Stored::Set(_) => "zset",
            };
            let reply = lua.create_table()?;
            reply.set("ok", kind)?;
            return Ok(Value::Table(reply));
        }
        if server.keys[key] == Stored::Other {
            return Err(mlua::Error::RuntimeError("WRONGTYPE".into()));
        }
        let whole = |found: bool| Ok(Value::Integer(i64::from(found)));
        match (words[0], &words[2..]) {
            ("ZCARD", []) => Ok(Value::Integer(sorted.len() as i64)),
            ("ZRANGE", [from, to, "WITHSCORES"]) if from == to => {
                let found = match *from {
                    "0" => sorted.first(),
                    "-1" => sorted.last(),
                    _ => return unknown(),
                };
                let flat = found.map(|(id, score)| [id.clone(), score.to_string()]);
                Ok(Value::Table(lua.create_sequence_from(flat.into_iter().flatten())?))
            }
            ("ZRANGEBYSCORE", ["-inf", to]) => {
                let to = number(to)?;
                let found = sorted.into_iter().filter(|(_, score)| *score <= to);
                Ok(Value::Table(lua.create_sequence_from(found.map(|(id, _)| id))?))
            }
            ("ZREMRANGEBYSCORE", ["-inf", to]) => {
                let to = number(to)?;
                server.keys[key].set().retain(|_, score| *score > to);
                Ok(Value::Integer(0))
            }
            ("ZSCORE", [id]) => match server.keys[key].set().get(*id) {
                Some(score) => Ok(Value::String(lua.create_string(score.to_string())?)),
                None => Ok(Value::Boolean(false)),
            },
            ("ZRANK", [id]) => match sorted.iter().position(|(other, _)| other == id) {
                Some(rank) => Ok(Value::Integer(rank as i64)),
                None => Ok(Value::Boolean(false)),
            },
            ("ZADD", [score, id]) => {
                let score = number(score)?;
                whole(server.keys[key].set().insert((*id).to_owned(), score).is_none())
            }
            ("ZREM", [id]) => whole(server.keys[key].set().remove(*id).is_some()),
            ("PEXPIRE", [lives]) => {
                let lives = number(lives)?;
                if lives < 1.0 || lives.fract() != 0.0 {
                    return unknown();
                }
                server.lives[key] = (!sorted.is_empty()).then_some(lives as u64);
                Ok(Value::Integer(1))
            }
            _ => unknown(),
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

/// Reads the type, the time to live and the members of each key.
const LOOK: &str = "local found = {}
for key = 1, #KEYS do
  local kind = redis.call('TYPE', KEYS[key]).ok
  local members = kind == 'zset' and redis.call('ZRANGE', KEYS[key], 0, -1, 'WITHSCORES') or {}
  found[key] = {kind, redis.call('PTTL', KEYS[key]), members}
end
return found";

/// Runs the script in a real Redis, by the clock of the test.
///
/// # Panics
/// When the server fails.
pub fn run_in_redis(connection: &mut Connection, case: &PermitCase) -> Permitted {
    let script = PERMITS.text().replace("call('TIME')", "call('MGET', 'seconds', 'micros')");
    assert_ne!(script, PERMITS.text(), "the script reads no clock");
    let mut writing = redis::pipe();
    writing.cmd("DEL").arg(&NAMES);
    writing.cmd("MSET").arg("seconds").arg(case.now / 1_000_000);
    writing.arg("micros").arg(case.now % 1_000_000);
    for (name, stored) in NAMES.iter().zip(&case.keys) {
        match stored {
            Stored::Other => _ = writing.cmd("SET").arg(name).arg("a stranger's"),
            Stored::Set(set) => {
                for (id, score) in set {
                    writing.cmd("ZADD").arg(name).arg(score.to_string()).arg(id);
                }
            }
        }
    }
    writing.exec(connection).expect("the keys are written");
    let mut run = redis::cmd("EVAL");
    run.arg(script).arg(3).arg(&NAMES).arg(&case.call().arguments);
    redis::cmd("MULTI").exec(connection).expect("a transaction");
    run.exec(connection).expect("queued");
    // No time passes within a transaction, so nothing expires before it is read.
    let mut look = redis::cmd("EVAL");
    look.arg(LOOK).arg(3).arg(&NAMES).exec(connection).expect("queued");
    type Looked = (String, i64, Vec<String>);
    let (reply, looked) = match redis::cmd("EXEC").query::<(Vec<i64>, [Looked; 3])>(connection) {
        Ok(answers) => answers,
        Err(error) => {
            let (code, detail) = (error.code(), error.detail());
            return Permitted::Failed(format!(
                "{} {}",
                code.unwrap_or_default(),
                detail.unwrap_or_default()
            ));
        }
    };
    let lives = looked.each_ref().map(|(_, lives, _)| u64::try_from(*lives).ok());
    let keys = looked.map(|(kind, _, flat)| match kind.as_str() {
        "string" => Stored::Other,
        _ => {
            let members =
                flat.chunks(2).map(|pair| (pair[0].clone(), pair[1].parse().expect("a score")));
            Stored::Set(members.collect())
        }
    });
    let parts: Vec<_> = reply.into_iter().map(ReplyPart::Integer).collect();
    case.answered(&parts, keys, lives)
}
