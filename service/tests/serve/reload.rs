//! Tests of rules that change while the service runs.

use std::path::Path;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;

use crate::TestResult;
use crate::process::{Failed, Service, check, eventually};

fn rule(limit: &str) -> String {
    format!("[[rules]]\nmatch = [\"api_key\"]\nlimits = [\"{limit}\"]\n")
}

/// Replaces a file at once: the service counts each text that it sees.
fn replace(path: &Path, text: &str) -> TestResult {
    let unfinished = path.with_extension("tmp");
    std::fs::write(&unfinished, text)?;
    Ok(std::fs::rename(unfinished, path)?)
}

async fn start(rules: &Path) -> Result<Service, Failed> {
    let rules = rules.to_str().ok_or("path")?;
    Service::start(&["--store", "memory://", "--rules", rules, "--rules-poll", "20ms"]).await
}

/// Waits until a fresh key has this many tokens left.
async fn decides_with(service: &Service, left: u32) -> TestResult {
    let mut client = service.client().await?;
    for number in 0..10_000 {
        if check(&mut client, &number.to_string(), 1).await?.1.limit_remaining == left {
            return Ok(());
        }
        tokio::time::sleep(core::time::Duration::from_millis(5)).await;
    }
    Err(format!("{left} are never left").into())
}

async fn shows(service: &Service, lines: &[&str]) -> TestResult {
    eventually(async || {
        let (_, metrics) = service.get("/metrics")?;
        match lines.iter().find(|line| !metrics.lines().any(|it| it == **line)) {
            Some(line) => Err(format!("{line} is not in {metrics}").into()),
            None => Ok(()),
        }
    })
    .await
}

#[tokio::test]
async fn a_changed_file_is_reloaded_and_a_wrong_one_is_told() -> TestResult {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("rules.toml");
    std::fs::write(&path, rule("5/h"))?;
    let service = start(&path).await?;
    decides_with(&service, 4).await?;
    shows(&service, &["tidegate_rules_valid 1", "tidegate_rules_reloads_total{result=\"ok\"} 0"])
        .await?;
    assert_eq!(service.get("/readyz")?, (200, "ready".to_owned()));

    replace(&path, &rule("7/h"))?;
    decides_with(&service, 6).await?;
    shows(&service, &["tidegate_rules_valid 1", "tidegate_rules_reloads_total{result=\"ok\"} 1"])
        .await?;

    let failed = |count| format!("tidegate_rules_reloads_total{{result=\"failed\"}} {count}");
    for (count, wrong, said) in [
        (1, rule("5/fortnight"), "rules[0].limits[0]: invalid limit \"5/fortnight\""),
        (2, "[[rules]]\nmatch = [\"hunter2".to_owned(), "TOML parse error at line 2"),
    ] {
        replace(&path, &wrong)?;
        shows(&service, &["tidegate_rules_valid 0", &failed(count)]).await?;
        let (code, detail) = service.get("/readyz")?;
        assert_eq!(code, 200, "the rules from before still decide");
        assert!(detail.starts_with("ready\nthe rules are not reloaded: "), "{detail}");
        assert!(detail.contains(said) && !detail.contains("hunter2"), "{detail}");
        assert_eq!(check(&mut service.client().await?, said, 7).await?.0, Code::Ok);
    }
    std::fs::remove_file(&path)?;
    shows(&service, &["tidegate_rules_valid 0", &failed(3)]).await?;
    assert!(service.log()?.contains("No such file"));

    replace(&path, &rule("9/h"))?;
    decides_with(&service, 8).await?;
    shows(&service, &["tidegate_rules_valid 1", "tidegate_rules_reloads_total{result=\"ok\"} 2"])
        .await?;
    assert_eq!(service.get("/readyz")?, (200, "ready".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_link_that_is_swapped_is_a_change() -> TestResult {
    use std::os::unix::fs::symlink;
    // Kubernetes keeps a ConfigMap like this: the file links into a folder, and the folder's link is swapped.
    let directory = tempfile::tempdir()?;
    let at = |name: &str| directory.path().join(name);
    for (version, limit) in [("v1", "5/h"), ("v2", "7/h")] {
        std::fs::create_dir(at(version))?;
        std::fs::write(at(version).join("rules.toml"), rule(limit))?;
    }
    symlink("v1", at("..data"))?;
    symlink("..data/rules.toml", at("rules.toml"))?;
    let service = start(&at("rules.toml")).await?;
    decides_with(&service, 4).await?;
    symlink("v2", at("..data_tmp"))?;
    std::fs::rename(at("..data_tmp"), at("..data"))?;
    std::fs::remove_dir_all(at("v1"))?;
    decides_with(&service, 6).await
}
