//! Starts the service, reads its log and metrics, and sends it requests.

use core::time::Duration;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Instant;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tempfile::TempDir;
use tonic::transport::Channel;

pub(crate) type Failed = Box<dyn core::error::Error + Send + Sync>;
pub(crate) type Client = RateLimitServiceClient<Channel>;

/// The longest wait for an event of the service.
const TIMEOUT: Duration = Duration::from_secs(10);

const FREE_PORT: [&str; 2] = ["--grpc-listen", "127.0.0.1:0"];

/// A running service; killed when dropped.
pub(crate) struct Service {
    child: Child,
    directory: TempDir,
    rules: Option<(TempDir, PathBuf)>,
    pub(crate) grpc: u16,
    pub(crate) http: u16,
}

impl Service {
    pub(crate) async fn start(arguments: &[&str]) -> Result<Self, Failed> {
        let directory = TempDir::new()?;
        let ports_file = directory.path().join("ports.json");
        let mut child = command()
            .args(["serve", "--http-listen", "127.0.0.1:0"])
            .args(if arguments.contains(&"--grpc-listen") { &[][..] } else { &FREE_PORT })
            .args(["--log-format", "json", "--ports-file"])
            .arg(&ports_file)
            .args(arguments)
            .stderr(File::create(directory.path().join("log"))?)
            .spawn()?;
        let deadline = Instant::now() + TIMEOUT;
        while !ports_file.exists() {
            if child.try_wait()?.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(directory.path().join("log"))?;
                child.kill()?;
                return Err(format!("the service did not start: {log}").into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let ports = fs::read_to_string(&ports_file)?;
        let (grpc, http) = (port(&ports, "grpc")?, port(&ports, "http")?);
        Ok(Self { child, directory, rules: None, grpc, http })
    }

    /// Starts a service on memory with these rules.
    pub(crate) async fn with_rules(rules: &str) -> Result<Self, Failed> {
        Self::with_rules_and(rules, &[]).await
    }

    /// Starts a service on memory with these rules and more options.
    pub(crate) async fn with_rules_and(rules: &str, more: &[&str]) -> Result<Self, Failed> {
        let directory = TempDir::new()?;
        let path = directory.path().join("rules.toml");
        fs::write(&path, rules)?;
        let text = path.to_str().ok_or("the temporary directory is not UTF-8")?;
        let arguments = ["--store", "memory://", "--rules", text, "--log", "debug"];
        let mut service = Self::start(&[&arguments[..], more].concat()).await?;
        service.rules = Some((directory, path));
        Ok(service)
    }

    /// Replaces the rules of [`with_rules`](Self::with_rules).
    pub(crate) fn write_rules(&self, rules: &str) -> Result<(), Failed> {
        let (_, path) = self.rules.as_ref().ok_or("started without rules")?;
        Ok(fs::write(path, rules)?)
    }

    pub(crate) async fn client(&self) -> Result<Client, Failed> {
        Ok(Client::connect(format!("http://127.0.0.1:{}", self.grpc)).await?)
    }

    /// Sends a GET request; returns the status and the body.
    pub(crate) fn get(&self, path: &str) -> Result<(u16, String), Failed> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        let status = response.split(' ').nth(1).ok_or("no status")?.parse()?;
        let body = response.split_once("\r\n\r\n").ok_or("no body")?.1;
        Ok((status, body.trim().to_owned()))
    }

    /// Sends a POST request; returns the status, the head in lower case, and the body.
    pub(crate) fn post(&self, path: &str, body: &str) -> Result<(u16, String, String), Failed> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        let status = response.split(' ').nth(1).ok_or("no status")?.parse()?;
        let (head, body) = response.split_once("\r\n\r\n").ok_or("no body")?;
        Ok((status, head.to_ascii_lowercase(), body.to_owned()))
    }

    pub(crate) fn log(&self) -> Result<String, Failed> {
        Ok(fs::read_to_string(self.directory.path().join("log"))?)
    }

    pub(crate) fn send(&self, signal: &str) -> Result<(), Failed> {
        let status = Command::new("kill")
            .args([format!("-{signal}"), self.child.id().to_string()])
            .status()?;
        if status.success() { Ok(()) } else { Err("kill failed".into()) }
    }

    pub(crate) async fn exited(&mut self) -> Result<ExitStatus, Failed> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err("the service did not exit".into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // An error means that it has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `tidegate` with these arguments until it ends by itself.
pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Output, Failed> {
    Ok(command().args(arguments).envs(environment.iter().copied()).stdin(Stdio::null()).output()?)
}

fn command() -> Command {
    let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_tidegate")));
    // The TIDEGATE_ variables of the developer's shell must not reach the tests.
    command.env_clear();
    command
}

fn port(ports: &str, name: &str) -> Result<u16, Failed> {
    let after = ports.split_once(&format!("\"{name}\": ")).ok_or("no such port")?.1;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}

/// Repeats an attempt until it succeeds; returns the last error when it does not in time.
pub(crate) async fn eventually<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, Failed>
where
    F: Future<Output = Result<T, Failed>>,
{
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

pub(crate) fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entries = entries
        .iter()
        .map(|(key, value)| Entry { key: (*key).to_owned(), value: (*value).to_owned() })
        .collect();
    RateLimitDescriptor { entries, ..RateLimitDescriptor::default() }
}

/// A request for one descriptor with one entry.
pub(crate) fn request(value: &str, hits_addend: u32) -> RateLimitRequest {
    let descriptors = vec![descriptor(&[("api_key", value)])];
    RateLimitRequest { domain: "edge".to_owned(), descriptors, hits_addend }
}

pub(crate) async fn ask(
    client: &mut Client,
    request: RateLimitRequest,
) -> Result<RateLimitResponse, tonic::Status> {
    Ok(client.should_rate_limit(request).await?.into_inner())
}

/// Sends a request for one descriptor; returns the overall code and the descriptor's status.
pub(crate) async fn check(
    client: &mut Client,
    value: &str,
    hits: u32,
) -> Result<(Code, DescriptorStatus), Failed> {
    let response = ask(client, request(value, hits)).await?;
    let code = response.overall_code();
    Ok((code, response.statuses.into_iter().next().ok_or("no status")?))
}

/// The stable code in a gRPC error's metadata.
pub(crate) fn tidegate_error(status: &tonic::Status) -> &str {
    status.metadata().get("tidegate-error").and_then(|code| code.to_str().ok()).unwrap_or("")
}
