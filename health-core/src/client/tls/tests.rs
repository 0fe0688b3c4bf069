//! Handshakes with servers whose certificates are wrong in different ways.

use std::fs;

use rustls::{
    ServerConfig,
    crypto::ring::sign::any_supported_type,
    pki_types::PrivateKeyDer,
    server::WebPkiClientVerifier,
    sign::{CertifiedKey, SingleCertAndKey},
};
use test_support::{Authority, Certificate, test_directory};
use tokio::{io::AsyncReadExt, net::TcpListener};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::client::{ConnectError, connect, without_error_code};

/// Returns the configuration of a server that shows any certificates, also those that rustls refuses.
fn server(chain: &str, key: &str, authority_of_clients: Option<&Authority>) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .unwrap();
    let key = any_supported_type(&PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match authority_of_clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let root = CertificateDer::from_pem_slice(authority.certificate().as_bytes()).unwrap();
            roots.add(root).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let resolver = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    Arc::new(builder.with_cert_resolver(Arc::new(resolver)))
}

/// Connects to a server, and reads until the connection ends. Returns the reason why that fails.
async fn failure(server: Arc<ServerConfig>, ca: &str) -> Option<String> {
    let directory = test_directory();
    let path = directory.path().join("ca.pem");
    fs::write(&path, ca).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        // A failure is the client's to report.
        let _ = TlsAcceptor::from(server).accept(stream).await;
    };
    let reading = async {
        match connect(&address, Some(&Tls::new(Some(&path)).unwrap())).await {
            Ok(mut stream) => match stream.read_to_end(&mut Vec::new()).await {
                // A server that ends without a word.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
                Err(error) => Some(without_error_code(&error)),
                Ok(_) => None,
            },
            Err(error) => {
                assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
                Some(error.to_string())
            }
        }
    };
    tokio::join!(serving, reading).1
}

#[tokio::test]
async fn a_refused_certificate_is_named_with_the_reason_and_a_remedy() {
    const HOSTS: [&str; 1] = ["127.0.0.1"];
    let (authority, other) = (Authority::new("authority"), Authority::new("authority"));
    let own_authority = Certificate::self_signed("127.0.0.1");
    let impostor = authority.impostor("impostor");
    let of_impostor = impostor.sign("server", &HOSTS);
    let with_impostor = Certificate {
        certificate: of_impostor.certificate + &impostor.certificate(),
        key: of_impostor.key,
    };
    for (certificate, trusted, words, remedy) in [
        (
            authority.sign_version_one("127.0.0.1"),
            authority.certificate(),
            "version 1 of X.509",
            "openssl x509 -req -extfile",
        ),
        (
            own_authority.clone(),
            own_authority.certificate.clone(),
            "the certificate of an authority",
            "-addext",
        ),
        (
            with_impostor,
            authority.certificate(),
            "not an authority's",
            "Let an authority sign it",
        ),
        (
            authority.sign("server", &HOSTS),
            other.certificate(),
            "not from a trusted authority",
            "use --ca",
        ),
        (
            authority.sign_expired("server", &HOSTS),
            authority.certificate(),
            "has expired",
            "renew it",
        ),
        (
            authority.sign("server", &["health.example"]),
            authority.certificate(),
            "is not for 127.0.0.1, but for health.example",
            "use a name",
        ),
    ] {
        let server = server(&certificate.certificate, &certificate.key, None);
        let reason = failure(server, &trusted).await.expect("a refused certificate");
        for part in [words, remedy, "the certificate ", "127.0.0.1"] {
            assert!(reason.contains(part), "{part} is missing: {reason}");
        }
        assert!(!reason.contains("Other(") && !reason.ends_with('.'), "{reason}");
    }
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_of_the_client_is_explained() {
    let authority = Authority::new("authority");
    let certificate = authority.sign("server", &["127.0.0.1"]);
    // In TLS 1.3, its alert comes after the client's handshake.
    let server = server(&certificate.certificate, &certificate.key, Some(&authority));
    let reason = failure(server, &authority.certificate()).await.expect("an alert");
    assert!(
        reason.starts_with("TLS to the server failed: it asks for a certificate of the client"),
        "{reason}"
    );
}

#[tokio::test]
async fn the_remedy_for_a_certificate_of_an_authority_works() {
    let certificate = Certificate::for_itself("127.0.0.1", &["127.0.0.1"]);
    let server = server(&certificate.certificate, &certificate.key, None);
    assert_eq!(failure(server, &certificate.certificate).await, None);
}
