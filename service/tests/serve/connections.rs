//! Tests of gRPC connections: their age, and the certificates of clients.

use core::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::TestResult;
use crate::process::{Client, Failed, Service, check, run};

#[tokio::test]
async fn an_old_connection_is_ended_and_its_client_goes_on() -> TestResult {
    let options = ["--limit", "1000000/h", "--max-connection-age", "1s", "--max-connections", "1"];
    let service = Service::start(&options).await?;
    let mut first = service.client().await?;
    check(&mut first, "user", 1).await?;
    // The only place is taken until the connection of the first client has ended.
    let second = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let client = service.client().await;
            if let Ok(mut client) = client
                && check(&mut client, "user", 1).await.is_ok()
            {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    drop(second.await?);
    Ok(())
}

#[tokio::test]
async fn grpc_is_served_on_a_socket_of_the_file_system() -> TestResult {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("grpc.sock");
    let address = format!("unix:{}", path.display());
    // Nobody listens on a socket whose file is left behind.
    drop(std::os::unix::net::UnixListener::bind(&path)?);
    let arguments = ["--limit", "9/h", "--grpc-listen", &address];
    let mut service = Service::start(&arguments).await?;
    let channel = Endpoint::from_shared(address.clone())?.connect().await?;
    assert_eq!(check(&mut Client::new(channel), "user", 1).await?.1.limit_remaining, 8);
    assert!(service.log()?.contains(&format!("\"grpc\":\"{address}\"")));

    let taken = run(&[&["serve", "--http-listen", "127.0.0.1:0"][..], &arguments].concat(), &[])?;
    assert_eq!(taken.status.code(), Some(1), "another service listens there");
    service.send("TERM")?;
    assert!(service.exited().await?.success());
    assert!(!path.exists(), "the file is removed");

    std::fs::write(&path, "somebody's")?;
    let other = run(&[&["serve", "--http-listen", "127.0.0.1:0"][..], &arguments].concat(), &[])?;
    assert_eq!(other.status.code(), Some(1), "a file that is no socket is not replaced");
    assert!(String::from_utf8(other.stderr)?.contains("there is a file that is no socket"));
    assert_eq!(std::fs::read_to_string(&path)?, "somebody's");
    Ok(())
}

/// An authority, as its certificate and what signs with it.
fn authority() -> Result<(String, Issuer<'static, KeyPair>), Failed> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    Ok((certificate, Issuer::new(params, key)))
}

fn identity(issuer: &Issuer<'static, KeyPair>) -> Result<(String, String), Failed> {
    let key = KeyPair::generate()?;
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

#[tokio::test]
async fn only_clients_with_a_certificate_of_the_authority_are_taken() -> TestResult {
    let directory = tempfile::tempdir()?;
    let write = |name: &str, text: &str| -> Result<String, Failed> {
        let path = directory.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.to_str().ok_or("path")?.to_owned())
    };
    let (ca, issuer) = authority()?;
    let (certificate, key) = identity(&issuer)?;
    let (cert, key) = (write("cert.pem", &certificate)?, write("key.pem", &key)?);
    let ca_file = write("ca.pem", &ca)?;
    let tls = ["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca_file];
    let service = Service::start(&[&["--limit", "9/h"][..], &tls].concat()).await?;
    let ask = async |identity: Option<(String, String)>| -> TestResult {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&ca))
            .domain_name("localhost");
        if let Some((certificate, key)) = identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let endpoint = Channel::from_shared(format!("https://127.0.0.1:{}", service.grpc))?;
        let channel = endpoint.tls_config(tls)?.connect().await?;
        check(&mut Client::new(channel), "user", 1).await?;
        Ok(())
    };
    ask(Some(identity(&issuer)?)).await?;
    assert!(ask(None).await.is_err(), "without a certificate");
    let (_, other) = authority()?;
    assert!(ask(Some(identity(&other)?)).await.is_err(), "of another authority");
    Ok(())
}
