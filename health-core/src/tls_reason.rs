//! What the errors of TLS mean: clauses for messages, with a remedy. They serve the clients of a server and the
//! connections to PostgreSQL.

#[cfg(feature = "store")]
use rustls::InconsistentKeys;
use rustls::{AlertDescription, CertificateError, Error, OtherError, pki_types::pem};

/// Returns why the certificate of the other side cannot be used, in a clause about "it".
pub(crate) fn why_refused(error: &CertificateError) -> String {
    use CertificateError as E;
    match error {
        E::BadEncoding => "it is damaged. Make it again",
        E::Revoked => "it was revoked. Replace it on the server",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "its extended key usage does not include servers. Make it again with the usage serverAuth"
        }
        E::UnhandledCriticalExtension => UNKNOWN_EXTENSION,
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it or the certificate of its authority has a key or a signature that this program does not support, such as one \
             with SHA-1. Make it again with a key of type RSA, ECDSA or Ed25519, and with SHA-256"
        }
        E::Other(other) => return why_refused_by_path(other),
        error => return unexplained(error),
    }
    .to_owned()
}

const UNKNOWN_EXTENSION: &str = "it has a critical extension that this program does not know. Make it again without it";

/// Returns why the library that checks chains of certificates refuses one. Its type is not public; the texts are the
/// names of its errors.
fn why_refused_by_path(error: &OtherError) -> String {
    match error.0.to_string().as_str() {
        "UnsupportedCertVersion" => {
            "it is of version 1 of X.509, which has no names of hosts. Make it again with such a name: openssl x509 -req \
             -extfile FILE, where FILE has a line such as subjectAltName=DNS:localhost"
        }
        "CaUsedAsEndEntity" => {
            "it is the certificate of an authority, which `openssl req -x509` makes. Make one for the server and let the \
             authority sign it, or add -addext basicConstraints=critical,CA:FALSE"
        }
        "EndEntityUsedAsCa" => {
            "it is signed by a certificate that is not an authority's. Let an authority sign it, and add the certificates \
             between them to the file of the server"
        }
        "NameConstraintViolation" => "its authority may not sign for this name. Let another authority sign it",
        "PathLenConstraintViolated" | "MaximumPathDepthExceeded" => {
            "there are more authorities between it and the trusted one than allowed. Let one that is nearer sign it"
        }
        "UnsupportedCriticalExtension" => UNKNOWN_EXTENSION,
        _ => return unexplained(&error.0),
    }
    .to_owned()
}

fn unexplained(error: &dyn std::fmt::Debug) -> String {
    format!("it does not follow the rules for certificates ({error:?}). Make it again")
}

/// Returns why a handshake failed, unless it was for the certificate of the other side.
pub(crate) fn why_failed(error: &Error) -> String {
    use AlertDescription as Alert;
    match error {
        Error::InvalidCertificate(error) => format!("its certificate cannot be used: {}", why_refused(error)),
        Error::InvalidMessage(_) => "it does not speak TLS on this port. Correct the address".to_owned(),
        Error::PeerIncompatible(_)
        | Error::AlertReceived(Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::InsufficientSecurity) => {
            "both sides have no version or cipher of TLS in common. Switch on TLS 1.2 or 1.3 there".to_owned()
        }
        Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateUnknown
            | Alert::UnknownCA,
        ) => "it asks for a certificate of the client, and this program has none. Use an address that does not ask for one"
            .to_owned(),
        Error::AlertReceived(Alert::UnrecognisedName) => {
            "it does not know the name of the host. Use a name that its certificate has".to_owned()
        }
        Error::AlertReceived(alert) => format!("it ended the handshake with the alert {alert:?}. Its log may say why"),
        error => format!("{error}. Its log may say more"),
    }
}

/// Returns why a certificate of this side and its key cannot be used together.
#[cfg(feature = "store")]
pub(crate) fn why_no_pair(error: &Error) -> String {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => "it belongs to another certificate".to_owned(),
        Error::InvalidCertificate(error) => format!("the certificate cannot be used: {}", why_refused(error)),
        error => error.to_string(),
    }
}

/// Returns why a file is no PEM, without a byte of it: the messages of the library have lines of the file, which may be
/// those of a key.
pub(crate) fn why_no_pem(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        _ => "it is not PEM".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rustls::{InvalidMessage, PeerIncompatible};

    use super::*;

    #[test]
    fn a_failed_handshake_has_a_reason_and_a_remedy() {
        use AlertDescription as Alert;
        for (error, words, remedy) in [
            (
                Error::AlertReceived(Alert::ProtocolVersion),
                "no version or cipher",
                "TLS 1.2",
            ),
            (
                PeerIncompatible::ServerDoesNotSupportTls12Or13.into(),
                "no version or cipher",
                "TLS 1.2",
            ),
            (
                Error::AlertReceived(Alert::CertificateRequired),
                "certificate of the client",
                "Use an address",
            ),
            (
                Error::AlertReceived(Alert::UnrecognisedName),
                "name of the host",
                "Use a name",
            ),
            (Error::AlertReceived(Alert::InternalError), "InternalError", "log"),
            (
                InvalidMessage::InvalidContentType.into(),
                "does not speak TLS",
                "Correct the address",
            ),
            (CertificateError::Revoked.into(), "was revoked", "Replace it"),
            (CertificateError::BadEncoding.into(), "is damaged", "Make it again"),
            (
                CertificateError::ApplicationVerificationFailure.into(),
                "ApplicationVerificationFailure",
                "Make it again",
            ),
            (Error::DecryptError, "cannot decrypt", "log"),
        ] {
            let reason = why_failed(&error);
            assert!(reason.contains(words) && reason.contains(remedy), "{error:?}: {reason}");
            assert!(
                !reason.contains("received fatal alert") && !reason.ends_with('.'),
                "{reason}"
            );
        }
    }
}
