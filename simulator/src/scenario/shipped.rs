//! The scenarios that come with the crate.

/// A scenario that comes with the crate.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// Its file.
    pub text: &'static str,
}

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        &[$(Shipped { name: $name, text: include_str!(concat!("shipped/", $name, ".toml")) }),*]
    };
}

/// All of them, in the order in which they are best read.
pub fn shipped() -> &'static [Shipped] {
    shipped![
        "seed001-s1-even",
        "seed001-s1-long",
        "seed001-s1-bunches",
        "seed001-s2",
        "seed001-s3",
        "seed001-s4",
        "seed001-s5",
        "seed001-ours",
        "seed001-ours-5",
        "seed000-10x10",
        "seed000-varying",
        "seed000-2x2",
        "seed000-sequential",
        "seed000-overpull",
        "seed000-ours",
        "stale-backlog",
        "retry-after-storm",
        "failing-store",
        "limit-step",
        "clock-step",
    ]
}
