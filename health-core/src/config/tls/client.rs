//! From the TLS settings to the configuration of rustls.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, Error, InconsistentKeys, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::{
    config::{
        tls::{
            SslMode, Tls, TrustedRoots,
            files::{certificates, private_key, system_roots},
            verifier::{Roots, Verifier},
            version_one,
        },
        url::fault::{FileFault, UrlFault},
    },
    tls_reason::{why_no_pair, why_refused},
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
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| UrlFault::Tls(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate).map_err(fault("sslcert"))?;
            let identity = certified_key(chain, private_key(key).map_err(fault("sslkey"))?, &provider)
                .map_err(|error| FileFault::BadKey {
                    path: key.clone(),
                    reason: why_no_pair(&error),
                })
                .map_err(fault("sslkey"))?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
    };
    if tls.is_direct {
        config.alpn_protocols = vec![ALPN.to_vec()];
    }
    Ok(config)
}

/// Returns a client's certificate with its key, if they belong together.
fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Error> {
    let Some(old) = chain.first().and_then(version_one::read) else {
        return CertifiedKey::from_der(chain, key, provider);
    };
    let key = provider.key_provider.load_private_key(key)?;
    if key.public_key() == version_one::public_key(&old) {
        Ok(CertifiedKey::new(chain, key))
    } else {
        Err(InconsistentKeys::KeyMismatch.into())
    }
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
                reason: match error {
                    Error::InvalidCertificate(error) => why_refused(&error),
                    error => error.to_string(),
                },
            })?;
    }
    Ok(Roots { store, certificates })
}
