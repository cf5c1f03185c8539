//! The sockets of the service, and the file that names their ports.

use std::io;
use std::path::{Path, PathBuf};

use crate::cli::ServeOptions;
use crate::failure::Failure;
use crate::sockets::{Address, Socket};

/// The sockets that the service listens on.
pub(crate) struct Listeners {
    pub(crate) grpc: Socket,
    pub(crate) http: Socket,
}

impl Listeners {
    /// Listens on the addresses of the options.
    pub(crate) async fn bind(options: &ServeOptions) -> Result<Self, Failure> {
        Ok(Self {
            grpc: bind("--grpc-listen", &options.grpc_listen).await?,
            http: bind("--http-listen", &Address::Tcp(options.http_listen)).await?,
        })
    }

    /// The addresses for gRPC and HTTP, with the ports that the system has chosen.
    pub(crate) fn addresses(&self) -> Result<(Address, Address), Failure> {
        let address = |socket: &Socket| {
            socket.address().map_err(|error| Failure::System(format!("listening: {error}")))
        };
        Ok((address(&self.grpc)?, address(&self.http)?))
    }
}

async fn bind(option: &str, address: &Address) -> Result<Socket, Failure> {
    Socket::bind(address)
        .await
        .map_err(|error| Failure::System(format!("{option} {address}: {error}")))
}

/// The file that tells a waiting process the ports, and that the service is ready.
pub(crate) struct PortsFile<'a>(&'a Path);

impl<'a> PortsFile<'a> {
    /// Removes the file of an earlier run, so that nobody reads the ports of that run.
    pub(crate) fn claim(path: &'a Path) -> Result<Self, Failure> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failure(path, &error)),
            _ => Ok(Self(path)),
        }
    }

    /// Writes the ports atomically: a reader sees the whole file or none. A socket of the file system has
    /// port 0.
    pub(crate) fn write(&self, grpc: &Address, http: &Address) -> Result<(), Failure> {
        let port = |address: &Address| match address {
            Address::Tcp(address) => address.port(),
            Address::Unix(_) => 0,
        };
        let (grpc, http) = (port(grpc), port(http));
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
