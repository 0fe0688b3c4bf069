//! Certificates of X.509 version 1, which have no extensions. OpenSSL, and so libpq, accepts them for servers and
//! clients; rustls refuses them. `openssl x509 -req` makes them unless extensions are named, and so do the instructions
//! in PostgreSQL's manual.

use rustls::{
    CertificateError, DigitallySignedStruct, Error,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime},
};
use x509_cert::{
    Certificate, Version,
    der::{Decode, Encode, asn1::ObjectIdentifier, oid::AssociatedOid},
    ext::pkix::{AuthorityKeyIdentifier, BasicConstraints, KeyUsage, SubjectKeyIdentifier},
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
};

use crate::config::tls::certificate_fault::{CertificateFault, check_validity};

/// The most certificates between that of a server and that of an authority.
const INTERMEDIATES_MAX: usize = 8;

/// The extensions that an authority's certificate may have here. Others may limit what it can sign, so it is refused.
const KNOWN_EXTENSIONS: [ObjectIdentifier; 4] = [
    BasicConstraints::OID,
    KeyUsage::OID,
    SubjectKeyIdentifier::OID,
    AuthorityKeyIdentifier::OID,
];

/// Returns the certificate if it is of version 1.
pub(crate) fn read(certificate: &CertificateDer<'_>) -> Option<Certificate> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let contents = &certificate.tbs_certificate;
    let is_old = contents.version == Version::V1 && contents.extensions.is_none();
    is_old.then_some(certificate)
}

/// Returns the public key of a certificate as TLS needs it.
pub(crate) fn public_key(certificate: &Certificate) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let key = certificate.tbs_certificate.subject_public_key_info.to_der().ok()?;
    Some(key.into())
}

/// Checks that a server's certificate of version 1 comes from one of the roots, directly or through intermediates.
pub(crate) fn check_chain(
    server: Certificate,
    intermediates: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
    now: UnixTime,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<(), CertificateFault> {
    let roots: Vec<_> = roots.iter().filter_map(parse).collect();
    let mut others: Vec<_> = intermediates.iter().take(INTERMEDIATES_MAX).filter_map(parse).collect();
    let mut lowest = server;
    for below in 0_u8.. {
        check_validity(&lowest, now)?;
        let has_signed = |issuer: &Certificate| has_signed(issuer, &lowest, algorithms);
        let is_root = |root: &Certificate| root.tbs_certificate.version == Version::V1 || is_authority(root, below);
        if let Some(root) = roots.iter().find(|root| is_root(root) && has_signed(root)) {
            return check_validity(root, now);
        }
        let issuer = others
            .iter()
            .position(|other| is_authority(other, below) && has_signed(other));
        lowest = others.swap_remove(issuer.ok_or(CertificateFault::UnknownIssuer)?);
    }
    Err(CertificateFault::UnknownIssuer)
}

/// Checks a signature of the handshake of TLS 1.2.
pub(crate) fn verify_tls12_signature(
    message: &[u8],
    certificate: &Certificate,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let of_scheme = algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == signature.scheme);
    let candidates = of_scheme.map_or(&[][..], |(_, candidates)| *candidates);
    let key = &certificate.tbs_certificate.subject_public_key_info;
    if candidates
        .iter()
        .any(|algorithm| is_valid(*algorithm, key, message, signature.signature()))
    {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(CertificateError::BadSignature.into())
    }
}

/// Checks a signature of the handshake of TLS 1.3.
pub(crate) fn verify_tls13_signature(
    message: &[u8],
    certificate: &Certificate,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = public_key(certificate).ok_or(CertificateError::BadEncoding)?;
    verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
}

fn parse(certificate: &CertificateDer<'_>) -> Option<Certificate> {
    Certificate::from_der(certificate).ok()
}

/// Returns whether a certificate of version 3 is one of an authority that may have so many intermediates below it.
fn is_authority(certificate: &Certificate, below: u8) -> bool {
    let contents = &certificate.tbs_certificate;
    let mut extensions = contents.extensions.iter().flatten();
    let is_known = extensions.all(|extension| KNOWN_EXTENSIONS.contains(&extension.extn_id));
    let may_sign = match contents.get::<KeyUsage>() {
        Ok(usage) => usage.is_none_or(|(_, usage)| usage.key_cert_sign()),
        Err(_) => false,
    };
    let Ok(Some((_, constraints))) = contents.get::<BasicConstraints>() else {
        return false;
    };
    let is_short = constraints.path_len_constraint.is_none_or(|most| below <= most);
    is_known && may_sign && constraints.ca && is_short
}

fn has_signed(
    issuer: &Certificate,
    certificate: &Certificate,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> bool {
    let (by, contents) = (&issuer.tbs_certificate, &certificate.tbs_certificate);
    let (Ok(message), Some(signature), Some(name)) = (
        contents.to_der(),
        certificate.signature.as_bytes(),
        identifier(&certificate.signature_algorithm),
    ) else {
        return false;
    };
    by.subject == contents.issuer
        && contents.signature == certificate.signature_algorithm
        && algorithms
            .iter()
            .filter(|algorithm| *algorithm.signature_alg_id() == *name)
            .any(|algorithm| is_valid(*algorithm, &by.subject_public_key_info, &message, signature))
}

fn is_valid(
    algorithm: &dyn SignatureVerificationAlgorithm,
    key: &SubjectPublicKeyInfoOwned,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let (Some(name), Some(bytes)) = (identifier(&key.algorithm), key.subject_public_key.as_bytes()) else {
        return false;
    };
    *algorithm.public_key_alg_id() == *name && algorithm.verify_signature(bytes, message, signature).is_ok()
}

/// Returns the name of an algorithm in the form that rustls compares.
fn identifier(algorithm: &AlgorithmIdentifierOwned) -> Option<Vec<u8>> {
    let mut bytes = algorithm.oid.to_der().ok()?;
    if let Some(parameters) = &algorithm.parameters {
        bytes.extend(parameters.to_der().ok()?);
    }
    Some(bytes)
}
