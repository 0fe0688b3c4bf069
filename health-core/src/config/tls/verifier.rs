//! The check of the server's certificate. It accepts what OpenSSL accepts for libpq, also three forms that rustls
//! refuses: a self-signed certificate that is itself the root certificate, a name in the subject alone, and version 1
//! of X.509. The instructions for TLS in PostgreSQL's manual make certificates of these forms.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use x509_cert::{Certificate, der::Decode};

use crate::config::tls::{
    certificate_fault::{CertificateFault, check_validity, fault},
    names::{is_named, names},
    version_one,
};

/// Checks a server's certificate as far as `sslmode` asks for it.
#[derive(Debug)]
pub(crate) struct Verifier {
    /// Without it, every certificate is accepted.
    pub(crate) roots: Option<Roots>,
    /// Whether the certificate must name the host.
    pub(crate) checks_name: bool,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

/// The certificates of trusted authorities.
#[derive(Debug)]
pub(crate) struct Roots {
    pub(crate) store: RootCertStore,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), CertificateFault> {
        let Some(roots) = &self.roots else {
            return Ok(());
        };
        if roots.certificates.iter().any(|root| root == certificate) {
            // It is trusted by itself, so there is no chain to check.
            let certificate =
                Certificate::from_der(certificate).map_err(|_| fault(CertificateError::BadEncoding.into()))?;
            check_validity(&certificate, now)?;
        } else if let Some(server) = version_one::read(certificate) {
            version_one::check_chain(server, intermediates, &roots.certificates, now, self.algorithms.all)?;
        } else {
            let parsed = ParsedCertificate::try_from(certificate).map_err(fault)?;
            verify_server_cert_signed_by_trust_anchor(&parsed, &roots.store, intermediates, now, self.algorithms.all)
                .map_err(fault)?;
        }
        if self.checks_name {
            check_name(certificate, host)
        } else {
            Ok(())
        }
    }
}

impl Verifier {
    /// Checks a signature, unless any certificate is accepted: then it proves nothing, and rustls cannot read every
    /// certificate.
    fn check_signature(
        &self,
        check: impl FnOnce() -> Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.roots {
            Some(_) => check(),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(certificate, intermediates, host, now)
            .map(|()| ServerCertVerified::assertion())
            .map_err(|fault| CertificateError::Other(OtherError(Arc::new(fault))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(|| match version_one::read(certificate) {
            Some(old) => version_one::verify_tls12_signature(message, &old, signature, &self.algorithms),
            None => verify_tls12_signature(message, certificate, signature, &self.algorithms),
        })
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(|| match version_one::read(certificate) {
            Some(old) => version_one::verify_tls13_signature(message, &old, signature, &self.algorithms),
            None => verify_tls13_signature(message, certificate, signature, &self.algorithms),
        })
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

fn check_name(certificate: &CertificateDer<'_>, host: &ServerName<'_>) -> Result<(), CertificateFault> {
    // A certificate of version 1 has no alternative names, and rustls cannot read it.
    let has_alternative =
        ParsedCertificate::try_from(certificate).is_ok_and(|parsed| verify_server_name(&parsed, host).is_ok());
    if has_alternative || is_named(certificate, &host.to_str()) {
        return Ok(());
    }
    Err(CertificateFault::Name {
        host: host.to_str().into_owned(),
        names: names(certificate),
    })
}
