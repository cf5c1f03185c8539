//! Runs the scripts in this process, on a fake Redis of a few variables.

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{Function, Lua, MultiValue, Table, Value};
use tidegate::bindings::Snapshot;

use crate::SECOND;

/// A loaded script and its fake server.
pub struct LuaTwin {
    lua: Lua,
    script: Function,
    server: Rc<RefCell<Server>>,
}

#[derive(Default)]
struct Server {
    now: u64,
    values: Vec<Option<Vec<u8>>>,
    changes: Vec<Option<Change>>,
}

/// A value that begins with this stands for a value of another type.
const WRONG_TYPE: &[u8] = b"WRONGTYPE ";

/// The result of one run of a script.
#[derive(Debug, PartialEq, Eq)]
pub enum Ran {
    /// The script answered, and changed the keys that have a change here.
    Changed(Vec<Option<Change>>),
    /// The script answered with this error and changed nothing.
    Failed(String),
}

/// A write to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The value.
    pub value: Vec<u8>,
    /// The time to live in milliseconds.
    pub ttl: u64,
}

impl Ran {
    /// Whether this result is the expected one. Only the beginning of an error is compared.
    pub fn is(&self, expected: &Self) -> bool {
        match (self, expected) {
            (Self::Failed(error), Self::Failed(expected)) => error.starts_with(expected),
            _ => self == expected,
        }
    }

    /// Applies the writes to the values of the keys.
    pub fn apply_to(&self, values: &mut [Option<Vec<u8>>]) {
        let Self::Changed(changes) = self else { return };
        for (value, change) in values.iter_mut().zip(changes) {
            if let Some(change) = change {
                *value = Some(change.value.clone());
            }
        }
    }
}

impl LuaTwin {
    /// Loads a script's text.
    ///
    /// # Errors
    /// When it is not Lua.
    pub fn load(text: &str) -> mlua::Result<Self> {
        let lua = Lua::new();
        let server = Rc::new(RefCell::new(Server::default()));
        lua.globals().set("redis", fake_redis(&lua, &server)?)?;
        let script = lua.load(with_nanoseconds(text)).into_function()?;
        Ok(Self { lua, script, server })
    }

    /// Runs the script on the keys as they are at `now`, in nanoseconds.
    ///
    /// # Errors
    /// When the script itself fails, or writes and then answers with an error, or answers
    /// with anything but what it saw.
    pub fn run(&self, seen: &Snapshot, arguments: &[String]) -> mlua::Result<Ran> {
        let (now, values) = (seen.now, seen.values.clone());
        let changes = vec![None; values.len()];
        *self.server.borrow_mut() = Server { now, values, changes };
        let globals = self.lua.globals();
        let keys = (0..seen.values.len()).map(|key| key.to_string());
        globals.set("KEYS", self.lua.create_sequence_from(keys)?)?;
        globals
            .set("ARGV", self.lua.create_sequence_from(arguments.iter().map(String::as_str))?)?;
        let reply: Table = self.script.call(())?;
        let changes = std::mem::take(&mut self.server.borrow_mut().changes);
        let failed = |text: &str| Err(mlua::Error::RuntimeError(text.to_owned()));
        match reply.get::<Option<String>>("err")? {
            Some(error) if changes.iter().all(Option::is_none) => Ok(Ran::Failed(error)),
            Some(error) => failed(&format!("wrote, then answered {error}")),
            None if answers_with(&reply, seen)? => Ok(Ran::Changed(changes)),
            None => failed("did not answer with what it saw"),
        }
    }
}

/// The script for a clock with nanoseconds, as the tests have; a server's clock has microseconds.
pub fn with_nanoseconds(script: &str) -> String {
    script.replace("tonumber(seen[2]) * 1000", "tonumber(seen[2])")
}

/// Whether a reply is the clock and the values. Redis sends a table up to its first nil.
fn answers_with(reply: &Table, seen: &Snapshot) -> mlua::Result<bool> {
    let clock = [seen.now / SECOND, seen.now % SECOND].map(|part| part.to_string());
    let mut same = reply.raw_len() == 2 + seen.values.len();
    for (at, part) in clock.iter().enumerate() {
        same &= reply.get::<mlua::LuaString>(at + 1)?.as_bytes() == part.as_bytes();
    }
    for (at, value) in seen.values.iter().enumerate() {
        same &= match (reply.get::<Value>(at + 3)?, value) {
            (Value::Boolean(false), None) => true,
            (Value::Integer(0), Some(value)) => value.starts_with(WRONG_TYPE),
            (Value::Number(number), Some(value)) => number == 0.0 && value.starts_with(WRONG_TYPE),
            (Value::String(told), Some(value)) => told.as_bytes() == value.as_slice(),
            _ => false,
        };
    }
    Ok(same)
}

fn fake_redis(lua: &Lua, server: &Rc<RefCell<Server>>) -> mlua::Result<Table> {
    let server = Rc::clone(server);
    let call = lua.create_function(move |lua, arguments: MultiValue| {
        let words = arguments.iter().map(word).collect::<mlua::Result<Vec<_>>>()?;
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let mut server = server.borrow_mut();
        let number = |word: &[u8]| core::str::from_utf8(word).ok()?.parse().ok();
        let key =
            words.get(1).and_then(|key| number(key)).and_then(|key| usize::try_from(key).ok());
        if let [b"MGET", keys @ ..] = words.as_slice() {
            let values = keys.iter().zip(&server.values).map(|(_, value)| match value {
                Some(value) if !value.starts_with(WRONG_TYPE) => {
                    Ok(Value::String(lua.create_string(value)?))
                }
                _ => Ok(Value::Boolean(false)),
            });
            let values = values.collect::<mlua::Result<Vec<_>>>()?;
            return Ok(Value::Table(lua.create_sequence_from(values)?));
        }
        match (words.as_slice(), key.filter(|&key| key < server.values.len())) {
            ([b"TIME"], None) => {
                let (seconds, nanos) = (server.now / SECOND, server.now % SECOND);
                let time = lua.create_sequence_from([seconds.to_string(), nanos.to_string()])?;
                Ok(Value::Table(time))
            }
            ([b"GET", _], Some(key)) => match &server.values[key] {
                Some(value) if value.starts_with(WRONG_TYPE) => {
                    let reply = lua.create_table()?;
                    reply.set("err", lua.create_string(value)?)?;
                    Ok(Value::Table(reply))
                }
                Some(value) => Ok(Value::String(lua.create_string(value)?)),
                None => Ok(Value::Boolean(false)),
            },
            ([b"SET", _, _, b"PX", _, b"NX"], Some(key)) if server.values[key].is_some() => {
                Ok(Value::Boolean(false))
            }
            ([b"SET", _, value, b"PX", ttl, ..], Some(key)) => {
                let ttl = number(ttl).filter(|ttl| (1..=1u64 << 53).contains(ttl));
                let ttl = ttl.ok_or_else(|| {
                    mlua::Error::RuntimeError("invalid expire time in 'set' command".into())
                })?;
                server.changes[key] = Some(Change { value: value.to_vec(), ttl });
                Ok(Value::Boolean(true))
            }
            _ => Err(mlua::Error::RuntimeError(format!("unexpected command {words:?}"))),
        }
    })?;
    redis_table(lua, call)
}

/// The table that scripts find as `redis`, over a function that runs commands.
pub(crate) fn redis_table(lua: &Lua, call: Function) -> mlua::Result<Table> {
    let redis = lua.create_table()?;
    redis.set("pcall", call.clone())?;
    redis.set("call", call)?;
    redis.set(
        "error_reply",
        lua.create_function(|lua, text: String| {
            let reply = lua.create_table()?;
            reply.set("err", text)?;
            Ok(reply)
        })?,
    )?;
    Ok(redis)
}

/// An argument as Redis takes it: whole numbers are written in full.
fn word(argument: &Value) -> mlua::Result<Vec<u8>> {
    match argument {
        Value::String(text) => Ok(text.as_bytes().to_vec()),
        Value::Integer(number) => Ok(number.to_string().into_bytes()),
        Value::Number(number) => Ok(number.to_string().into_bytes()),
        other => Err(mlua::Error::RuntimeError(format!("unexpected argument {other:?}"))),
    }
}
