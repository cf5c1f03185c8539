//! The sockets of the service, and the file that names their ports.

use core::net::SocketAddr;
use std::io;
use std::path::{Path, PathBuf};

use tokio::net::TcpListener;

use crate::cli::ServeOptions;
use crate::failure::Failure;

/// The sockets that the service listens on.
pub(crate) struct Listeners {
    pub(crate) grpc: TcpListener,
    pub(crate) http: TcpListener,
}

impl Listeners {
    /// Listens on the addresses of the options.
    pub(crate) async fn bind(options: &ServeOptions) -> Result<Self, Failure> {
        Ok(Self {
            grpc: bind("--grpc-listen", options.grpc_listen).await?,
            http: bind("--http-listen", options.http_listen).await?,
        })
    }

    /// The addresses for gRPC and HTTP, with the ports that were chosen.
    pub(crate) fn addresses(&self) -> Result<(SocketAddr, SocketAddr), Failure> {
        let of = |listener: &TcpListener| {
            listener.local_addr().map_err(|error| Failure::System(format!("listening: {error}")))
        };
        Ok((of(&self.grpc)?, of(&self.http)?))
    }
}

async fn bind(option: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::System(format!("{option} {address}: {error}")))
}

/// Tells a waiting process which ports were chosen, and that the service is ready.
pub(crate) struct PortsFile<'a>(&'a Path);

impl<'a> PortsFile<'a> {
    /// Removes what an earlier run has left, so that its ports are not taken for ours.
    pub(crate) fn claim(path: &'a Path) -> Result<Self, Failure> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failure(path, &error)),
            _ => Ok(Self(path)),
        }
    }

    /// Writes the ports; a reader sees the whole file or none.
    pub(crate) fn write(&self, grpc: u16, http: u16) -> Result<(), Failure> {
        let mut unfinished = self.0.as_os_str().to_owned();
        unfinished.push(format!(".{}", std::process::id()));
        let unfinished = PathBuf::from(unfinished);
        std::fs::write(&unfinished, format!("{{\"grpc\": {grpc}, \"http\": {http}}}\n"))
            .and_then(|()| std::fs::rename(&unfinished, self.0))
            .map_err(|error| failure(self.0, &error))
    }
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    Failure::System(format!("--ports-file {}: {error}", path.display()))
}
