//! Random steps for the Lua twin, and mutants of its scripts.

use proptest::prelude::*;
use tidegate::bindings::value;
use tidegate_conformance::case::{Case, Checks};
use tidegate_core::{
    Cells, Charge, Cost, Limit, MAX_SPAN, MAX_TIERS, Operation, Reserved, Source, reserve,
};

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;
const DAY: u64 = 86_400 * SECOND;

/// A step of any operation.
pub fn case() -> impl Strategy<Value = Case> {
    (now(), prop::collection::vec(limit(), 1..=4), any::<bool>())
        .prop_flat_map(|(now, limits, own_keys)| {
            let values = if own_keys {
                let value_of = |limit: &Limit| value(now, vec![*limit], true).boxed();
                limits.iter().map(value_of).collect::<Vec<_>>().boxed()
            } else {
                value(now, limits.clone(), true).prop_map(|value| vec![value]).boxed()
            };
            (Just(now), values, Just(limits), picks())
        })
        .prop_map(|(now, values, limits, picks)| {
            let operation = operation(&picks, now, &values, &limits);
            Case { now, values, limits, operation }
        })
}

/// Checks of one to six buckets, several of some of them; half the limiters have one limit.
pub fn checks() -> impl Strategy<Value = Checks> {
    let limits =
        prop_oneof![limit().prop_map(|limit| vec![limit]), prop::collection::vec(limit(), 1..=4),];
    (now(), limits)
        .prop_flat_map(|(now, limits)| {
            let value = value(now, limits.clone(), true);
            let values = prop::collection::vec(value, 1..=6);
            let picks = prop::collection::vec((any::<u8>(), any::<u8>(), magnitude()), 0..12);
            (Just(now), values, Just(limits), any::<bool>(), picks)
        })
        .prop_map(|(now, values, limits, alike, picks)| {
            let smallest = limits.iter().map(Limit::burst).min().unwrap_or(0);
            let cost = |near: u8, number: u64| match near % 8 {
                0 => 0,
                1 => smallest,
                2 => number % (smallest + 1),
                3 | 4 => number % (smallest.min(10) + 1),
                _ => 1,
            };
            let cost = |place: u8, near: u8, number: u64| match limits.len() > 1
                && place.is_multiple_of(2)
            {
                true => each_cost(&limits, |tier| number >> tier, near),
                false => cost(near, number).into(),
            };
            let first =
                picks.first().map_or(1.into(), |&(place, near, number)| cost(place, near, number));
            let mut checks: Vec<(usize, Cost)> = Vec::new();
            for key in 0..values.len() {
                checks.push((key, first));
            }
            if !alike {
                for (place, near, number) in picks {
                    // A key that is checked again has been checked before, because keys come in the
                    // order of their first checks.
                    let after = usize::from(place) % (checks.len() + 1);
                    let known = checks[..after].iter().map(|&(key, _)| key).max();
                    if let Some(known) = known {
                        let key = usize::from(place / 7) % (known + 1);
                        checks.insert(after, (key, cost(place, near, number)));
                    }
                }
            }
            Checks { now, values, limits, checks }
        })
}

/// Random numbers that choose an operation and its arguments, once the values of the keys are
/// known.
#[derive(Clone, Debug)]
struct Picks {
    operation: u8,
    near: u8,
    number: u64,
    others: [u64; MAX_TIERS],
    kinds: [u8; MAX_TIERS],
}

fn picks() -> impl Strategy<Value = Picks> {
    (0..15u8, any::<u8>(), magnitude(), core::array::from_fn(|_| magnitude()), any::<[u8; 4]>())
        .prop_map(|(operation, near, number, others, kinds)| Picks {
            operation,
            near,
            number,
            others,
            kinds,
        })
}

fn operation(picks: &Picks, now: u64, values: &[Option<Vec<u8>>], limits: &[Limit]) -> Operation {
    let smallest = limits.iter().map(Limit::burst).min().unwrap_or(0);
    let stored = value::read(values, limits, now).unwrap_or_default();
    let cost = match picks.near % 5 {
        0 if picks.number.is_multiple_of(4) => 0,
        0 | 1 => 1,
        2 => smallest,
        3 => picks.number % (smallest + 1),
        _ => picks.number % (smallest.min(10) + 1),
    };
    let cost: Cost = match limits.len() > 1 && picks.kinds[1].is_multiple_of(2) {
        true => each_cost(limits, |tier| picks.others[tier], picks.near),
        false => cost.into(),
    };
    match picks.operation {
        0..3 => Operation::Check { cost },
        3..6 => {
            let slot = reserve(limits, &mut { stored.cells }, now, cost, u64::MAX);
            let delay = match slot {
                Ok(Reserved::Slot(slot)) => slot.delay,
                _ => 0,
            };
            let max_wait = match picks.kinds[0] % 6 {
                0 => u64::MAX,
                1 => delay,
                2 => delay.saturating_sub(1),
                3 => delay.saturating_add(MILLI),
                4 => delay.saturating_sub(MILLI),
                _ => picks.others[0],
            };
            let min_wait = match picks.kinds[2] % 5 {
                0 => picks.others[1],
                1 => delay,
                2 => delay.saturating_add(1),
                _ => 0,
            };
            Operation::Reserve { cost, max_wait, min_wait }
        }
        6..9 => {
            let (mut before, mut after) = (Cells::default(), stored.cells);
            for tier in 0..limits.len() {
                let (kind, other) = (picks.kinds[tier], picks.others[tier]);
                let position = limits[tier].timeline().position(now);
                after[tier] = match kind % 8 {
                    0 => after[tier].saturating_add(1),
                    1 => after[tier].saturating_sub(1),
                    2 => position.saturating_sub(other % 1_000),
                    3 => position + other % (MAX_SPAN + 2),
                    _ => after[tier],
                }
                .min(9_999_999_999 * SECOND);
                before[tier] = match kind / 8 % 4 {
                    0 => 0,
                    1 => after[tier],
                    2 => after[tier].saturating_sub(limits[tier].timeline().width()),
                    _ => after[tier].saturating_sub(other),
                };
            }
            Operation::Cancel(Charge {
                cost: Cost::default(),
                before,
                after,
                source: Source::Redis,
            })
        }
        9 => Operation::Settle { charged: picks.others[0].into(), actual: picks.others[1].into() },
        10 => Operation::Settle { charged: cost, actual: each(limits, |tier| picks.others[tier]) },
        11 if picks.near.is_multiple_of(2) => {
            Operation::Credit { tokens: each(limits, |tier| picks.others[tier]) }
        }
        11 => Operation::Credit { tokens: picks.others[0].into() },
        12 => Operation::Hold { wait: picks.others[0] },
        13 => Operation::Peek { cost },
        _ => Operation::Reset,
    }
}

/// One number for each limit.
fn each(limits: &[Limit], number: impl Fn(usize) -> u64) -> Cost {
    let numbers: Vec<u64> = (0..limits.len()).map(number).collect();
    Cost::each(&numbers).expect("one to four limits")
}

/// A cost for each limit within its burst: often the burst, 1 or 0.
fn each_cost(limits: &[Limit], number: impl Fn(usize) -> u64, near: u8) -> Cost {
    each(limits, |tier| match (usize::from(near) + tier) % 5 {
        0 => limits[tier].burst(),
        1 => 0,
        2 => 1,
        _ => number(tier) % (limits[tier].burst() + 1),
    })
}

/// Tokens and nanoseconds of every magnitude.
fn magnitude() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => Just(0),
        4 => 0..20u64,
        4 => (0..64u32, any::<u64>()).prop_map(|(shorter, bits)| bits >> shorter),
        2 => (0..100_000u64).prop_map(|millis| millis * MILLI),
        1 => MAX_SPAN - 2..=MAX_SPAN + 2,
        1 => prop::sample::select(vec![1, MILLI - 1, MILLI + 1, SECOND, DAY, u64::MAX - 1, u64::MAX]),
    ]
}

fn now() -> impl Strategy<Value = u64> {
    let seconds = prop_oneof![Just(0u64), Just(1_764_000_000), 0..9_000_000_000u64];
    let nanos = prop_oneof![
        Just(0u64),
        Just(SECOND - 1),
        0..SECOND,
        (0..1_000u64).prop_map(|milli| milli * MILLI)
    ];
    (seconds, nanos).prop_map(|(seconds, nanos)| seconds * SECOND + nanos)
}

fn limit() -> impl Strategy<Value = Limit> {
    let smooth = (scale(), 1..1_000u64, scale())
        .prop_filter_map("bounds", |(tokens, part, burst)| {
            Limit::smooth(tokens, period(part), burst).ok()
        });
    let widest =
        prop_oneof![Just((1, MAX_SPAN, 1)), Just((1, 1, MAX_SPAN)), Just((1_000, 1_000, 7))]
            .prop_map(|(tokens, period, burst)| {
                Limit::smooth(tokens, period, burst).expect("within the bounds")
            });
    let stepped =
        (scale(), 1..1_000u64, scale()).prop_filter_map("bounds", |(tokens, part, burst)| {
            Limit::stepped(tokens, period(part).next_multiple_of(MILLI), burst).ok()
        });
    let window = (scale(), 1..1_000u64).prop_filter_map("bounds", |(tokens, part)| {
        Limit::window(tokens, period(part).next_multiple_of(MILLI)).ok()
    });
    prop_oneof![4 => smooth, 1 => widest, 3 => stepped, 2 => window]
}

/// Numbers of every magnitude, small ones most often.
fn scale() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 1..20u64, 4 => 1..2_000u64, 1 => 1..2_000_000_000u64, 1 => 1..=MAX_SPAN]
}

/// Periods from microseconds to days.
fn period(part: u64) -> u64 {
    match part % 5 {
        0 => part * 1_000,
        1 => part * MILLI,
        2 => part * 10 * MILLI,
        3 => part * SECOND,
        _ => part * DAY / 100,
    }
}

/// A value of a bucket's key: none, one that the script would have written under these limits,
/// under others or at another time, or any bytes.
fn value(now: u64, limits: Vec<Limit>, foreign: bool) -> impl Strategy<Value = Option<Vec<u8>>> {
    let tiers = limits.len();
    let own = written(now, Just(limits.clone()).boxed());
    let fewer = written(now, prop::collection::vec(limit(), 1..=4).boxed());
    let changed = written(now, prop::collection::vec(limit(), tiers..=tiers).boxed());
    let longer = (written(now, Just(limits.clone()).boxed()), foreign_byte());
    let longer = longer.prop_map(|(mut value, byte)| {
        value.push(byte);
        value
    });
    let broken = (written(now, Just(limits).boxed()), any::<prop::sample::Index>(), foreign_byte())
        .prop_map(|(value, at, byte)| {
            let mut value = value;
            let at = at.index(value.len());
            value[at] = byte;
            value
        });
    let edges = prop::sample::select(vec![
        "",
        " ",
        "@",
        "1@",
        "@1",
        "17",
        "WRONGTYPE Operation against a key",
        "foo",
        "1@999999999",
        "1@0000000001",
        "0@0000000001",
        "1@99999999999999999999",
        "1@9999999999999999999",
        "9007199254740992@1764000000000000000",
        "9007199254740993@1764000000000000000",
        "1/1@1",
        "1/1@1+",
        "1/1@+1",
        "0/1@1+1",
        "1/0@1+1",
        "1/1@1+9007199254740992",
        "1/1@1+9007199254740993",
        "1/1/1@1+1",
        "/1@1+1",
        "1/@1+1",
        "1/1@99999999999999999+1",
        "1/1@0000000000000001+1",
        "01@0000000001",
        "1@0000000001 ",
        " 1@0000000001",
        "1@0000000001  1@0000000001",
        "1@0000000001\t",
        "-1@0000000001",
        "1@0000000001 1@0000000001 1@0000000001 1@0000000001",
        "1@0000000001 1@0000000001 1@0000000001 1@0000000001 1@0000000001",
        "1e3@0000000001",
        "1@0000000001@1",
        "1+1@0000000001",
        "1/1@1+1+1",
        "0x10@0000000001",
        "1.5@0000000001",
    ])
    .prop_map(|text| text.as_bytes().to_vec());
    let weight = u32::from(foreign);
    prop_oneof![
        2 => Just(None),
        8 => own.prop_map(Some),
        4 => changed.prop_map(Some),
        2 => fewer.prop_map(Some),
        3 * weight => broken.prop_map(Some),
        weight => longer.prop_map(Some),
        2 * weight => edges.prop_map(Some),
    ]
}

fn foreign_byte() -> impl Strategy<Value = u8> {
    prop_oneof![prop::sample::select(b"0123456789@/+ -.ex".to_vec()), any::<u8>()]
}

/// A value written under `limits` at `now` or some time before or after it.
fn written(now: u64, limits: BoxedStrategy<Vec<Limit>>) -> impl Strategy<Value = Vec<u8>> {
    let shift = prop_oneof![3 => Just(0i64), 2 => -2_000_000_000..2_000_000_000i64, 1 => any::<i32>().prop_map(|days| i64::from(days) * 1_000_000_007)];
    (limits, shift, prop::collection::vec(0..=u64::MAX, 4), prop::collection::vec(0..7u8, 4))
        .prop_map(move |(limits, shift, debts, kinds)| {
            let then = now.saturating_add_signed(shift).min(9_999_999_999 * SECOND - MAX_SPAN);
            let mut cells = Cells::default();
            for (tier, limit) in limits.iter().enumerate() {
                let timeline = limit.timeline();
                let width = timeline.width();
                let debt = match kinds[tier] {
                    0 => 0,
                    1 => limit.span(),
                    2 => limit.span() - width,
                    3 => debts[tier] % (limit.span() + 1),
                    4 => debts[tier] % limit.burst() * width,
                    5 => MAX_SPAN - debts[tier] % 2,
                    _ => (limit.span() + 1 + debts[tier] % 1_000_000).min(MAX_SPAN),
                };
                cells[tier] = timeline.position(then).saturating_add(debt);
            }
            value::write(&cells, &limits, then).into_bytes()
        })
}

/// A part of the scripts with one token changed.
pub struct Mutant {
    /// The line's text, and the change.
    pub name: String,
    /// The whole part.
    pub text: String,
}

/// One mutant for each operator, comparison, constant and function of a part that could be confused
/// with another.
pub fn mutants(part: &str) -> Vec<Mutant> {
    const CHANGES: &[(&str, &[&str])] = &[
        (" <= ", &[" < ", " > "]),
        (" < ", &[" <= ", " > "]),
        (" >= ", &[" > ", " < "]),
        (" > ", &[" >= ", " < "]),
        (" == ", &[" ~= "]),
        (" ~= ", &[" == "]),
        (" + ", &[" - "]),
        (" - ", &[" + "]),
        (" * ", &[" / "]),
        (" / ", &[" * "]),
        (" and ", &[" or "]),
        (" or ", &[" and "]),
        ("if not ", &["if "]),
        ("floor(", &["math.ceil("]),
        ("math.ceil(", &["floor("]),
        ("min(", &["max("]),
        ("max(", &["min("]),
        ("%.0f", &["%s", "%.1f"]),
        ("%09.0f", &["%.0f"]),
        (" + 1", &[" + 0", " + 2"]),
        (" - 1", &[" - 0", " - 2"]),
        ("and 1 or 0", &["and 2 or 0", "and 1 or 1"]),
        ("> 10", &["> 9", "> 11"]),
        ("first + 4", &["first + 3", "first + 5"]),
        ("#KEYS > 1", &["#KEYS > 0", "#KEYS > 2"]),
        ("#KEYS == 1", &["true", "false"]),
        (", 0\n", &[", 1\n"]),
        (", 0)", &[", 1)"]),
        (" = 0 ", &[" = 1 "]),
        ("== 0", &["== 1"]),
        ("> 0", &["> 1"]),
        ("nil, 0, false", &["nil, 1, false", "nil, 0, true"]),
        ("9007199254740992", &["9007199254740991", "9007199254740994", "1000000000000"]),
        ("1000000000,", &["1000000001,", "100000000,"]),
        ("1000000\n", &["1000001\n", "100000\n"]),
        ("18446744073709,", &["18446744073708,", "18446744073710,"]),
        ("551615", &["551614", "551616"]),
        ("1000000000000000", &["1000000000000001", "100000000000000"]),
        ("* 1000 ", &["* 1001 "]),
        ("text, 1\n", &["text, 2\n"]),
        ("^[^@]+'), 1", &["^[^@]+'), 2"]),
        ("2 * tier + 1", &["2 * tier + 3"]),
        ("tiers + tier", &["tier"]),
        ("[^ ]+", &["[^ ]*", ".+"]),
        ("'^(", &["'("]),
        ("$'", &["'"]),
        (")(%d%d%d", &[")(%d%d"]),
        ("PX", &["EX"]),
        (", 'NX'", &[""]),
        ("%d%09d", &["%d%d"]),
        ("count or 0", &["count or 1"]),
        ("(count) or 1", &["(count) or 2"]),
    ];
    let mut mutants = Vec::new();
    for (from, replacements) in CHANGES {
        for (at, _) in part.match_indices(from) {
            let line_start = part[..at].rfind('\n').map_or(0, |end| end + 1);
            let line = part[line_start..].lines().next().unwrap_or("").trim();
            if line.starts_with("--") {
                continue;
            }
            for to in *replacements {
                let text = format!("{}{to}{}", &part[..at], &part[at + from.len()..]);
                let column = at - line_start;
                let name = format!("{line} [{column}: {from:?} -> {to:?}]");
                mutants.push(Mutant { name, text });
            }
        }
    }
    mutants
}

/// Steps at which the outcome of a comparison changes and that random ones hardly meet.
pub fn edges() -> [Case; 6] {
    let limit = |text| vec![Limit::parse(text).expect("a limit")];
    let check_at = |second: u64| Case {
        now: second * SECOND,
        values: vec![None],
        limits: limit("1/9007199254740992ns"),
        operation: Operation::Check { cost: 1.into() },
    };
    let last_milli = u64::MAX / MILLI;
    [
        // The last second of a clock that is believed, and the next one.
        check_at(9_990_992_799),
        check_at(9_990_992_800),
        // The longest delay that is a whole number of milliseconds.
        Case {
            now: 0,
            values: vec![Some(format!("1/1@0+{last_milli}").into_bytes())],
            limits: limit("1/1ms window"),
            operation: Operation::Reserve {
                cost: 1.into(),
                max_wait: last_milli * MILLI,
                min_wait: 0,
            },
        },
        // A hold that ends a nanosecond after a step waits for the next one.
        Case {
            now: 1_764_000_000 * SECOND,
            values: vec![None],
            limits: limit("7/1s window"),
            operation: Operation::Hold { wait: SECOND + 1 },
        },
        // A slot after which the bucket owes all that a bucket can.
        Case {
            now: 1_764_000_000 * SECOND,
            values: vec![Some(b"1000000000@1773007198254740992".to_vec())],
            limits: limit("1/s burst 10"),
            operation: Operation::Reserve { cost: 1.into(), max_wait: u64::MAX, min_wait: 0 },
        },
        // A cost that reads like the width under which a later tier was written.
        Case {
            now: 1_764_000_000 * SECOND,
            values: vec![Some(b"100000000@1764000000000000000 5@1764000000000000050".to_vec())],
            limits: [limit("10/s"), limit("1/s burst 20")].concat(),
            operation: Operation::Check { cost: 5.into() },
        },
    ]
}

/// Mutants that take the same step as the script on every bucket.
///
/// - If nothing is missing there is no delay, by either branch.
/// - A whole millisecond equals the millisecond before and a million nanoseconds; the two forms
///   compare and add up alike.
/// - `%s` writes fourteen digits, which a step (below 10^13) and seconds (below 10^11) do not
///   exceed.
/// - A check that does not take the quick path takes the slow one, with the same result. For a
///   single check, the smaller of 1 and the number of checks that have room is 1.
/// - A time in the clock's last millisecond is a whole millisecond.
pub const EQUIVALENT_MUTANTS: &[&str] = &[
    r#"charge = width and cost and cost > 0 and cost * width [36: " > " -> " < "]"#,
    r#"charge = width and cost and cost > 0 and cost * width [37: "> 0" -> "> 1"]"#,
    r#"full = many and charge and charge <= span and smooth_word(span - charge) [37: " <= " -> " < "]"#,
    r#"full = many and charge and charge <= span and smooth_word(span - charge) [37: " <= " -> " > "]"#,
    r#"full = many and charge and charge <= span and smooth_word(span - charge) [66: " - " -> " + "]"#,
    r#"if not cost then [4: "if not " -> "if "]"#,
    r##"local many = #KEYS > 1 [13: "#KEYS > 1" -> "#KEYS > 0"]"##,
    r##"local many = #KEYS > 1 [13: "#KEYS > 1" -> "#KEYS > 2"]"##,
    r##"local many = #KEYS > 1 [18: " > " -> " < "]"##,
    r##"local many = #KEYS > 1 [18: " > " -> " >= "]"##,
    r#"if count > 1 then charged = charge * min(count, (room - fmod(room, charge)) / charge) end [16: " > " -> " >= "]"#,
    r#"if missing > 0 then [12: " > " -> " >= "]"#,
    r#"if rest < 0 then [13: " < " -> " <= "]"#,
    r#"return format('%s@%.0f%09.0f', ARGV[2 * tier], at_sec, at_nanos), math.ceil(debt / MILLI) [20: "%.0f" -> "%s"]"#,
    r#"return format('%s@%.0f+%.0f', ARGV[2 * tier], floor(now_ms / period), debt), full_in [22: "%.0f" -> "%s"]"#,
    r#"local LAST_MS, LAST_NANOS = 18446744073709, 551615 [44: "551615" -> "551614"]"#,
    r#"local LAST_MS, LAST_NANOS = 18446744073709, 551615 [44: "551615" -> "551616"]"#,
];
