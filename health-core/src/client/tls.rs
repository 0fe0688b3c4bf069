//! TLS to a server: which authorities are trusted, and what a failed handshake means.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, Error as RustlsError, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::tls_reason::{why_failed, why_no_pem, why_refused};

/// The authorities that a client trusts. A clone shares them.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

/// Why there are no authorities to trust.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The file of `--ca` cannot be read.
    #[error("Cannot read the authority's certificate from {}: {reason}. Write the path of a PEM file to --ca.", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// This machine has no list of authorities.
    #[error("This machine has no list of trusted authorities. Install its package ca-certificates, or use --ca.")]
    NoSystemRoots,
    /// TLS cannot be used.
    #[error("Cannot use TLS: {0}")]
    Unusable(String),
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFault {
    /// The certificate is not signed by a trusted authority.
    #[error(
        "the certificate of {0} is not from a trusted authority: use --ca with the certificate of the authority that signed it"
    )]
    UnknownAuthority(String),
    /// The certificate has expired.
    #[error("the certificate of {0}, or that of its authority, has expired: renew it, or check the clock")]
    Expired(String),
    /// The certificate is not valid yet.
    #[error("the certificate of {0}, or that of its authority, is not valid yet: check the clock")]
    NotYetValid(String),
    /// The certificate is for other hosts.
    #[error("the certificate is not for {host}, but for {names}: use a name that it has")]
    OtherName {
        /// The host that the client asked for.
        host: String,
        /// The names in the certificate.
        names: String,
    },
    /// The certificate cannot be used for another reason.
    #[error("the certificate of {host} cannot be used: {reason}")]
    BadCertificate {
        /// The host.
        host: String,
        /// What is wrong with the certificate, and what to do.
        reason: String,
    },
    /// The server sent something that is not TLS.
    #[error("{0} does not speak TLS: use http:// for --server and tcp:// for --feed")]
    NoTls(String),
    /// The server closed the connection during the handshake.
    #[error("{0} closed the connection in the TLS handshake: does this port speak TLS?")]
    Closed(String),
    /// The host is no name that a certificate can have.
    #[error("{0} is not the name of a host")]
    InvalidName(String),
    /// The handshake failed for another reason.
    #[error("TLS to {host} failed: {reason}")]
    Other {
        /// The host.
        host: String,
        /// The reason.
        reason: String,
    },
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Trusts the authorities of a PEM file, or without one those that this machine trusts.
    ///
    /// # Errors
    /// [`TrustError`], with the name of the file.
    pub fn new(ca: Option<&Path>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        match ca {
            Some(path) => {
                for certificate in read_certificates(path)? {
                    roots
                        .add(certificate)
                        .map_err(|_| unreadable(path, "a certificate in it is damaged"))?;
                }
            }
            None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        }
        if roots.is_empty() {
            return Err(TrustError::NoSystemRoots);
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TrustError::Unusable(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// Performs the handshake with `host`, whose name the certificate must have.
    pub(super) async fn handshake(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, TlsFault> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| TlsFault::InvalidName(host.clone()))?;
        let connector = TlsConnector::from(Arc::clone(&self.0));
        connector
            .connect(name, stream)
            .await
            .map_err(|error| fault(host, &error))
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(path, &why_no_pem(&error)))?;
    if certificates.is_empty() {
        return Err(unreadable(path, "it has no certificate"));
    }
    Ok(certificates)
}

fn unreadable(path: &Path, reason: &str) -> TrustError {
    TrustError::Unreadable {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Returns what an error of a handshake means to the user.
fn fault(host: String, error: &io::Error) -> TlsFault {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<RustlsError>());
    match reason {
        Some(RustlsError::InvalidCertificate(certificate)) => match certificate {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFault::UnknownAuthority(host),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired(host),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFault::NotYetValid(host),
            CertificateError::NotValidForName => TlsFault::OtherName {
                host,
                names: "others".to_owned(),
            },
            CertificateError::NotValidForNameContext { presented, .. } => TlsFault::OtherName {
                host,
                names: names(presented),
            },
            other => TlsFault::BadCertificate {
                host,
                reason: why_refused(other),
            },
        },
        Some(RustlsError::InvalidMessage(_)) => TlsFault::NoTls(host),
        Some(other) => TlsFault::Other {
            host,
            reason: why_failed(other),
        },
        None if matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        ) =>
        {
            TlsFault::Closed(host)
        }
        None => TlsFault::Other {
            host,
            reason: error.to_string(),
        },
    }
}

/// Lists the names of a certificate without rustls' notation, such as `DnsName("localhost")`.
fn names(presented: &[String]) -> String {
    let names: Vec<_> = presented
        .iter()
        .map(|name| {
            name.split('(')
                .next_back()
                .unwrap_or(name)
                .trim_matches(['"', ')', '\\'])
        })
        .collect();
    if names.is_empty() {
        "no host".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests;
