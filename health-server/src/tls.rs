//! TLS for both ports: certificate and key from files, read again on demand.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use health_core::format_timestamp;
use parking_lot::RwLock;
use rustls::{
    InconsistentKeys, ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::either::Either;
use x509_cert::{Certificate, TbsCertificate, Version, der::Decode};

use crate::acceptor::refuse;

/// The certificate of a server and its key, with the files that they came from.
#[derive(Debug)]
pub struct ServerTls {
    files: Files,
    loaded: RwLock<Loaded>,
    failed_reloads: AtomicU64,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What was read from the files.
#[derive(Debug, Clone)]
struct Loaded {
    http: Arc<ServerConfig>,
    feed: Arc<ServerConfig>,
    expires_at: DateTime<Utc>,
}

/// The reason why a certificate or a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or has no PEM of the right kind.
    #[error("cannot read the {what} from {}: {reason}. Write the path of a PEM file that the server's user can read to {flag}.", path.display())]
    File {
        /// Certificate or key.
        what: &'static str,
        /// The flag that names the file.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key does not belong to the certificate, or one of them has a form that is not supported.
    #[error("the certificate in {} and the key in {} cannot be used together: {}", certificate.display(), key.display(), why_no_pair(reason))]
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong with them.
        reason: rustls::Error,
    },
    /// The certificate is of version 1 of X.509.
    #[error(
        "clients refuse the certificate in {}: it is of version 1 of X.509, which has no names of hosts. Make it again with \
         such a name: openssl x509 -req -extfile FILE, where FILE has a line such as subjectAltName=DNS:localhost",
        .0.display()
    )]
    VersionOne(PathBuf),
}

/// One of the two ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    Http,
    Feed,
}

/// What operators want to know about the certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TlsStatus {
    pub(crate) expires_at: DateTime<Utc>,
    pub(crate) failed_reloads: u64,
}

/// A connection with or without TLS. The TLS state is on the heap, so that connections without it stay small.
pub(crate) type Connection = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// How long a client may take for its first byte, and then for the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The first byte of every TLS connection: a record of the type handshake (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 22;

impl ServerTls {
    /// Reads a certificate chain and its key from PEM files.
    ///
    /// # Errors
    /// [`TlsError`], a sentence that names the file and the reason.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Files {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        let loaded = files.load()?;
        Ok(Self {
            files,
            loaded: RwLock::new(loaded),
            failed_reloads: AtomicU64::new(0),
        })
    }

    /// Reads the files again. New connections use what was read; if it cannot be used, the old certificate stays in
    /// use.
    pub fn reload(&self) {
        match self.files.load() {
            Ok(loaded) => {
                tracing::info!(
                    expires = format_timestamp(loaded.expires_at),
                    "read the certificate again"
                );
                *self.loaded.write() = loaded;
            }
            Err(error) => {
                self.failed_reloads.fetch_add(1, Relaxed);
                tracing::error!(%error, "the old certificate stays in use");
            }
        }
    }

    pub(crate) fn status(&self) -> TlsStatus {
        TlsStatus {
            expires_at: self.loaded.read().expires_at,
            failed_reloads: self.failed_reloads.load(Relaxed),
        }
    }

    async fn accept(
        &self,
        stream: TcpStream,
        port: Port,
        refusal: fn() -> Vec<u8>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut first = [0];
        // A feed client that does not speak TLS sends nothing: it waits for the first event.
        let peeked = timeout(HANDSHAKE_TIMEOUT, stream.peek(&mut first)).await;
        if peeked.is_err() || first != [HANDSHAKE_RECORD] {
            refuse(stream, refusal()).await;
            return Err(io::Error::other("the client does not speak TLS"));
        }
        let config = {
            let loaded = self.loaded.read();
            Arc::clone(match port {
                Port::Http => &loaded.http,
                Port::Feed => &loaded.feed,
            })
        };
        let handshake = timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream));
        handshake.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Performs the handshake if the server has a certificate. `refusal` makes the bytes for a client that does not speak
/// TLS.
pub(crate) async fn secure(
    stream: TcpStream,
    tls: Option<&ServerTls>,
    port: Port,
    refusal: fn() -> Vec<u8>,
) -> io::Result<Connection> {
    let Some(tls) = tls else {
        return Ok(Either::Left(stream));
    };
    // On the heap, because the future of every connection would otherwise have room for a handshake.
    let stream = Box::pin(tls.accept(stream, port, refusal)).await?;
    Ok(Either::Right(Box::new(stream)))
}

/// Returns the socket of a connection.
pub(crate) fn socket(connection: &Connection) -> &TcpStream {
    match connection {
        Either::Left(socket) => socket,
        Either::Right(tls) => tls.get_ref().0,
    }
}

impl Files {
    fn load(&self) -> Result<Loaded, TlsError> {
        let certificate_error = |reason: String| TlsError::File {
            what: "certificate",
            flag: "--tls-cert",
            path: self.certificate.clone(),
            reason,
        };
        let chain: Vec<_> = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect)
            .map_err(|error| certificate_error(explain(&error)))?;
        let leaf = chain
            .first()
            .ok_or_else(|| certificate_error("it has no certificate".to_owned()))?;
        let damaged = || certificate_error("its certificate is damaged".to_owned());
        let leaf = Certificate::from_der(leaf).map_err(|_| damaged())?.tbs_certificate;
        if leaf.version == Version::V1 {
            return Err(TlsError::VersionOne(self.certificate.clone()));
        }
        let expires_at = expiry(&leaf).ok_or_else(damaged)?;
        if expires_at <= Utc::now() {
            let expires = format_timestamp(expires_at);
            tracing::warn!(expires, "the certificate has expired: clients will refuse it");
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| TlsError::File {
            what: "key",
            flag: "--tls-key",
            path: self.key.clone(),
            reason: explain(&error),
        })?;
        let feed = config(chain, key).map_err(|reason| TlsError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            reason,
        })?;
        let mut http = feed.clone();
        http.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Loaded {
            http: Arc::new(http),
            feed: Arc::new(feed),
            expires_at,
        })
    }
}

/// Returns the configuration of TLS 1.2 and 1.3 without client certificates.
fn config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, rustls::Error> {
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
}

fn expiry(certificate: &TbsCertificate) -> Option<DateTime<Utc>> {
    let not_after = certificate.validity.not_after.to_unix_duration();
    DateTime::from_timestamp(i64::try_from(not_after.as_secs()).ok()?, 0)
}

fn why_no_pair(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the key belongs to another certificate. Name the two files that were made together".to_owned()
        }
        error => error.to_string(),
    }
}

/// Returns what is wrong with a file, without a byte of it: the messages of the library have lines of the file, which
/// may be those of a key.
fn explain(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => return error.to_string(),
        pem::Error::NoItemsFound => "it has none",
        pem::Error::MissingSectionEnd { .. } => "it is not complete PEM: a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "it is not PEM: a BEGIN line is damaged",
        pem::Error::Base64Decode(_) => "it is not PEM: a section is not base64",
        _ => "it is not PEM",
    }
    .to_owned()
}
