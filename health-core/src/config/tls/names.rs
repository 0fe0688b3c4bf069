//! The names in a certificate.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_cert::{
    Certificate, TbsCertificate,
    der::{Decode, asn1::ObjectIdentifier},
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// The attribute `commonName` of a subject.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Returns whether the subject's common name is the name of the host.
///
/// As in libpq, it counts only if the certificate has no other names, and its first label may be `*`.
pub(crate) fn is_named(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Ok(certificate) = Certificate::from_der(certificate) else {
        return false;
    };
    let subject = &certificate.tbs_certificate;
    alternative_names(subject).is_empty() && common_names(subject).iter().any(|name| matches(name, host))
}

/// Returns the names that a certificate has, for a message.
pub(crate) fn names(certificate: &CertificateDer<'_>) -> String {
    let Ok(certificate) = Certificate::from_der(certificate) else {
        return "no readable name".to_owned();
    };
    let mut names = alternative_names(&certificate.tbs_certificate);
    if names.is_empty() {
        names = common_names(&certificate.tbs_certificate);
    }
    if names.is_empty() {
        "no name".to_owned()
    } else {
        names.join(", ")
    }
}

/// Returns the names and addresses of hosts in the extension for them.
fn alternative_names(certificate: &TbsCertificate) -> Vec<String> {
    let Ok(Some((_, SubjectAltName(names)))) = certificate.get::<SubjectAltName>() else {
        return Vec::new();
    };
    let hosts = names.into_iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(address) => match *address.as_bytes() {
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            ref bytes => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        },
        _ => None,
    });
    hosts.collect()
}

fn common_names(certificate: &TbsCertificate) -> Vec<String> {
    let attributes = certificate.subject.0.iter().flat_map(|set| set.0.iter());
    attributes
        .filter(|attribute| attribute.oid == COMMON_NAME)
        .map(|attribute| String::from_utf8_lossy(attribute.value.value()).into_owned())
        .collect()
}

fn matches(pattern: &str, host: &str) -> bool {
    match (pattern.strip_prefix("*."), host.split_once('.')) {
        (Some(domain), Some((_, of_host))) => domain.contains('.') && domain.eq_ignore_ascii_case(of_host),
        _ => pattern.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        for (pattern, host, is_match) in [
            ("db.example.org", "DB.example.org", true),
            ("*.example.org", "db.example.org", true),
            ("*.example.org", "a.db.example.org", false),
            ("*.example.org", "example.org", false),
            ("*.org", "example.org", false),
            ("*", "localhost", false),
            ("127.0.0.1", "127.0.0.1", true),
        ] {
            assert_eq!(matches(pattern, host), is_match, "{pattern} and {host}");
        }
    }
}
