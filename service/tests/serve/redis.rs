//! A real redis-server, and a TCP proxy to it that can hold back replies.

use core::time::Duration;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::process::{Failed, eventually};

/// A redis-server on a free port; killed when dropped.
pub(crate) struct Redis {
    pub(crate) port: u16,
    server: Option<Child>,
    directory: TempDir,
}

impl Redis {
    pub(crate) async fn start() -> Result<Self, Failed> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut redis = Self { port, server: None, directory: TempDir::new()? };
        redis.restart().await?;
        Ok(redis)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) async fn restart(&mut self) -> Result<(), Failed> {
        self.kill()?;
        let server = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(self.directory.path())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("redis-server (apt-get install redis-server): {error}"))?;
        self.server = Some(server);
        eventually(async || self.command("PING")).await?;
        Ok(())
    }

    pub(crate) fn kill(&mut self) -> Result<(), Failed> {
        if let Some(mut server) = self.server.take() {
            server.kill()?;
            server.wait()?;
        }
        Ok(())
    }

    /// Sends a command whose words have no spaces; returns the first line of the reply.
    pub(crate) fn command(&self, words: &str) -> Result<String, Failed> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("{words}\r\n").as_bytes())?;
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            reply.extend_from_slice(&byte);
        }
        Ok(String::from_utf8(reply)?.trim().to_owned())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // A server that cannot be killed is left running; there is no other remedy.
        let _ = self.kill();
    }
}

/// A TCP proxy to a Redis. While it is held, it passes requests on and keeps replies.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    held: Arc<watch::Sender<bool>>,
    requested: watch::Receiver<u64>,
}

impl Proxy {
    pub(crate) async fn to(redis: &Redis) -> Result<Self, Failed> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let (port, redis_port) = (listener.local_addr()?.port(), redis.port);
        let held = Arc::new(watch::Sender::new(false));
        let (request_count, requested) = watch::channel(0);
        let (task_held, request_count) = (Arc::clone(&held), Arc::new(request_count));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (held, request_count) = (task_held.subscribe(), Arc::clone(&request_count));
                tokio::spawn(forward(client, redis_port, held, request_count));
            }
        });
        Ok(Self { port, held, requested })
    }

    pub(crate) fn hold(&mut self) {
        self.requested.mark_unchanged();
        self.held.send_replace(true);
    }

    pub(crate) fn release(&self) {
        self.held.send_replace(false);
    }

    /// Waits until a request has been sent to the Redis since `hold`.
    pub(crate) async fn request_sent(&mut self) -> Result<(), Failed> {
        tokio::time::timeout(Duration::from_secs(10), self.requested.changed()).await??;
        Ok(())
    }
}

async fn forward(
    client: tokio::net::TcpStream,
    redis_port: u16,
    mut held: watch::Receiver<bool>,
    request_count: Arc<watch::Sender<u64>>,
) -> Result<(), Failed> {
    let redis = tokio::net::TcpStream::connect(("127.0.0.1", redis_port)).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_redis, mut to_redis) = redis.into_split();
    let requests = async {
        let mut buffer = [0; 4096];
        loop {
            let length = from_client.read(&mut buffer).await?;
            request_count.send_modify(|count| *count += 1);
            to_redis.write_all(&buffer[..length]).await?;
            if length == 0 {
                return Ok::<_, Failed>(());
            }
        }
    };
    let replies = async {
        let mut buffer = [0; 4096];
        loop {
            let length = from_redis.read(&mut buffer).await?;
            held.wait_for(|held| !held).await?;
            to_client.write_all(&buffer[..length]).await?;
            if length == 0 {
                return Ok::<_, Failed>(());
            }
        }
    };
    tokio::select! {
        ended = requests => ended,
        ended = replies => ended,
    }
}
