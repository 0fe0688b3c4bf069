//! From the TLS settings to the configuration of rustls.

use std::{path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};

use crate::config::{
    tls::{
        SslMode, Tls, TrustedRoots,
        files::{certificates, private_key, system_roots},
        verifier::{Roots, Verifier},
    },
    url::fault::{FileFault, UrlFault},
};

/// The protocol name that PostgreSQL demands if TLS begins without its question. Poolers need not know it, so other
/// connections leave it out.
const ALPN: &[u8] = b"postgresql";

/// Reads the files that the settings name, and returns the configuration for a connection.
pub(crate) fn client_config(tls: &Tls) -> Result<ClientConfig, UrlFault> {
    let fault = |parameter| move |fault| UrlFault::File { parameter, fault };
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier {
        roots: roots(tls).map_err(fault("sslrootcert"))?,
        checks_name: tls.mode == SslMode::VerifyFull,
        algorithms: provider.signature_verification_algorithms,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| UrlFault::Tls(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                certificates(certificate).map_err(fault("sslcert"))?,
                private_key(key).map_err(fault("sslkey"))?,
            )
            .map_err(|error| FileFault::BadKey {
                path: key.clone(),
                reason: error.to_string(),
            })
            .map_err(fault("sslkey"))?,
    };
    if tls.is_direct {
        config.alpn_protocols = vec![ALPN.to_vec()];
    }
    Ok(config)
}

fn roots(tls: &Tls) -> Result<Option<Roots>, FileFault> {
    match &tls.roots {
        TrustedRoots::None => Ok(None),
        TrustedRoots::File(path) => roots_of_file(certificates(path)?, path).map(Some),
        TrustedRoots::System => {
            let certificates = system_roots()?;
            let mut store = RootCertStore::empty();
            // Lists of a system contain old certificates that rustls cannot read.
            store.add_parsable_certificates(certificates.iter().cloned());
            Ok(Some(Roots { store, certificates }))
        }
    }
}

fn roots_of_file(certificates: Vec<CertificateDer<'static>>, path: &Path) -> Result<Roots, FileFault> {
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store
            .add(certificate.clone())
            .map_err(|error| FileFault::BadCertificate {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
    }
    Ok(Roots { store, certificates })
}
