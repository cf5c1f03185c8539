//! The Lua scripts, and how a call of one is put into the words of a command.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::borrow::Cow;

use once_cell::race::OnceBox;
use sha1_smol::Sha1;

const CLOCK: &str = include_str!("lua/clock.lua");
const LIMITS: &str = include_str!("lua/limits.lua");
const READ: &str = include_str!("lua/read.lua");
const TIME: &str = include_str!("lua/time.lua");
const WORD: &str = include_str!("lua/word.lua");
const WRITE: &str = include_str!("lua/write.lua");

/// The twin of [`decide_tiers`](tidegate_core::decide_tiers), for the checks of many
/// buckets that each hold all tiers.
pub static CHECK: Script = Script::new(
    "check",
    &[CLOCK, include_str!("lua/check_quick.lua"), LIMITS, WORD, include_str!("lua/check_rest.lua")],
);
/// The same for one check of one bucket for each tier.
pub static CHECK_EACH: Script =
    Script::new("check_each", &of_one_step(include_str!("lua/check_each.lua")));
/// The twin of [`reserve`](tidegate_core::reserve).
pub static RESERVE: Script = Script::new(
    "reserve",
    &[CLOCK, LIMITS, READ, TIME, WORD, WRITE, include_str!("lua/reserve.lua")],
);
/// The twin of [`cancel`](tidegate_core::cancel).
pub static CANCEL: Script = Script::new("cancel", &of_one_step(include_str!("lua/cancel.lua")));
/// The twin of [`settle`](tidegate_core::settle) and [`credit`](tidegate_core::credit).
pub static SETTLE: Script = Script::new("settle", &of_one_step(include_str!("lua/settle.lua")));
/// The twin of [`hold`](tidegate_core::hold).
pub static HOLD: Script =
    Script::new("hold", &[CLOCK, LIMITS, READ, TIME, WORD, WRITE, include_str!("lua/hold.lua")]);
/// The twin of [`reset`](tidegate_core::reset).
pub static RESET: Script =
    Script::new("reset", &[CLOCK, LIMITS, READ, include_str!("lua/reset.lua")]);
/// The twin of [`grant_lease`](tidegate_core::grant_lease).
pub static LEASE: Script = Script::new(
    "lease",
    &[
        include_str!("lua/lease_begin.lua"),
        CLOCK,
        LIMITS,
        READ,
        WORD,
        WRITE,
        include_str!("lua/lease.lua"),
    ],
);

/// The twin of [`decide_permit`](tidegate_core::decide_permit), for the callers of one process.
pub static PERMITS: Script = Script::new("permits", &[include_str!("lua/permits.lua")]);

/// The scripts of the operations.
pub static SCRIPTS: [&Script; 7] = [&CHECK, &CHECK_EACH, &RESERVE, &CANCEL, &SETTLE, &HOLD, &RESET];

const fn of_one_step(step: &'static str) -> [&'static str; 6] {
    [CLOCK, LIMITS, READ, WORD, WRITE, step]
}

/// The part of an operation that runs in Redis.
pub struct Script {
    /// The operation's name.
    pub name: &'static str,
    /// The text: the parts that operations have in common, then the operation.
    pub parts: &'static [&'static str],
    loaded: OnceBox<Loaded>,
}

struct Loaded {
    text: String,
    hash: String,
}

impl core::fmt::Debug for Script {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Script({})", self.name)
    }
}

impl Script {
    const fn new(name: &'static str, parts: &'static [&'static str]) -> Self {
        Self { name, parts, loaded: OnceBox::new() }
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.loaded().text
    }

    /// The name under which a server knows the text: its SHA-1, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.loaded().hash
    }

    fn loaded(&self) -> &Loaded {
        self.loaded.get_or_init(|| {
            let text = self.parts.concat();
            let hash = Sha1::from(&text).digest().to_string();
            Box::new(Loaded { text, hash })
        })
    }
}

/// A script with its keys and arguments, ready to be sent.
pub trait ScriptCall {
    /// The script.
    fn script(&self) -> &'static Script;

    /// `KEYS`.
    fn keys(&self) -> &[Vec<u8>];

    /// `ARGV`.
    fn arguments(&self) -> &[String];

    /// Whether the call can be sent again when nobody knows if it was carried out: a call that is
    /// carried out twice must not give tokens twice.
    fn is_repeatable(&self) -> bool;

    /// The words of the command: by the script's hash, or by its text, for a server that does not
    /// know the script.
    fn words(&self, by_text: bool) -> impl Iterator<Item = Cow<'_, [u8]>> {
        let head = match by_text {
            true => ["EVAL", self.script().text()],
            false => ["EVALSHA", self.script().hash()],
        };
        let head = head.into_iter().map(|word| Cow::Borrowed(word.as_bytes()));
        let number = core::iter::once(Cow::Owned(self.keys().len().to_string().into_bytes()));
        let keys = self.keys().iter().map(|key| Cow::Borrowed(key.as_slice()));
        let arguments = self.arguments().iter().map(|text| Cow::Borrowed(text.as_bytes()));
        head.chain(number).chain(keys).chain(arguments)
    }
}

/// The scripts that a server has run and so knows, unless it has forgotten them since.
#[derive(Debug, Default)]
pub(crate) struct KnownScripts(AtomicUsize);

/// A set of scripts, one bit for each.
pub(crate) struct ScriptSet(usize);

impl KnownScripts {
    pub(crate) fn learn(&self, script: &Script) {
        // Looked at first, because writing takes the cache line from other threads.
        if self.0.load(Ordering::Relaxed) & bit(script) == 0 {
            self.0.fetch_or(bit(script), Ordering::Relaxed);
        }
    }

    pub(crate) fn unlearn(&self, script: &Script) {
        self.0.fetch_and(!bit(script), Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> ScriptSet {
        ScriptSet(self.0.load(Ordering::Relaxed))
    }
}

impl ScriptSet {
    /// Adds a script, and says whether it was there already.
    pub(crate) fn insert(&mut self, script: &Script) -> bool {
        let was = self.0 & bit(script) != 0;
        self.0 |= bit(script);
        was
    }
}

/// The bit of a script: the operations' in order, then the lease's and that of permits.
fn bit(script: &Script) -> usize {
    let place = SCRIPTS.iter().position(|known| core::ptr::eq(*known, script));
    let is_last = core::ptr::eq(&PERMITS, script);
    1 << place.unwrap_or_else(|| SCRIPTS.len() + usize::from(is_last))
}
