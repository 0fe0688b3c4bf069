//! Certificates of X.509 version 1, as the instructions in PostgreSQL's manual make them.

use std::sync::Arc;

use rustls::{
    ClientConnection, Error, ServerConfig, ServerConnection, SupportedProtocolVersion,
    crypto::ring::{default_provider, sign::any_supported_type},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use test_support::{Authority, Certificate, TestCluster};

use super::{
    Expected::{Plain, Refused, Tls},
    Files, TRUST, check, offer,
};
use crate::config::Config;

/// Adds the certificate of an intermediate authority, as a server sends it.
fn below(intermediate: &Authority, mut certificate: Certificate) -> Certificate {
    certificate.certificate = format!("{}\n{}", certificate.certificate, intermediate.certificate());
    certificate
}

#[tokio::test]
async fn a_servers_certificate_of_version_1_is_checked_as_libpq_does() {
    let files = Files::new();
    let cluster = TestCluster::start().await;
    let Files { authority, other, .. } = &files;
    let unknown = Refused("an authority that is not among the root certificates");
    let namesake = Authority::new("the authority");
    let intermediate = authority.intermediate("below");
    let lowest = intermediate.intermediate("lowest");
    let impostor = authority.impostor("impostor");
    let mut through_two = below(&lowest, lowest.sign_version_one("localhost"));
    through_two = below(&intermediate, through_two);
    // The server's certificate, and what follows from `verify-ca` and `verify-full`.
    for (case, certificate, verify_ca, verify_full) in [
        ("right", authority.sign_version_one("localhost"), Tls, Tls),
        (
            "wrong name",
            authority.sign_version_one("db.example"),
            Tls,
            Refused("is for db.example, not for localhost"),
        ),
        ("other authority", other.sign_version_one("localhost"), unknown, unknown),
        (
            "another key of an authority of this name",
            namesake.sign_version_one("localhost"),
            unknown,
            unknown,
        ),
        (
            "intermediate",
            below(&intermediate, intermediate.sign_version_one("localhost")),
            Tls,
            Tls,
        ),
        ("two intermediates", through_two, Tls, Tls),
        (
            "missing intermediate",
            intermediate.sign_version_one("localhost"),
            unknown,
            unknown,
        ),
        (
            "signed by no authority",
            below(&impostor, impostor.sign_version_one("localhost")),
            unknown,
            unknown,
        ),
    ] {
        offer(&cluster, &certificate, &authority.certificate(), TRUST).await;
        for (query, expected) in [
            ("sslmode=require", Tls),
            ("sslmode=verify-ca&sslrootcert=FILES/root", verify_ca),
            ("sslmode=verify-full&sslrootcert=FILES/root", verify_full),
            (
                "sslmode=prefer&sslrootcert=FILES/root",
                if matches!(verify_ca, Tls) { Tls } else { Plain },
            ),
        ] {
            check(
                &files.config(&cluster, "postgres", query),
                expected,
                &format!("{case}: {query}"),
            )
            .await;
        }
    }
}

#[tokio::test]
async fn a_clients_certificate_of_version_1_is_sent() {
    let files = Files::new();
    let cluster = TestCluster::start().await;
    let client = files.authority.sign_version_one("postgres");
    files.write_certificate("client", &client);
    files.write("foreign.key", &files.authority.sign_version_one("postgres").key);
    let server = files.authority.sign_version_one("localhost");
    let by_certificate = "hostssl all all 127.0.0.1/32 cert";
    offer(&cluster, &server, &files.authority.certificate(), by_certificate).await;
    let query = "sslmode=verify-full&sslrootcert=FILES/root&sslcert=FILES/client.crt&sslkey=FILES/client.key";
    check(&files.config(&cluster, "postgres", query), Tls, query).await;

    let foreign = query.replace("client.key", "foreign.key");
    let foreign = foreign.replace("FILES", &files.directory.path().display().to_string());
    let error = Config::from_url(&format!("postgres://postgres@localhost/postgres?{foreign}")).unwrap_err();
    let message = error.chain();
    let reason = "cannot be used with the certificate: it belongs to another certificate";
    assert!(message.contains(reason), "{message}");
}

/// Shakes hands in memory with a server that has a certificate and a key.
fn handshake(
    config: &Config,
    certificate: &Certificate,
    key: &str,
    version: &'static SupportedProtocolVersion,
) -> Result<(), Error> {
    let key = any_supported_type(&PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())?;
    let chain = CertificateDer::pem_slice_iter(certificate.certificate.as_bytes());
    let identity = CertifiedKey::new(chain.collect::<Result<_, _>>().unwrap(), key);
    let server_config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    let mut server = ServerConnection::new(Arc::new(server_config))?;
    let client_config = config.tls.client_config().unwrap();
    let mut client = ClientConnection::new(Arc::new(client_config), "localhost".try_into().unwrap())?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn a_certificate_of_version_1_without_its_key_is_refused_by_each_version_of_tls() {
    let files = Files::new();
    let root = files.directory.path().join("root");
    let url = format!(
        "postgres://postgres@localhost/postgres?sslmode=verify-full&sslrootcert={}",
        root.display()
    );
    let config = Config::from_url(&url).unwrap();
    let certificate = files.authority.sign_version_one("localhost");
    let stolen = files.authority.sign_version_one("localhost").key;
    for version in [&TLS12, &TLS13] {
        handshake(&config, &certificate, &certificate.key, version).unwrap();
        let error = handshake(&config, &certificate, &stolen, version).unwrap_err();
        assert!(
            matches!(error, Error::InvalidCertificate(_)),
            "{:?}: {error}",
            version.version
        );
    }
}
