//! Tests of the command line.

use core::time::Duration;

use clap::CommandFactory;

use super::*;

fn parse(arguments: &[&str]) -> Result<ServeOptions, String> {
    ServeOptions::parse_words(&[&["tidegate", "serve"], arguments].concat())
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn defaults() -> Result<(), String> {
    let options = parse(&["--store", "memory://", "--limit", "10/s; 1000/d"])?;
    assert_eq!(options.limit, ["10/s", " 1000/d"]);
    assert_eq!(options.prefix, "tidegate");
    assert_eq!(options.store_timeout, Duration::from_millis(50));
    assert_eq!((options.on_store_error.as_str(), options.peers), ("raise", None));
    assert_eq!((options.deny_cache, options.lease_ttl), (None, None));
    assert_eq!(options.request_timeout, Duration::from_secs(1));
    assert_eq!(options.drain, Duration::from_secs(10));
    assert_eq!(options.grpc_listen.to_string(), "127.0.0.1:8081");
    assert_eq!(options.http_listen.to_string(), "127.0.0.1:8080");
    assert_eq!(options.log_format, LogFormat::Text);
    Ok(())
}

#[test]
fn every_option_of_serve_has_an_environment_variable_and_stands_in_the_readme() {
    let readme = include_str!("../../README.md");
    for subcommand in Cli::command().get_subcommands().filter(|each| each.get_name() == "serve") {
        for argument in subcommand.get_arguments().filter(|a| a.get_id() != "help") {
            let id = argument.get_id().as_str();
            let variable = argument.get_env().and_then(std::ffi::OsStr::to_str);
            let option = format!("`--{}", argument.get_long().unwrap_or_default());
            let in_readme = [" ", "`"].map(|end| readme.contains(&format!("{option}{end}")));
            assert!(in_readme.contains(&true), "{option} is not in the README");
            assert_eq!(variable, Some(format!("TIDEGATE_{}", id.to_uppercase()).as_str()));
        }
    }
}

#[test]
fn every_option_of_plan_and_simulate_stands_in_its_page() {
    let pages = [
        ("plan", include_str!("../../../docs/planning.md")),
        ("simulate", include_str!("../../../docs/simulator.md")),
    ];
    for (name, page) in pages {
        let cli = Cli::command();
        let subcommand = cli.find_subcommand(name);
        let options = subcommand.into_iter().flat_map(clap::Command::get_arguments);
        let named =
            options.filter(|each| each.get_id() != "help").filter_map(|each| each.get_long());
        let mut count = 0;
        for long in named {
            let option = format!("`--{long}");
            let in_page = [" ", "`"].map(|end| page.contains(&format!("{option}{end}")));
            assert!(in_page.contains(&true), "{option} is not in the page of {name}");
            count += 1;
        }
        assert!(count > 5, "{name} has {count} options");
    }
}

#[test]
fn mistakes_name_the_option_and_the_bound() {
    let with = |more: &[&str]| {
        let base = ["--store", "memory://", "--limit", "10/s"];
        parse(&[&base[..], more].concat()).err().unwrap_or_default()
    };
    for (arguments, said) in [
        (&["--store-timeout", "5"][..], "--store-timeout <TIME>': time unit needed"),
        (&["--lease-max-share", "0.5"], "--lease-ttl <TIME>"),
        (&["--request-timeout", "0s"], "--request-timeout <TIME>': it must be 1ms to 1m"),
        (&["--drain", "11min"], "--drain <TIME>': it must be 0s to 10m"),
        (&["--near-limit-ratio", "1.5"], "--near-limit-ratio <PART>': it must be 0 to 1"),
        (&["--rules-poll", "1h"], "--rules-poll <TIME>': it must be 0s to 10m"),
        (&["--tls-client-ca", "c.pem"], "--tls-cert <FILE>"),
        (&["--max-connection-age", "0s"], "--max-connection-age <TIME>': it must be 1s to 1day"),
        (&["--keepalive", "soon"], "write a number and a unit"),
        (&["--max-streams", "0"], "0 is not in 1..=1000000"),
        (&["--max-message-size", "5000000"], "5000000 is not in 1024..=4194304"),
        (&["--grpc-listen", "8081"], "--grpc-listen <ADDRESS>"),
        (&["--grpc-listen", "unix:x"], "write an absolute path"),
        (&["--tls-cert", "c.pem"], "--tls-key <FILE>"),
        (&["--rules", "rules.toml"], "cannot be used with"),
        (&["--log-format", "xml"], "[possible values: text, json]"),
        (&["--unknown"], "unexpected argument '--unknown'"),
    ] {
        let message = with(arguments);
        assert!(message.contains(said), "{arguments:?} said {message:?}, not {said:?}");
    }
    let nothing = parse(&["--store", "memory://"]).err().unwrap_or_default();
    assert!(nothing.contains("<--rules <FILE>|--limit <LIMIT>>"), "{nothing}");
}
