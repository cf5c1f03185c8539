//! Fuzzes the reading of responses: any status, headers and fields are read without a panic, the
//! hold is bounded, and neither the case of names nor the clock beside a `Date` means anything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_core::{DEFAULT_MAX_HOLD, Profile, Signal, SignalReader};

fuzz_target!(|bytes: &[u8]| {
    let (first, rest) = split(bytes, b'\n');
    let (status, profile) = split(first, b' ');
    let number = |text| core::str::from_utf8(text).ok()?.parse().ok();
    let status = number(status).unwrap_or(429);
    let name = core::str::from_utf8(profile).unwrap_or_default();
    let profile = Profile::named(name).unwrap_or(&Profile::GENERIC);
    let lines: Vec<_> = rest.split(|&byte| byte == b'\n').map(|line| split(line, b':')).collect();
    let upper: Vec<_> =
        lines.iter().map(|(name, value)| (name.to_ascii_uppercase(), *value)).collect();
    let upper: Vec<_> = upper.iter().map(|(name, value)| (&name[..], *value)).collect();

    let signal = read(status, profile, &lines, 0);
    assert!(signal.hold <= DEFAULT_MAX_HOLD && signal.hold <= signal.asked);
    assert!(signal.asked > 0 || signal.source.is_empty());
    let of_upper = read(status, profile, &upper, 0);
    assert!(of_upper.source.eq_ignore_ascii_case(signal.source));
    assert!(of_upper.limit_name.eq_ignore_ascii_case(signal.limit_name));
    let (source, limit_name) = (signal.source, signal.limit_name);
    assert_eq!(Signal { source, limit_name, ..of_upper }, signal);

    let mut dated = vec![(&b"date"[..], &b"Mon, 05 Jan 2026 10:00:00 GMT"[..])];
    dated.extend(lines);
    assert_eq!(read(status, profile, &dated, u64::MAX), read(status, profile, &dated, 0));
});

fn read<'a>(
    status: u16,
    profile: &'a Profile<'a>,
    lines: &[(&'a [u8], &'a [u8])],
    now: u64,
) -> Signal<'a> {
    let mut reader = SignalReader::new(status, profile);
    for &(name, value) in lines {
        // The prefix has no case here either, so that upper case reads the same.
        match name.split_at_checked(5) {
            Some((start, path)) if start.eq_ignore_ascii_case(b"body.") => reader.body(path, value),
            _ => reader.header(name, value),
        }
    }
    reader.finish(now, DEFAULT_MAX_HOLD)
}

/// What is before the first `mark`, and what is after it.
fn split(bytes: &[u8], mark: u8) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|&byte| byte == mark).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}
