//! What tokens and TLS cost: the same work with and without them, in turn.

use std::sync::Arc;

use examples::{
    Connection, Result,
    bench::{Row, median},
    server_process::ServerProcess,
};
use health_core::{Config, access::TokenAdmin, token::NewToken};
use test_support::Authority;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::{
    Bench,
    dataset::{Dataset, HeartRates},
    load,
};

/// The name of the measurement of tokens.
pub(crate) const TOKEN: &str = "single samples with a token";

/// The name of the measurement of TLS.
pub(crate) const TLS: &str = "bulk over TLS, 1 connection";

/// What was measured of one of two servers that are compared.
#[derive(Default)]
struct Side {
    calls_per_second: Vec<f64>,
    bulk_seconds: Vec<f64>,
}

impl Bench<'_> {
    /// Posts one sample per request over 64 connections, to a server without tokens and to one with them.
    pub(crate) async fn single_samples_with_token(&self) -> Result<Vec<Row>> {
        const CLIENTS: usize = 64;
        let (mut without, mut with) = (Side::default(), Side::default());
        let body = Dataset::new(1_000, self.args.rows)
            .bodies(1, HeartRates::Original)
            .concat();
        for round in self.rounds(TOKEN) {
            let mut sides = [(false, &mut without), (true, &mut with)];
            // The second server of a round finds warmer caches.
            sides.rotate_left(round % 2);
            for (is_guarded, side) in sides {
                let database = self.baseline.fresh_database().await?;
                let token = if is_guarded {
                    Some(create_token(&database).await?)
                } else {
                    None
                };
                let mut server = ServerProcess::start(&database).await?;
                let calls = load::post_single_samples(server.http(), token.as_deref(), CLIENTS, self.time()).await?;
                side.calls_per_second.push(calls.per_second);
                let mut connection = Connection::open(server.http()).await?;
                if let Some(token) = &token {
                    connection = connection.with_token(token);
                }
                side.bulk_seconds.push(load::post_one(connection, &body).await?);
                server.stop().await?;
            }
        }
        let (bulk_without, bulk_with) = (median(without.bulk_seconds), median(with.bulk_seconds));
        let (without, with) = (median(without.calls_per_second), median(with.calls_per_second));
        let rates = format!("{:.1} to {:.1} k/s", with / 1e3, without / 1e3);
        Ok(vec![
            Row::new(format!("{TOKEN}, to without"), rates).at_least(with / without, 0.97, ""),
            Row::new("    bulk with a token, to without", self.row_rate(bulk_with)).at_least(
                bulk_without / bulk_with,
                0.97,
                "",
            ),
        ])
    }

    /// Posts one long body, in plain text and over TLS.
    pub(crate) async fn bulk_over_tls(&self) -> Result<Row> {
        let authority = Authority::new("the authority of the benchmark");
        let certificate = authority.sign("health", &["localhost"]);
        let directory = std::env::temp_dir().join(format!("health-tls-bench-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let (certificate_file, key_file) = (directory.join("certificate.pem"), directory.join("key.pem"));
        std::fs::write(&certificate_file, &certificate.certificate)?;
        std::fs::write(&key_file, &certificate.key)?;
        let paths = [certificate_file, key_file].map(|path| path.display().to_string());
        let settings = [
            ("HEALTH_TLS_CERT", paths[0].as_str()),
            ("HEALTH_TLS_KEY", paths[1].as_str()),
        ];
        let config = trusting(&authority)?;
        let body = Dataset::new(1_000, self.args.rows)
            .bodies(1, HeartRates::Original)
            .concat();
        let (mut plain, mut secured) = (Vec::new(), Vec::new());
        for round in self.rounds(TLS) {
            let mut sides = [(false, &mut plain), (true, &mut secured)];
            sides.rotate_left(round % 2);
            for (is_secured, seconds) in sides {
                let database = self.baseline.fresh_database().await?;
                let settings: &[_] = if is_secured { &settings } else { &[] };
                let mut server = ServerProcess::start_with(&database, settings).await?;
                let connection = if is_secured {
                    Connection::open_tls(server.http(), Arc::clone(&config)).await?
                } else {
                    Connection::open(server.http()).await?
                };
                seconds.push(load::post_one(connection, &body).await?);
                server.stop().await?;
            }
        }
        std::fs::remove_dir_all(&directory)?;
        let (plain, secured) = (median(plain), median(secured));
        Ok(Row::new(format!("{TLS}, to plain"), self.row_rate(secured)).at_least(plain / secured, 0.8, ""))
    }
}

async fn create_token(database: &str) -> Result<String> {
    let mut admin = TokenAdmin::connect(&Config::from_url(database)?).await?;
    let token = NewToken {
        name: "bench".parse()?,
        scopes: "ingest".parse()?,
        users: None,
        valid_for: None,
    };
    Ok(admin.create(&token).await?.as_str().to_owned())
}

fn trusting(authority: &Authority) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate().as_bytes())?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
