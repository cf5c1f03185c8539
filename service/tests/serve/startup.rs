//! Tests of wrong command lines, rules and certificates: exit codes and messages.

use std::net::TcpListener;

use crate::TestResult;
use crate::process::{Failed, run};

/// Runs `tidegate serve`; returns the exit code and standard error.
fn serve(arguments: &[&str]) -> Result<(Option<i32>, String), Failed> {
    let output = run(&[&["serve"][..], arguments].concat(), &[])?;
    Ok((output.status.code(), String::from_utf8(output.stderr)?))
}

#[test]
fn a_wrong_command_line_exits_with_2_and_names_the_option() -> TestResult {
    let limit = ["--limit", "1/s"];
    for (arguments, said) in [
        (vec![], "--rules <FILE>|--limit <LIMIT>"),
        (vec!["--store", "memory://"], "--rules <FILE>|--limit <LIMIT>"),
        (vec!["--store", "memory://", "--limit", "5/fortnight"], "--limit: invalid limit"),
        (vec!["--store", "memory://", "--limit", ""], "--limit: invalid limit"),
        ([&["--store", "http://x"][..], &limit].concat(), "--store: invalid store"),
        (
            [&["--store", "memory://", "--store-timeout", "0ms"][..], &limit].concat(),
            "--store-timeout: invalid",
        ),
        ([&["--store", "memory://", "--prefix", ""][..], &limit].concat(), "invalid prefix"),
        (
            [&["--store", "memory://", "--on-store-error", "ignore"][..], &limit].concat(),
            "--on-store-error: invalid on_store_error: it must be",
        ),
        (
            [&["--store", "redis://x", "--on-store-error", "local"][..], &limit].concat(),
            "--peers: invalid peers",
        ),
        (
            [&["--store", "redis://x", "--peers", "3"][..], &limit].concat(),
            "--peers: invalid peers: it is for",
        ),
        (
            [&["--store", "memory://", "--deny-cache", "61s"][..], &limit].concat(),
            "--deny-cache: invalid deny_cache",
        ),
        (
            [&["--store", "redis://x", "--lease-ttl", "1s"][..], &limit].concat(),
            "--lease-ttl, --lease-max-share: invalid lease",
        ),
        (
            [
                &["--store", "memory://", "--tls-cert", "/no.pem", "--tls-key", "/no.key"],
                &limit[..],
            ]
            .concat(),
            "--tls-cert /no.pem: No such file",
        ),
    ] {
        let (code, message) = serve(&arguments)?;
        assert_eq!(code, Some(2), "{arguments:?}: {message}");
        assert!(message.contains(said), "{arguments:?} said {message:?}, not {said:?}");
    }
    Ok(())
}

#[test]
fn wrong_rules_exit_with_2_and_name_the_file_and_the_field() -> TestResult {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("rules.toml");
    let file = path.to_str().ok_or("path")?;
    let with_rules = ["--store", "memory://", "--rules", file];
    let (code, message) = serve(&with_rules)?;
    assert_eq!(code, Some(2));
    assert!(message.contains(file) && message.contains("No such file"), "{message}");
    for (rules, said) in [
        ("[[rules]]\nlimits = [\"1/s\"]\nburst = 5", "unknown field `burst`"),
        ("[[rules]]\nlimits = [\"-1/s\"]", "rules[0].limits[0]: invalid limit \"-1/s\""),
        ("[[rules", "TOML parse error at line 1"),
    ] {
        std::fs::write(&path, rules)?;
        let (code, message) = serve(&with_rules)?;
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains(file) && message.contains(said), "{message}");
    }
    Ok(())
}

#[test]
fn an_invalid_certificate_exits_with_2() -> TestResult {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("cert.pem");
    std::fs::write(&path, "not a certificate")?;
    let file = path.to_str().ok_or("path")?;
    let tls = ["--tls-cert", file, "--tls-key", file];
    let (code, message) = serve(&[&["--store", "memory://", "--limit", "1/s"], &tls[..]].concat())?;
    assert_eq!(code, Some(2), "{message}");
    assert!(message.contains(file), "{message}");
    Ok(())
}

#[test]
fn an_address_in_use_exits_with_1_and_names_it() -> TestResult {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    for option in ["--grpc-listen", "--http-listen"] {
        let free = ["--grpc-listen", "--http-listen"].into_iter().filter(|it| *it != option);
        let mut arguments = vec!["--store", "memory://", "--limit", "1/s", option, &address];
        for other in free {
            arguments.extend([other, "127.0.0.1:0"]);
        }
        let (code, message) = serve(&arguments)?;
        assert_eq!(code, Some(1), "{message}");
        assert!(message.contains(&format!("{option} {address}: Address already in use")));
    }
    Ok(())
}

#[test]
fn no_message_has_a_password() -> TestResult {
    let wrong = "redis://:hunter2@[::1:6379/x y";
    let output = run(&["serve", "--store", wrong, "--limit", "1/s"], &[])?;
    assert_eq!(output.status.code(), Some(2));
    assert!(!String::from_utf8(output.stderr)?.contains("hunter2"));
    let help = run(&["serve", "--help"], &[("TIDEGATE_STORE", "redis://:hunter2@db")])?;
    let help = String::from_utf8(help.stdout)?;
    assert!(help.contains("TIDEGATE_STORE") && help.contains("Examples:"));
    assert!(!help.contains("hunter2"));
    Ok(())
}

#[test]
fn options_are_read_from_the_environment() -> TestResult {
    let output = run(
        &["serve"],
        &[("TIDEGATE_STORE", "memory://"), ("TIDEGATE_LIMIT", "1/s; 5/fortnight")],
    )?;
    let message = String::from_utf8(output.stderr)?;
    assert!(message.contains("invalid limit \"5/fortnight\""), "{message}");
    Ok(())
}
