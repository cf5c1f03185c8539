//! The values at which the outcome of a comparison, a constant or an operator of the engine
//! changes. Mutation testing (`make mutants`) needs them.
#![allow(clippy::panic, clippy::unwrap_used, reason = "how a test fails")]

use tidegate_core::{
    Cells, Clock, Error, Field, Limit, MAX_SPAN, ManualClock, Quoted, Shape, Source, Timeline,
    decide, decide_tiers,
};

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000 * MICRO;
const SECOND: u64 = 1_000 * MILLI;
const MINUTE: u64 = 60_000_000_000;
const HOUR: u64 = 3_600_000_000_000;
const DAY: u64 = 86_400_000_000_000;
const WEEK: u64 = 604_800_000_000_000;
const CENTURY: u64 = 3_153_600_000_000_000_000;

fn parsed(text: &str) -> (u64, u64, u64, Shape) {
    let limit = Limit::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    (limit.tokens(), limit.period(), limit.burst(), limit.shape())
}

#[test]
fn every_unit_has_its_names() {
    let names: [(&[&str], u64); 8] = [
        (&["ns"], 1),
        (&["us"], MICRO),
        (&["ms"], MILLI),
        (&["s", "sec", "second", "seconds"], SECOND),
        (&["m", "min", "minute", "minutes"], MINUTE),
        (&["h", "hr", "hour", "hours"], HOUR),
        (&["d", "day", "days"], DAY),
        (&["w", "week", "weeks"], WEEK),
    ];
    for (names, nanos) in names {
        for name in names {
            assert_eq!(parsed(&format!("1/{name}")), (1, nanos, 1, Shape::Smooth));
            assert_eq!(parsed(&format!("3 / 9 {name} ")), (3, 9 * nanos, 3, Shape::Smooth));
        }
        let canonical = if names.contains(&"m") { "min" } else { names[0] };
        for (period, text) in [(nanos, ""), (7 * nanos, "7")] {
            // Seven days are written as a week.
            let expect =
                if period == WEEK { "1/w".to_owned() } else { format!("1/{text}{canonical}") };
            assert_eq!(Limit::smooth(1, period, 1).map(|limit| limit.to_string()), Ok(expect));
        }
    }
    assert_eq!(Limit::smooth(1, 61, 1).map(|limit| limit.to_string()), Ok("1/61ns".to_owned()));
}

#[test]
fn options_mean_what_they_say() {
    for (text, expect) in [
        ("10/s", (10, SECOND, 10, Shape::Smooth)),
        ("  1_0__0 / 2 s  burst  7 ", (100, 2 * SECOND, 7, Shape::Smooth)),
        ("100/min burst 300 stepped", (100, MINUTE, 300, Shape::Stepped)),
        ("100/min stepped burst 300", (100, MINUTE, 300, Shape::Stepped)),
        ("100/min stepped", (100, MINUTE, 100, Shape::Stepped)),
        ("100/min window", (100, MINUTE, 100, Shape::Stepped)),
        ("10 in any 1s", (10, SECOND + 1, 1, Shape::Smooth)),
        ("10 in any s", (10, SECOND + 1, 1, Shape::Smooth)),
        ("10 in any 1s burst 4", (7, SECOND + 1, 4, Shape::Smooth)),
        ("10 in any 1s jitter 50ms", (10, SECOND + 50 * MILLI + 1, 1, Shape::Smooth)),
        ("10 in any 1s jitter 0ms", (10, SECOND + 1, 1, Shape::Smooth)),
        ("10 in any 1s burst 4 jitter 2s", (7, 3 * SECOND + 1, 4, Shape::Smooth)),
        ("10 in any 1s jitter 2s burst 4", (7, 3 * SECOND + 1, 4, Shape::Smooth)),
    ] {
        assert_eq!(parsed(text), expect, "{text:?}");
    }
}

#[test]
fn the_canonical_text_says_all_that_differs() {
    for (text, canonical) in [
        ("10/1s burst 10", "10/s"),
        ("10/s burst 9", "10/s burst 9"),
        ("10/s stepped", "10/s window"),
        ("10/s burst 9 stepped", "10/s burst 9 stepped"),
        ("60/90s", "60/90s"),
        ("60/120s", "60/2min"),
        ("10/14d", "10/2w"),
    ] {
        assert_eq!(Limit::parse(text).map(|limit| limit.to_string()).as_deref(), Ok(canonical));
    }
}

/// The error names the byte at which the text stops making sense, or the bound that it breaks.
#[test]
fn refused_texts_are_refused_at_the_right_byte() {
    let syntax = |text: &str| match Limit::parse(text) {
        Err(Error::Syntax { at, .. }) => at,
        other => panic!("{text:?}: {other:?}"),
    };
    for (text, at) in [
        ("", 0),
        ("x", 0),
        ("/s", 0),
        ("_1/s", 0),
        ("10", 2),
        ("10 ", 2),
        ("10 per", 6),
        ("10 pro s", 3),
        ("10 requests", 11),
        ("10/", 3),
        ("\t10/", 4),
        ("10/5", 4),
        ("10/5 ", 4),
        ("1./s", 1),
        ("1.2.3/s", 3),
        ("10/1.s", 4),
        ("10/0.0000000001s", 3),
        ("0.3/", 0),
        ("10/s!", 4),
        ("10/s x", 5),
        ("10/s burst", 10),
        ("10/s burst x", 11),
        ("10/s burst 5 burst 5", 13),
        ("10/s stepped stepped", 13),
        ("10/s window window", 12),
        ("10/s stepped window", 13),
        ("10/s window stepped", 12),
        ("10/s window burst 10", 12),
        ("10/s burst 10 window", 14),
        ("10/s jitter 1s", 5),
        ("10 in", 5),
        ("10 in 1s", 6),
        ("10 in all 1s", 6),
        ("10 in any", 9),
        ("10 in any 1s!", 12),
        ("10 in any 1s x", 13),
        ("10 in any 1s burst 5 burst 5", 21),
        ("10 in any 1s jitter 1s jitter 1s", 23),
        ("10 in any 1s jitter s", 20),
        ("10 in any 1s jitter", 19),
        ("10 in any 1s window", 13),
    ] {
        assert_eq!(syntax(text), at, "{text:?}");
    }
    let expected = "a whole number, without a fraction";
    assert_eq!(Limit::parse("1./s"), Err(Error::Syntax { at: 1, expected }));
    let not_positive = |field| Error::NotPositive { field };
    for (text, error) in [
        ("0/s", not_positive(Field::Tokens)),
        ("-1/s", not_positive(Field::Tokens)),
        ("1/0s", not_positive(Field::Period)),
        ("1/-1s", not_positive(Field::Period)),
        ("1/s burst 0", not_positive(Field::Burst)),
        ("1/s burst -1", not_positive(Field::Burst)),
        ("10 in any 0s", not_positive(Field::Period)),
        ("10 in any 1s jitter -1s", not_positive(Field::Period)),
        // The first error is reported, not the worst.
        ("0/fortnight", not_positive(Field::Tokens)),
        ("10/0 fortnights", not_positive(Field::Period)),
        ("10/fortnight", Error::UnknownUnit { at: 3 }),
        ("10/ 2 fortnights", Error::UnknownUnit { at: 6 }),
        ("18446744073709551616/s", Error::NumberTooLarge { at: 0 }),
        (" 99999999999999999999/s", Error::NumberTooLarge { at: 1 }),
        ("1/18446744073709551615s", Error::DurationTooLong { at: 2 }),
        ("1/213503d 24h window", Error::DurationTooLong { at: 2 }),
        ("10/s; 100/h", Error::SeveralLimits { at: 4 }),
        ("10/s and 100/h", Error::SeveralLimits { at: 5 }),
        ("10/s burst 5 ,100/h", Error::SeveralLimits { at: 13 }),
        ("18446744073709551615/s", Error::RateTooHigh),
        ("1/18446744073709551615ns", Error::SpanTooLong),
    ] {
        assert_eq!(Limit::parse(text), Err(error), "{text:?}");
    }
}

/// What can be understood is refused with what to write instead.
#[test]
fn misspelt_texts_are_refused_with_the_right_spelling() {
    for (text, at, said) in [
        ("0.5/s", 0, "counts are whole numbers; write 1/2s"),
        (" .25 per min burst 3", 1, "counts are whole numbers; write 1/4min"),
        ("10/1.5h", 3, "counts are whole numbers; write 90min"),
        ("1k/s", 0, "counts are written in digits only; write 1000/s"),
        ("3G/d", 0, "counts are written in digits only; write 3000000000/d"),
        ("2.5e1/s", 0, "counts are written in digits only; write 25/s"),
        ("1k/fortnight", 0, "counts are written in digits only; write 1000"),
        ("10/s burst 0X1f", 11, "counts are written in decimal digits; write 31"),
        ("10_/s", 0, "only \"_\" may separate digits, and between them; write 10/s"),
        ("1,000/s", 0, "only \"_\" may separate digits, and between them; write 1000/s"),
        ("+1/s", 0, "counts have no sign; write 1/s"),
        ("10/1h 30m", 3, "a duration is one count of one unit; write 90min"),
        ("10 in any 1s jitter 1ms500us", 20, "a duration is one count of one unit; write 1500us"),
        ("10/month", 3, "months differ in length; write 30d"),
        ("10/2 yrs", 3, "years differ in length; write 730d"),
        ("10/5M", 3, "\"M\" may also mean a month; write 5min"),
    ] {
        let error = Limit::parse(text).unwrap_err();
        assert!(matches!(error, Error::Spelling { .. }), "{text:?}: {error:?}");
        assert_eq!(error.to_string(), format!("at byte {at}: {said}"), "{text:?}");
        assert_eq!(error.in_text(text).to_string(), error.to_string());
    }
    // The rate that would be written breaks a bound, or the rest of the text cannot be understood.
    for text in ["0.00000001/w", "0.5/fortnight", "1.5 in any 1s"] {
        let error = Error::Syntax { at: 0, expected: "a whole number" };
        assert_eq!(Limit::parse(text), Err(error), "{text:?}");
    }
}

#[test]
fn several_limits_in_one_text_are_told_apart() {
    for text in [
        "10/second; 100/hour",
        "10/second,100/hour",
        " 10/second AND 100/hour ",
        "10/second 100/hour",
        "10/second\n100/hour",
        "10/second; 100/hour;",
    ] {
        let error = Limit::parse(text).unwrap_err().in_text(text).to_string();
        let said = "a text is one limit; give each by itself: \"10/second\", \"100/hour\"";
        assert!(error.ends_with(said), "{error}");
    }
    // The text of an error need not be the one that was parsed.
    let error = Error::SeveralLimits { at: 9 };
    assert!(error.in_text("10/s").to_string().ends_with("itself: \"10/s\""));
}

/// An error stays as small as a decision, which most calls return in its place.
#[test]
fn errors_are_small() {
    assert!(size_of::<Error>() <= size_of::<tidegate_core::Decision>());
}

#[test]
fn the_bounds_of_a_smooth_limit() {
    assert!(Limit::smooth(1, 1, 1).is_ok());
    assert_eq!(Limit::smooth(2, 1, 1), Err(Error::RateTooHigh));
    assert_eq!(Limit::smooth(3, 2, 1), Err(Error::RateTooHigh));
    // In whole nanoseconds a token takes 2 ns, which misses the rate by 1 % and by a little more.
    assert!(Limit::smooth(101, 200, 1).is_ok());
    assert_eq!(Limit::smooth(101, 199, 1), Err(Error::RateTooCoarse));
    for (period, burst) in [(1, MAX_SPAN), (MAX_SPAN, 1), (1 << 20, 1 << 33)] {
        assert_eq!(Limit::smooth(1, period, burst).map(|limit| limit.span()), Ok(MAX_SPAN));
    }
    for (period, burst) in [(1, MAX_SPAN + 1), (MAX_SPAN + 1, 1), (1 << 20, (1 << 33) + 1)] {
        assert_eq!(Limit::smooth(1, period, burst), Err(Error::SpanTooLong));
    }
    for (tokens, period, burst, field) in
        [(0, 1, 1, Field::Tokens), (1, 0, 1, Field::Period), (1, 1, 0, Field::Burst)]
    {
        assert_eq!(Limit::smooth(tokens, period, burst), Err(Error::NotPositive { field }));
        assert_eq!(Limit::stepped(tokens, period, burst), Err(Error::NotPositive { field }));
        assert_eq!(Limit::in_any(tokens, period, 0, burst), Err(Error::NotPositive { field }));
    }
}

#[test]
fn the_bounds_of_a_stepped_limit() {
    assert!(Limit::stepped(1, MILLI, 1).is_ok());
    assert_eq!(Limit::stepped(1, MILLI + 1, 1), Err(Error::SteppedPeriod));
    assert_eq!(Limit::stepped(MILLI + 1, MILLI, 1), Err(Error::RateTooHigh));
    let period = MAX_SPAN.next_multiple_of(MILLI);
    assert!(Limit::stepped(MAX_SPAN, period, MAX_SPAN).is_ok());
    assert_eq!(Limit::stepped(MAX_SPAN, period, MAX_SPAN + 1), Err(Error::SteppedTooLong));
    assert!(Limit::stepped(1, CENTURY, 1).is_ok());
    assert_eq!(Limit::stepped(1, CENTURY + MILLI, 1), Err(Error::SteppedTooLong));
    // Six tokens come in two steps of five.
    assert!(Limit::stepped(5, CENTURY / 2, 10).is_ok());
    assert_eq!(Limit::stepped(5, CENTURY / 2, 11), Err(Error::SteppedTooLong));
    assert_eq!(Limit::window(5, SECOND), Limit::stepped(5, SECOND, 5));
}

#[test]
fn the_bounds_of_an_in_any_limit() {
    assert_eq!(Limit::in_any(10, SECOND, MILLI, 10), Limit::smooth(1, SECOND + MILLI + 1, 10));
    assert_eq!(Limit::in_any(10, SECOND, MILLI, 11), Err(Error::BurstAboveWindow));
    assert_eq!(Limit::in_any(1, u64::MAX, 0, 1), Err(Error::SpanTooLong));
    assert_eq!(Limit::in_any(1, u64::MAX, 1, 1), Err(Error::SpanTooLong));
    assert_eq!(Limit::in_any(1, 1, u64::MAX - 1, 1), Err(Error::SpanTooLong));
}

#[test]
fn timelines_count_as_they_should() {
    let smooth = Timeline::Smooth { width: 10 };
    let stepped = Timeline::Stepped { tokens: 5, period: 1_000 };
    assert_eq!((smooth.width(), stepped.width()), (10, 1));
    assert_eq!((smooth.position(2_999), stepped.position(2_999)), (2_999, 10));
    assert_eq!(stepped.position(3_000), 15);
    assert_eq!((smooth.until(1_500, 0), smooth.until(1_500, 7)), (0, 7));
    for (distance, wait) in [(0, 0), (1, 500), (5, 500), (6, 1_500)] {
        assert_eq!(stepped.until(1_500, distance), wait, "{distance}");
    }
    for (debt, same, wider, to_steps) in
        [(0, 0, 0, 0), (1, 1, 20, 1), (10, 10, 20, 1), (11, 11, 40, 2)]
    {
        assert_eq!(smooth.carry(debt, &smooth), same);
        assert_eq!(smooth.carry(debt, &Timeline::Smooth { width: 20 }), wider);
        assert_eq!(smooth.carry(debt, &stepped), to_steps);
    }
    for to in [smooth, Timeline::Smooth { width: 20 }] {
        assert_eq!(smooth.carry(MAX_SPAN + 1, &to), MAX_SPAN);
    }
}

fn limit(text: &str) -> Limit {
    Limit::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[test]
fn a_look_never_refuses_and_never_writes() -> Result<(), Error> {
    let limit = limit("10/s");
    let now = 100 * SECOND;
    for cell in [0, now, now + SECOND / 2, now + 5 * SECOND, u64::MAX] {
        let (look, after) = decide(&limit, cell, now, 0)?;
        assert_eq!((look.allowed, look.retry_after, after), (true, 0, cell));
        assert_eq!(look.reset_after, cell.saturating_sub(now));
    }
    Ok(())
}

#[test]
fn the_end_of_the_timeline_refuses_for_good() -> Result<(), Error> {
    let limit = limit("1/s");
    let last = u64::MAX - SECOND;
    assert_eq!(decide(&limit, 0, last, 1)?.1, u64::MAX);
    let (refused, cell) = decide(&limit, 0, last + 1, 1)?;
    assert_eq!((refused.allowed, refused.retry_after, cell), (false, u64::MAX, 0));
    Ok(())
}

#[test]
fn costs_at_the_burst() -> Result<(), Error> {
    let limit = limit("10/s burst 4");
    assert_eq!(decide(&limit, 0, 0, 5), Err(Error::CostTooLarge { cost: 5, burst: 4 }));
    let (all, cell) = decide(&limit, 0, 0, 4)?;
    assert_eq!((all.allowed, all.limit, all.remaining, cell), (true, 4, 0, 400 * MILLI));
    let limits = [limit, Limit::parse("10/s burst 3")?];
    let error = Err(Error::CostTooLarge { cost: 4, burst: 3 });
    assert_eq!(decide_tiers(&limits, &mut Cells::default(), 0, 4), error);
    assert!(decide_tiers(&limits, &mut Cells::default(), 0, 3)?.allowed);
    Ok(())
}

#[test]
fn one_to_four_tiers_of_which_the_binding_one_answers() -> Result<(), Error> {
    let one = limit("10/s");
    let mut cells = Cells::default();
    for count in [0, 5] {
        let error = Err(Error::TierCount { count });
        assert_eq!(decide_tiers(&vec![one; count], &mut cells, 0, 1), error);
    }
    assert_eq!(decide_tiers(&[one; 4], &mut cells, 0, 1)?.tier, 0, "the first on a tie");
    assert_eq!(cells, [100 * MILLI; 4]);
    for (limits, tier) in [(["10/s", "9/s"], 1), (["9/s", "10/s"], 0)] {
        let limits = limits.map(limit);
        assert_eq!(decide_tiers(&limits, &mut Cells::default(), 0, 1)?.tier, tier);
    }
    // Refused by the first tier; by the second; by both, the longer wait binds; by both alike.
    let limits = [limit("1/s"), limit("1/2s"), limit("5/s")];
    let owed = |first: u64, second: u64| [first * SECOND, second * SECOND, 0, 0];
    for (mut cells, tier, wait) in
        [(owed(1, 0), 0, 1), (owed(0, 2), 1, 2), (owed(1, 2), 1, 2), (owed(1, 1), 0, 1)]
    {
        let before = cells;
        let refused = decide_tiers(&limits, &mut cells, 0, 1)?;
        assert_eq!((refused.allowed, refused.tier), (false, tier));
        assert_eq!((refused.retry_after, cells), (wait * SECOND, before));
    }
    Ok(())
}

/// The examples of the README.
#[test]
fn a_bucket_admits_its_burst_and_what_comes_back_meanwhile() {
    let admitted = |limit: &Limit, times: &[(u64, u64)]| {
        let mut cell = 0;
        let spend = |&(now, calls): &(u64, u64)| {
            let check = |_: &u64| {
                let Ok((decision, next)) = decide(limit, cell, now, 1) else { panic!("{limit}") };
                cell = next;
                decision.allowed
            };
            (0..calls).filter(check).count()
        };
        times.iter().map(spend).sum::<usize>()
    };
    let ticks: Vec<_> = (0..=1_000).map(|milli| (DAY + milli * MILLI, 20)).collect();
    assert_eq!(admitted(&limit("10/s"), &ticks), 20);
    let around = [(DAY + HOUR - 1, 20_000), (DAY + HOUR, 20_000)];
    assert_eq!(admitted(&limit("5000/h window"), &around), 10_000);
}

#[test]
fn errors_say_what_is_wrong() {
    let not_positive = |field| Error::NotPositive { field };
    for (error, reason, said) in [
        (Error::Syntax { at: 3, expected: "a unit" }, "syntax", "at byte 3: expected a unit"),
        (Error::UnknownUnit { at: 3 }, "unknown_unit", "at byte 3: unknown unit"),
        (Error::NumberTooLarge { at: 3 }, "number_too_large", "above 18446744073709551615"),
        (
            Error::DurationTooLong { at: 3 },
            "number_too_large",
            "104 days, a stepped one within 100",
        ),
        (
            Error::SeveralLimits { at: 3 },
            "syntax",
            "give each by itself, as in \"10/s\", \"100/h\"",
        ),
        (not_positive(Field::Tokens), "tokens_not_positive", "tokens must be at least 1"),
        (not_positive(Field::Period), "period_not_positive", "period must be at least 1"),
        (not_positive(Field::Burst), "burst_not_positive", "burst must be at least 1"),
        (Error::RateTooHigh, "rate_too_high", "at most 1000000000 tokens"),
        (Error::RateTooCoarse, "rate_too_coarse", "within 1 %"),
        (Error::SpanTooLong, "span_too_long", "at most 9007199254740992 ns"),
        (Error::SteppedTooLong, "stepped_too_long", "within 3153600000 s"),
        (Error::SteppedPeriod, "stepped_period", "whole number of milliseconds"),
        (Error::BurstAboveWindow, "burst_above_window", "at most the number"),
        (Error::TierCount { count: 5 }, "tier_count", "1 to 4 limits, but 5"),
    ] {
        assert_eq!((error.code(), error.reason()), ("invalid_limit", reason));
        assert!(error.to_string().contains(said), "{error}");
    }
    let error = Error::CostTooLarge { cost: 5, burst: 4 };
    assert_eq!((error.code(), error.reason()), ("cost_too_large", "cost_too_large"));
    assert!(error.to_string().contains("cost of 5 is above the burst of 4"), "{error}");
}

#[test]
fn a_message_shows_no_more_than_the_beginning_of_a_long_text() {
    let texts = ["x".repeat(100_000), "1/s, ".repeat(10_000), "\u{7f}".repeat(61), "€".repeat(61)];
    for text in &texts {
        let error = Limit::parse(text).unwrap_err();
        assert!(error.in_text(text).to_string().len() < 400, "{}", error.in_text(text));
        let quoted = Quoted(text).to_string();
        assert!(quoted.len() < 600 && quoted.ends_with("bytes)"), "{quoted}");
    }
    let short = "€".repeat(60);
    assert_eq!(Quoted(&short).to_string(), format!("{short:?}"));
    let several = "1/s, 2/s, 3/s, 4/s, 5/s";
    let error = Limit::parse(several).unwrap_err().in_text(several).to_string();
    assert!(error.ends_with(r#": "1/s", "2/s", "3/s", "4/s", …"#), "{error}");
}

#[test]
fn names_and_clocks() {
    let names = [Source::Memory, Source::Shm, Source::Redis, Source::Lease, Source::Fallback]
        .map(Source::as_str);
    assert_eq!(names, ["memory", "shm", "redis", "lease", "fallback"]);
    let clock = ManualClock::new(7);
    assert_eq!((clock.now(), Clock::now(&&clock)), (7, 7));
    clock.set(5);
    clock.advance(4);
    assert_eq!((clock.now(), Clock::now(&&clock)), (9, 9));
    clock.advance(u64::MAX);
    assert_eq!(clock.now(), u64::MAX);
}
