//! `check --ready`: asks a running server whether it can store samples.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use health_core::{Problem, client::without_error_code};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error as RustlsError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::error::ProgramError;

/// The longest wait for the answer. A server that cannot store answers within some seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer. A problem has some hundred bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// What a server with TLS answers to a request without it. See `http.rs`.
const SPEAKS_TLS: &str = "This port speaks TLS";

/// Asks the server at an address. It may speak TLS, which the configuration tells, and which a refusal tells.
///
/// # Errors
/// [`ProgramError::NotReady`] with the server's reason, or why it cannot be asked.
pub(super) async fn ask(address: &str, is_tls: bool) -> Result<(), ProgramError> {
    let not_ready = |reason: String| ProgramError::NotReady {
        address: address.to_owned(),
        reason,
    };
    let resolved = lookup_host(address)
        .await
        .map_err(|error| not_ready(error.to_string()))?;
    let mut outcome = Err("the name has no address".to_owned());
    for address in resolved {
        outcome = match timeout(ANSWER_TIMEOUT, ask_at(reachable(address), is_tls)).await {
            Ok(answered) => answered,
            Err(_) => Err(format!("no answer within {} seconds", ANSWER_TIMEOUT.as_secs())),
        };
        if outcome.is_ok() {
            break;
        }
    }
    outcome.map_err(not_ready)
}

/// A server that listens on all addresses is asked on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => [127, 0, 0, 1].into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

async fn ask_at(address: SocketAddr, is_tls: bool) -> Result<(), String> {
    if !is_tls {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let answer = exchange(stream, address).await?;
        if !answer.contains(SPEAKS_TLS) {
            return judge(&answer);
        }
    }
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(Arc::new(tls().map_err(|error| error.to_string())?));
    let name = ServerName::from(address.ip());
    let stream = connector
        .connect(name, stream)
        .await
        .map_err(|error| without_error_code(&error))?;
    judge(&exchange(stream, address).await?)
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, address: SocketAddr) -> Result<String, String> {
    let request = format!("GET /-/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    // A server that closes in the middle has said nothing; what it said before counts.
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await;
    match read {
        Err(error) if answer.is_empty() => Err(error.to_string()),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

fn judge(answer: &str) -> Result<(), String> {
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if answer.starts_with("HTTP/") && status == "200" {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Err(match serde_json::from_str::<Problem>(body) {
        Ok(problem) => problem.detail,
        Err(_) if answer.starts_with("HTTP/") => format!("it answered with status {status}"),
        Err(_) => "what answers there is no HTTP server".to_owned(),
    })
}

/// Accepts any certificate: the question has no secret in it, and a health check asks by an address that certificates
/// do not name.
fn tls() -> Result<ClientConfig, RustlsError> {
    let provider = Arc::new(ring::default_provider());
    Ok(ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth())
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
