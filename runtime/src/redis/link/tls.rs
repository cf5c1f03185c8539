//! TLS to a server: what its certificate is checked against, and the client's own certificate.

use std::fs;
use std::io;
use std::sync::Arc;

use once_cell::race::OnceBox;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
};

use super::options::{Options, unusable};
use crate::Error;

/// How connections to the servers of one URL use TLS.
#[derive(Clone)]
pub(super) struct Tls(Arc<Inner>);

struct Inner {
    trust: Trust,
    client: Option<ClientCertificate>,
    /// The configuration of all connections. The first one makes it, because reading the system's
    /// authorities takes a while.
    config: OnceBox<Arc<ClientConfig>>,
}

/// Which certificates of servers are accepted.
enum Trust {
    /// Certificates that the system's authorities vouch for.
    System,
    /// Certificates that these ones vouch for, and these ones themselves.
    Given(Vec<CertificateDer<'static>>),
    /// All of them: the connection is encrypted, but anybody can be at its other end.
    Anybody,
}

struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Tls {
    /// Takes the options `ca`, `cert`, `key` and `verify`. Files are read now, so that one that cannot
    /// be used is an error at once. Without `enabled`, the options are refused.
    pub(super) fn take(enabled: bool, options: &mut Options) -> Result<Option<Self>, Error> {
        let [ca, cert, key] = ["ca", "cert", "key"].map(|name| file(name, options));
        let (ca, cert, key) = (ca?, cert?, key?);
        let verify = options.take("verify");
        if !enabled {
            return match (ca, cert, key, verify) {
                (None, None, None, None) => {
                    options.leave_out(&["ca", "cert", "key", "verify"]);
                    Ok(None)
                }
                _ => {
                    Err(unusable("ca, cert, key and verify are for TLS: rediss:// or rediss+…://"))
                }
            };
        }
        if cert.is_some() != key.is_some() {
            return Err(unusable("cert and key are given together"));
        }
        let trust = match (verify.as_deref(), ca) {
            (None | Some("full"), None) => Trust::System,
            (None | Some("full"), Some(pem)) => Trust::Given(certificates("ca", &pem)?),
            (Some("none"), None) => Trust::Anybody,
            (Some("none"), Some(_)) => {
                return Err(unusable("with verify=none no certificate is checked; leave ca out"));
            }
            (Some(_), _) => return Err(unusable("verify must be full or none")),
        };
        let client = match (cert, key) {
            (Some(cert), Some(key)) => Some(ClientCertificate {
                chain: certificates("cert", &cert)?,
                key: PrivateKeyDer::from_pem_slice(&key)
                    .map_err(|_| unusable("key has no private key in PEM form"))?,
            }),
            _ => None,
        };
        let tls = Self(Arc::new(Inner { trust, client, config: OnceBox::new() }));
        if !matches!(tls.0.trust, Trust::System) {
            tls.config().map_err(|error| unusable(&error.to_string()))?;
        }
        Ok(Some(tls))
    }

    /// Whether the other end of a connection is not checked.
    pub(super) fn accepts_anybody(&self) -> bool {
        matches!(self.0.trust, Trust::Anybody)
    }

    /// The settings for a connection.
    pub(super) fn config(&self) -> io::Result<Arc<ClientConfig>> {
        let made = self.0.config.get_or_try_init(|| self.0.make().map(Box::new));
        made.map(Arc::clone)
    }
}

impl Inner {
    fn make(&self) -> io::Result<Arc<ClientConfig>> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match &self.trust {
            Trust::System => vouched(&provider, system_authorities()?)?,
            Trust::Given(given) => {
                let mut roots = RootCertStore::empty();
                for certificate in given {
                    roots.add(certificate.clone()).map_err(io::Error::other)?;
                }
                let vouched = vouched(&provider, roots)?;
                let accepted = Accepted::VouchedOrGiven { vouched, given: given.clone() };
                Arc::new(Verifier { accepted, provider: Arc::clone(&provider) })
            }
            Trust::Anybody => {
                let accepted = Accepted::Anybody;
                Arc::new(Verifier { accepted, provider: Arc::clone(&provider) })
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &self.client {
            Some(ClientCertificate { chain, key }) => {
                builder.with_client_auth_cert(chain.clone(), key.clone_key())
            }
            None => Ok(builder.with_no_client_auth()),
        };
        config.map(Arc::new).map_err(io::Error::other)
    }
}

fn vouched(
    provider: &Arc<CryptoProvider>,
    roots: RootCertStore,
) -> io::Result<Arc<WebPkiServerVerifier>> {
    let provider = Arc::clone(provider);
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(io::Error::other)
}

fn system_authorities() -> io::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    match found.errors.into_iter().next() {
        _ if added > 0 => Ok(roots),
        Some(error) => Err(io::Error::other(format!("the system's authorities: {error}"))),
        None => Err(io::Error::other("the system knows no authority; give ca=/path")),
    }
}

/// The content of the file that an option names.
fn file(option: &'static str, options: &mut Options) -> Result<Option<Vec<u8>>, Error> {
    let Some(path) = options.take(option) else { return Ok(None) };
    let read = fs::read(path);
    read.map(Some).map_err(|error| unusable(&format!("{option} cannot be read: {error}")))
}

fn certificates(option: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(read) if !read.is_empty() => Ok(read),
        _ => Err(unusable(&format!("{option} has no certificate in PEM form"))),
    }
}

/// Verifies servers where the usual rules do not fit. That a server has the key of its certificate is
/// verified in any case.
#[derive(Debug)]
struct Verifier {
    accepted: Accepted,
    provider: Arc<CryptoProvider>,
}

/// Which certificates a [`Verifier`] accepts.
#[derive(Debug)]
enum Accepted {
    /// What the given certificates vouch for, and a server whose own certificate is byte for byte one
    /// of them.
    ///
    /// A server's own certificate may be made as an authority's (`openssl req -x509` does so), or for
    /// another name; the usual rules then refuse it as a server's. An operator who names that
    /// certificate trusts its key, and only the server has that. Its dates still count.
    VouchedOrGiven { vouched: Arc<WebPkiServerVerifier>, given: Vec<CertificateDer<'static>> },
    /// Every certificate.
    Anybody,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Accepted::VouchedOrGiven { vouched, given } = &self.accepted else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified =
            vouched.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // webpki looks at the dates before it finds one of these.
            Err(error)
                if given.iter().any(|given| given == end_entity)
                    && (is_about_authority(&error) || is_about_name(&error)) =>
            {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a certificate was refused because it is an authority's.
fn is_about_authority(error: &TlsError) -> bool {
    let TlsError::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

fn is_about_name(error: &TlsError) -> bool {
    use CertificateError::{NotValidForName, NotValidForNameContext};
    matches!(error, TlsError::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
}
