//! Certificates for tests.

use pem::Pem;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SigningKey, date_time_ymd};
use x509_cert::{
    Version,
    der::{Decode, Encode, asn1::BitString},
};

/// An authority that signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM form.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl Authority {
    /// Creates an authority with a name.
    ///
    /// # Panics
    ///
    /// If no certificate can be made. This holds for all functions here.
    pub fn new(name: &str) -> Authority {
        let mut parameters = parameters(name, &[]);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority {
            issuer: CertifiedIssuer::self_signed(parameters, key).expect("a certificate"),
        }
    }

    /// Returns the certificate of the authority in PEM form.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// Makes a certificate with a common name, and with alternative names (hosts or IP addresses).
    pub fn sign(&self, name: &str, hosts: &[&str]) -> Certificate {
        self.sign_parameters(&parameters(name, hosts))
    }

    /// Makes a certificate that has expired.
    pub fn sign_expired(&self, name: &str, hosts: &[&str]) -> Certificate {
        self.sign_until(name, hosts, (2001, 2, 3))
    }

    /// Makes a certificate that is valid until the beginning of a day: year, month, day.
    pub fn sign_until(&self, name: &str, hosts: &[&str], (year, month, day): (i32, u8, u8)) -> Certificate {
        let mut parameters = parameters(name, hosts);
        parameters.not_before = date_time_ymd(2000, 1, 1);
        parameters.not_after = date_time_ymd(year, month, day);
        self.sign_parameters(&parameters)
    }

    /// Makes a certificate of X.509 version 1, as `openssl x509 -req` does: it has no extensions, so no alternative
    /// names.
    pub fn sign_version_one(&self, name: &str) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let signed = parameters(name, &[])
            .signed_by(&key, &self.issuer)
            .expect("a certificate");
        let mut certificate = x509_cert::Certificate::from_der(signed.der()).expect("a certificate");
        certificate.tbs_certificate.version = Version::V1;
        certificate.tbs_certificate.extensions = None;
        let contents = certificate.tbs_certificate.to_der().expect("the contents");
        let signature = self.issuer.key().sign(&contents).expect("a signature");
        certificate.signature = BitString::from_bytes(&signature).expect("a signature");
        let encoded = certificate.to_der().expect("a certificate");
        Certificate {
            certificate: pem::encode(&Pem::new("CERTIFICATE", encoded)),
            key: key.serialize_pem(),
        }
    }

    /// Creates an authority below this one.
    #[must_use]
    pub fn intermediate(&self, name: &str) -> Authority {
        let mut parameters = parameters(name, &[]);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.below(&parameters)
    }

    /// Makes a certificate that signs others, although this authority has not made it an authority.
    #[must_use]
    pub fn impostor(&self, name: &str) -> Authority {
        self.below(&parameters(name, &[]))
    }

    fn below(&self, parameters: &CertificateParams) -> Authority {
        let key = KeyPair::generate().expect("a key");
        Authority {
            issuer: CertifiedIssuer::signed_by(parameters.clone(), key, &self.issuer).expect("a certificate"),
        }
    }

    fn sign_parameters(&self, parameters: &CertificateParams) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let signed = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        Certificate {
            certificate: signed.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Certificate {
    /// Makes a certificate that is its own authority, as the instructions of PostgreSQL's manual do.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn self_signed(name: &str) -> Certificate {
        let mut parameters = parameters(name, &[]);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Certificate::from_parameters(&parameters)
    }

    /// Makes a certificate of a server that is signed by its own key, and that may not sign others.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn for_itself(name: &str, hosts: &[&str]) -> Certificate {
        let mut parameters = parameters(name, hosts);
        parameters.is_ca = IsCa::ExplicitNoCa;
        Certificate::from_parameters(&parameters)
    }

    fn from_parameters(parameters: &CertificateParams) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let signed = parameters.self_signed(&key).expect("a certificate");
        Certificate {
            certificate: signed.pem(),
            key: key.serialize_pem(),
        }
    }
}

fn parameters(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut parameters = CertificateParams::new(hosts).expect("names of hosts");
    parameters.distinguished_name.remove(DnType::CommonName);
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}
