//! The benchmarks run to their end and print the lines that programs read. The figures are not
//! checked, because a shared machine proves nothing about speed.

use std::process::Command;

#[test]
fn every_case_runs_and_reports() -> std::io::Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_core")).arg("--quick").output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("BENCH {")).collect();
    assert!(lines.len() >= 25, "only {} results:\n{text}", lines.len());
    for line in lines {
        assert!(line.ends_with('}') && !line.contains("NaN"), "{line}");
    }
    Ok(())
}
