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
    &[CLOCK, LIMITS, READ, TIME, include_str!("lua/reserve.lua"), WORD, WRITE],
);
/// The twin of [`cancel`](tidegate_core::cancel).
pub static CANCEL: Script = Script::new("cancel", &of_one_step(include_str!("lua/cancel.lua")));
/// The twin of [`settle`](tidegate_core::settle) and [`credit`](tidegate_core::credit).
pub static SETTLE: Script = Script::new("settle", &of_one_step(include_str!("lua/settle.lua")));
/// The twin of [`hold`](tidegate_core::hold).
pub static HOLD: Script =
    Script::new("hold", &[CLOCK, LIMITS, READ, TIME, include_str!("lua/hold.lua"), WORD, WRITE]);
/// The twin of [`reset`](tidegate_core::reset).
pub static RESET: Script = Script::new("reset", &of_one_step(include_str!("lua/reset.lua")));
/// The twin of [`grant_lease`](tidegate_core::grant_lease).
pub static LEASE: Script = Script::new(
    "lease",
    &[
        include_str!("lua/lease_begin.lua"),
        CLOCK,
        LIMITS,
        READ,
        include_str!("lua/lease.lua"),
        WORD,
        WRITE,
    ],
);

/// Those of the operations.
pub static SCRIPTS: [&Script; 7] = [&CHECK, &CHECK_EACH, &RESERVE, &CANCEL, &SETTLE, &HOLD, &RESET];

const fn of_one_step(step: &'static str) -> [&'static str; 6] {
    [CLOCK, LIMITS, READ, step, WORD, WRITE]
}

/// The part of an operation that runs in Redis.
pub struct Script {
    /// The operation's name.
    pub name: &'static str,
    /// The text: what all operations begin with, the operation, what it ends with.
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
