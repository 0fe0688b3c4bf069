//! Certificates for tests.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

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
