//! Why PostgreSQL and this program do not accept each other: reasons that waiting does not remove.

use std::{error::Error as StdError, io, sync::Arc};

use rustls::{AlertDescription, CertificateError, Error as RustlsError};
use tokio_postgres::error::{DbError, SqlState};

use crate::{
    config::{tls::certificate_fault::CertificateFault, url::fault::UrlFault},
    error::Error,
    store::refusal::classify,
    tls_reason::why_failed,
};

/// Why a connection is refused, with the remedy.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Url(UrlFault),
    #[error(transparent)]
    Certificate(CertificateFault),
    #[error("the server offers no TLS. Switch it on there (ssl = on), or write sslmode=prefer or disable")]
    NoTls,
    #[error(
        "the server refuses the client's certificate ({0:?}). Name one that it accepts by sslcert, and its key by sslkey"
    )]
    ClientCertificate(AlertDescription),
    #[error("the TLS handshake with the server failed: {}", why_failed(.0))]
    Handshake(RustlsError),
    #[error("{0}. Correct the user and the password in the URL; percent-encode special characters")]
    Password(String),
    #[error("the server asks for a password, and the URL has none. Write postgres://USER:PASSWORD@HOST/DATABASE")]
    NoPassword,
    #[error("{0}. The server may accept TLS only: write sslmode=require. Otherwise add a line to its pg_hba.conf")]
    PlainText(String),
    #[error("{0}. Name the client's certificate by sslcert, and its key by sslkey")]
    NoClientCertificate(String),
    #[error("{0}. Correct the user or the host in the URL, create the role, or add a line to the server's pg_hba.conf")]
    Role(String),
    #[error("{0}")]
    Authentication(String),
}

/// Sorts an error of opening a connection by what a caller can do about it.
pub(crate) fn classify_connect(error: tokio_postgres::Error) -> Error {
    match refusal(&error) {
        Some(refusal) => Error::Refused(Arc::new(refusal)),
        None => classify(error),
    }
}

/// Returns whether a connection may succeed without TLS: the handshake failed, or the server refuses it to this client.
pub(crate) fn is_tls_failure(error: &tokio_postgres::Error) -> bool {
    let is_file = causes(error).any(<dyn StdError>::is::<UrlFault>);
    let is_handshake = error.to_string() == HANDSHAKE || causes(error).any(|cause| tls_error(cause).is_some());
    let is_refused = error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
    !is_file && (is_handshake || is_refused)
}

/// The driver's kinds of errors are private; these are their messages.
const HANDSHAKE: &str = "error performing TLS handshake";
const NO_TLS: &str = "server does not support TLS";
const INVALID_CONFIGURATION: &str = "invalid configuration";
const NO_PASSWORD: &str = "password missing";
const AUTHENTICATION: &str = "authentication error";

fn refusal(error: &tokio_postgres::Error) -> Option<Refusal> {
    for cause in causes(error) {
        if let Some(fault) = cause.downcast_ref::<UrlFault>() {
            return Some(Refusal::Url(fault.clone()));
        }
        if let Some(error) = tls_error(cause) {
            return Some(refusal_of_tls(error));
        }
        if let Some(error) = cause.downcast_ref::<DbError>() {
            return refusal_of_server(error);
        }
        match cause.to_string().as_str() {
            NO_TLS => return Some(Refusal::NoTls),
            NO_PASSWORD => return Some(Refusal::NoPassword),
            reason if [AUTHENTICATION, INVALID_CONFIGURATION].contains(&error.to_string().as_str()) => {
                return Some(Refusal::Authentication(reason.to_owned()));
            }
            _ => {}
        }
    }
    None
}

fn refusal_of_tls(error: &RustlsError) -> Refusal {
    match error {
        RustlsError::InvalidCertificate(CertificateError::Other(other)) => {
            match other.0.downcast_ref::<CertificateFault>() {
                Some(fault) => Refusal::Certificate(fault.clone()),
                None => Refusal::Handshake(error.clone()),
            }
        }
        RustlsError::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA),
        ) => Refusal::ClientCertificate(*alert),
        error => Refusal::Handshake(error.clone()),
    }
}

/// Returns the refusal of a server that has checked who connects. The messages of a server may be in another language;
/// then the remedy is the general one.
fn refusal_of_server(error: &DbError) -> Option<Refusal> {
    let message = error.message().to_owned();
    if *error.code() == SqlState::INVALID_PASSWORD {
        Some(Refusal::Password(message))
    } else if *error.code() != SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        None
    } else if message.contains("no encryption") || message.contains("SSL off") {
        Some(Refusal::PlainText(message))
    } else if message.contains("client certificate") {
        Some(Refusal::NoClientCertificate(message))
    } else {
        Some(Refusal::Role(message))
    }
}

/// Returns the error of TLS in an error of the connection.
fn tls_error<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a RustlsError> {
    cause
        .downcast_ref::<io::Error>()?
        .get_ref()?
        .downcast_ref::<RustlsError>()
}

fn causes(error: &tokio_postgres::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}
