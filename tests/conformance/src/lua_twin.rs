//! The script `check.lua` in this process, on a Redis that is one variable.

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{Function, Lua, MultiValue, Table, Value};

/// A loaded script, and the one key it can see.
pub struct LuaTwin {
    lua: Lua,
    script: Function,
    server: Rc<RefCell<Server>>,
}

#[derive(Default)]
struct Server {
    now: u64,
    value: Option<Vec<u8>>,
    written: Option<(Vec<u8>, u64)>,
}

/// What one run of the script did.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It wrote this value, to expire after so many milliseconds.
    Wrote(Vec<u8>, u64),
    /// It wrote nothing.
    Refused,
    /// It answered with this error and wrote nothing.
    Failed(String),
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
        // The clock of the vectors has nanoseconds where a server's has microseconds.
        let text = text.replace("tonumber(time[2]) * 1000", "tonumber(time[2])");
        let script = lua.load(text).into_function()?;
        Ok(Self { lua, script, server })
    }

    /// Runs the script on a bucket as it stands at `now`, in nanoseconds.
    ///
    /// # Errors
    /// When the script itself fails, or writes and then answers with an error.
    pub fn run(
        &self,
        now: u64,
        value: Option<&[u8]>,
        arguments: &[String],
    ) -> mlua::Result<Outcome> {
        *self.server.borrow_mut() = Server { now, value: value.map(<[u8]>::to_vec), written: None };
        let globals = self.lua.globals();
        globals.set("KEYS", self.lua.create_sequence_from(["bucket"])?)?;
        globals
            .set("ARGV", self.lua.create_sequence_from(arguments.iter().map(String::as_str))?)?;
        let reply: Table = self.script.call(())?;
        let written = self.server.borrow_mut().written.take();
        match (reply.get::<Option<String>>("err")?, written) {
            (Some(error), None) => Ok(Outcome::Failed(error)),
            (Some(error), Some(_)) => {
                Err(mlua::Error::RuntimeError(format!("wrote, then answered {error}")))
            }
            (None, Some((value, ttl))) => Ok(Outcome::Wrote(value, ttl)),
            (None, None) => Ok(Outcome::Refused),
        }
    }
}

fn fake_redis(lua: &Lua, server: &Rc<RefCell<Server>>) -> mlua::Result<Table> {
    let redis = lua.create_table()?;
    let server = Rc::clone(server);
    let call = lua.create_function(move |lua, arguments: MultiValue| {
        let arguments: Vec<mlua::LuaString> =
            arguments.into_iter().map(|value| lua.unpack(value)).collect::<mlua::Result<_>>()?;
        let words: Vec<Vec<u8>> = arguments.iter().map(|word| word.as_bytes().to_vec()).collect();
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let mut server = server.borrow_mut();
        match words.as_slice() {
            [b"TIME"] => {
                let (seconds, nanos) = (server.now / 1_000_000_000, server.now % 1_000_000_000);
                let time = lua.create_sequence_from([seconds.to_string(), nanos.to_string()])?;
                Ok(Value::Table(time))
            }
            [b"GET", b"bucket"] => match &server.value {
                Some(value) => Ok(Value::String(lua.create_string(value)?)),
                None => Ok(Value::Boolean(false)),
            },
            [b"SET", b"bucket", value, b"PX", ttl] => {
                let ttl = core::str::from_utf8(ttl).ok().and_then(|ttl| ttl.parse().ok());
                let ttl = ttl.filter(|&ttl| (1..=1 << 53).contains(&ttl)).ok_or_else(|| {
                    mlua::Error::RuntimeError("invalid expire time in 'set' command".into())
                })?;
                server.written = Some((value.to_vec(), ttl));
                Ok(Value::Boolean(true))
            }
            _ => Err(mlua::Error::RuntimeError(format!("unexpected command {words:?}"))),
        }
    })?;
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
