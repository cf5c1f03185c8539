//! A caller: the same as caller.py, in Rust.

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tidegate::Limiter;

const REFUSED: u64 = 0;
const ADMITTED: u64 = 1;
const STORE_ERROR: u64 = 2;
const STORE_TIMEOUT: u64 = 3;
const OTHER: u64 = 9;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [store, limit, key, log, timeout_ms, pause_ms] = arguments.as_slice() else {
        return Err("STORE_URL LIMIT KEY LOG_FILE TIMEOUT_MS PAUSE_MS".into());
    };
    let timeout = Duration::from_millis(timeout_ms.parse()?);
    let pause = (pause_ms.parse::<f64>()? * 1e6) as u64;
    let builder = Limiter::builder().limit(limit).store_url(store).store_timeout(timeout);
    let limiter = builder.build()?;
    let stop = Path::new(log).with_file_name("stop");
    let mut log = File::create(log)?;

    // A machine on which a whole fleet is starting may be late at first.
    while limiter.check("warm-up", 1).is_err() {
        thread::sleep(Duration::from_millis(50));
    }
    println!("ready");
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let mut due: u64 = line.trim().parse()?;

    let threads = threads_that_decide()?;
    while !stop.exists() {
        thread::sleep(Duration::from_nanos(due.saturating_sub(now())));
        let (waited_before, began) = (waited(&threads)?, now());
        let code = match limiter.check(key, 1) {
            Ok(decision) if decision.allowed => ADMITTED,
            Ok(_) => REFUSED,
            Err(error) => match error.code() {
                "store_error" => STORE_ERROR,
                "store_timeout" => STORE_TIMEOUT,
                code => {
                    eprintln!("{code}: {error}");
                    OTHER
                }
            },
        };
        let record = [began, now(), waited(&threads)? - waited_before, code];
        log.write_all(&record.map(u64::to_le_bytes).concat())?;
        due = (due + pause).max(now());
    }
    Ok(())
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The scheduler's statistics of this thread and of the limiter's I/O thread.
fn threads_that_decide() -> io::Result<Vec<PathBuf>> {
    let mut threads = Vec::new();
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?;
        let main = task.file_name().to_string_lossy() == process::id().to_string();
        if main || fs::read_to_string(task.path().join("comm"))?.trim() == "tidegate-io" {
            threads.push(task.path().join("schedstat"));
        }
    }
    Ok(threads)
}

/// How long these threads could have run but had to wait for a processor, in nanoseconds.
fn waited(threads: &[PathBuf]) -> io::Result<u64> {
    let mut sum = 0;
    for thread in threads {
        let text = fs::read_to_string(thread)?;
        sum += text.split(' ').nth(1).and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}
