//! Why a certificate of PostgreSQL's server is refused.

use chrono::DateTime;
use rustls::{CertificateError, Error, pki_types::UnixTime};
use x509_cert::Certificate;

use crate::tls_reason::{why_failed, why_refused};

/// Why the server's certificate is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateFault {
    #[error(
        "the server's certificate comes from an authority that is not among the root certificates. Name the file with the \
         right authority by sslrootcert"
    )]
    UnknownIssuer,
    #[error(
        "the server's certificate is for {names}, not for {host}. Write a name that it has as the host, or give the server \
         a certificate for {host}"
    )]
    Name { host: String, names: String },
    #[error("the server's certificate, or that of its authority, expired at {0}. Renew it on the server")]
    Expired(String),
    #[error("the server's certificate, or that of its authority, is not valid before {0}. Check the clocks")]
    NotValidYet(String),
    #[error("the server's certificate cannot be used: {0}")]
    Other(String),
}

/// Checks that a certificate is valid at this time.
pub(super) fn check_validity(certificate: &Certificate, now: UnixTime) -> Result<(), CertificateFault> {
    let validity = &certificate.tbs_certificate.validity;
    let (begin, end) = (
        validity.not_before.to_unix_duration().as_secs(),
        validity.not_after.to_unix_duration().as_secs(),
    );
    if now.as_secs() < begin {
        Err(CertificateFault::NotValidYet(time(begin)))
    } else if now.as_secs() > end {
        Err(CertificateFault::Expired(time(end)))
    } else {
        Ok(())
    }
}

/// Returns the fault that an error of a handshake tells.
pub(super) fn fault(error: Error) -> CertificateFault {
    let Error::InvalidCertificate(error) = error else {
        return CertificateFault::Other(why_failed(&error));
    };
    match error {
        CertificateError::UnknownIssuer => CertificateFault::UnknownIssuer,
        CertificateError::ExpiredContext { not_after, .. } => CertificateFault::Expired(time(not_after.as_secs())),
        CertificateError::NotValidYetContext { not_before, .. } => {
            CertificateFault::NotValidYet(time(not_before.as_secs()))
        }
        error => CertificateFault::Other(why_refused(&error)),
    }
}

fn time(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
        .map_or_else(
            || format!("second {seconds} of the Unix epoch"),
            |time| time.to_rfc3339(),
        )
}
