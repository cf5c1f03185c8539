//! The processes and directories of these tests.

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{env, thread};

use rustix::time::{ClockId, clock_gettime};
use tidegate::{Error, Limiter};

/// A directory for one test, which is removed when the test ends.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        Self::inside(&env::temp_dir())
    }

    /// A directory in memory, if the platform has such a place, so that making a large file takes long
    /// enough for a kill to interrupt it.
    pub(crate) fn in_memory() -> Self {
        let shm = Path::new("/dev/shm");
        if shm.is_dir() { Self::inside(shm) } else { Self::new() }
    }

    fn inside(parent: &Path) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("tidegate-test-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// The URL of the store `name`; `query` begins with `&` unless it is empty.
    pub(crate) fn url(&self, name: &str, query: &str) -> String {
        format!("shm://{name}?dir={}{query}", self.0.display())
    }

    pub(crate) fn open(&self, query: &str, limits: &[&str]) -> Result<Limiter, Error> {
        open(&self.url("test", query), limits)
    }

    /// The names of the store's files.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name());
        let names = entries.map(|name| name.into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("tidegate.")).collect();
        names.sort();
        names
    }

    pub(crate) fn only_file(&self) -> PathBuf {
        let files = self.files();
        assert_eq!(files.len(), 1, "{files:?}");
        self.0.join(&files[0])
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let removed = fs::remove_dir_all(&self.0);
        if !thread::panicking() {
            removed.unwrap();
        }
    }
}

pub(crate) fn open(url: &str, limits: &[&str]) -> Result<Limiter, Error> {
    let builder = limits.iter().fold(Limiter::builder(), |builder, limit| builder.limit(limit));
    builder.store_url(url).build()
}

/// The nanoseconds of a clock that all processes of the host share.
pub(crate) fn host_nanos() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Polls until `is_so` is true, and fails after 20 s.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// What a process of a test does, and with what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Role {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    pub(crate) limits: &'static str,
    /// The file to which it writes its results.
    pub(crate) results: PathBuf,
    /// When it begins and ends its work, on the host's clock.
    pub(crate) from: u64,
    pub(crate) until: u64,
    /// Shell commands that the same process runs first.
    pub(crate) shell: &'static str,
}

/// A process that is killed, at the latest, when this is dropped.
pub(crate) struct Process(Child);

impl Role {
    pub(crate) fn start(&self) -> Process {
        let child = Command::new("sh")
            .args(["-c", &format!("{} exec \"$0\" \"$@\"", self.shell)])
            .arg(env::current_exe().unwrap())
            .args(["processes::role_of_a_child", "--exact", "--nocapture", "--test-threads=1"])
            .env("TIDEGATE_TEST_ROLE", self.name)
            .env("TIDEGATE_TEST_URL", &self.url)
            .env("TIDEGATE_TEST_LIMITS", self.limits)
            .env("TIDEGATE_TEST_RESULTS", &self.results)
            .env("TIDEGATE_TEST_FROM", self.from.to_string())
            .env("TIDEGATE_TEST_UNTIL", self.until.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Process(child)
    }

    fn from_environment(name: &'static str) -> Self {
        let variable = |name: &str| env::var(format!("TIDEGATE_TEST_{name}")).unwrap();
        Self {
            name,
            url: variable("URL"),
            limits: variable("LIMITS").leak(),
            results: variable("RESULTS").into(),
            from: variable("FROM").parse().unwrap(),
            until: variable("UNTIL").parse().unwrap(),
            shell: "",
        }
    }

    pub(crate) fn limiter(&self) -> Result<Limiter, Error> {
        open(&self.url, &self.limits.split(';').collect::<Vec<_>>())
    }

    pub(crate) fn report(&self, result: &str) {
        File::create(&self.results).unwrap().write_all(result.as_bytes()).unwrap();
    }

    pub(crate) fn await_start(&self) {
        while host_nanos() < self.from {
            thread::yield_now();
        }
    }
}

impl Process {
    pub(crate) fn finish(mut self) {
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    /// Kills the process as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The kill fails if the process has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The work of the processes that tests start. It tests nothing by itself.
#[test]
fn role_of_a_child() {
    let Ok(name) = env::var("TIDEGATE_TEST_ROLE") else { return };
    let role = Role::from_environment(name.leak());
    match role.name {
        "spend" => crate::sharing::spend(&role),
        "churn" => crate::kills::churn(&role),
        "open" => crate::creation::open_and_spend_one(&role),
        "fork" => crate::fork::leave_to_a_child(&role),
        other => panic!("no such role: {other}"),
    }
}
