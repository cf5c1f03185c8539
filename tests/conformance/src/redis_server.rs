//! A real redis-server that a test starts on a free port, and that ends with its handle.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const START_DEADLINE: Duration = Duration::from_secs(60);

/// A running redis-server.
pub struct RedisServer {
    port: u16,
    more: &'static [&'static str],
    process: Option<Child>,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// When redis-server is not installed or does not come up.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more options, such as `--maxmemory 1mb`.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with(more: &'static [&'static str]) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("the port").port();
        drop(free);
        let mut server = Self { port, more, process: None };
        server.restart();
        server
    }

    /// The server's URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// The server's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's Unix socket.
    pub fn socket(&self) -> PathBuf {
        std::env::temp_dir().join(format!("tidegate-redis-{}.sock", self.port))
    }

    /// A plain connection, to see what Tidegate did.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn connect(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("a valid URL");
        client.get_connection().expect("a connection to the test's redis-server")
    }

    /// Starts the server again on the same port, without data; stops it first if it runs.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn restart(&mut self) {
        self.stop();
        let port = self.port.to_string();
        let process = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--daemonize", "no", "--rdb-del-sync-files", "yes", "--dir"])
            .arg(std::env::temp_dir())
            .arg("--unixsocket")
            .arg(self.socket())
            .args(self.more)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server runs; install it with: apt-get install redis-server");
        self.process = Some(process);
        let deadline = Instant::now() + START_DEADLINE;
        let client = redis::Client::open(self.url()).expect("a valid URL");
        while client.get_connection().and_then(|mut it| redis::cmd("PING").exec(&mut it)).is_err() {
            assert!(Instant::now() < deadline, "redis-server did not come up on port {port}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills the process, like a crash.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // The process may have ended already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops the process without closing its connections, like a server that hangs.
    ///
    /// # Panics
    /// When the process is not running.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Ends [`freeze`](Self::freeze).
    ///
    /// # Panics
    /// When the process is not running.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("the server runs");
        let status = Command::new("kill").args([signal, &process.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {signal}");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
        // A file that stays behind does no harm.
        let _ = std::fs::remove_file(self.socket());
    }
}
