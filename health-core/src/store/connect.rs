//! Opening a connection: the socket of this machine, TLS, and plain text if `sslmode` permits it.

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
};

use tokio::task::spawn_blocking;
use tokio_postgres::{Client, Socket, config::SslMode as DriverSslMode, error::SqlState, tls::MakeTlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    config::{
        Config, DEFAULT_PORT, socket,
        tls::{SslMode, Tls},
        url::{fault::UrlFault, settings::kinds_of_hosts},
    },
    store::connect_refusal::is_tls_failure,
};

/// The driver's side of a connection. It moves the bytes, so a task must poll it until the connection ends.
pub(crate) type Driver = tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// Where PostgreSQL puts its socket: the directory of Debian and Red Hat, and that of PostgreSQL's own builds.
static SOCKET_DIRECTORIES: LazyLock<[PathBuf; 2]> = LazyLock::new(|| ["/var/run/postgresql".into(), "/tmp".into()]);

/// The driver asks for a connector also if it does not use TLS.
static NO_TLS: LazyLock<Connector> = LazyLock::new(|| Connector(Tls::OFF.client_config().map(MakeRustlsConnect::new)));

/// Gives TLS to the driver, or the reason why there is none.
#[derive(Clone)]
struct Connector(Result<MakeRustlsConnect, UrlFault>);

impl MakeTlsConnect<Socket> for Connector {
    type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Self::TlsConnect, Self::Error> {
        let connector = self.0.as_mut().map_err(|fault| fault.clone())?;
        Ok(MakeTlsConnect::<Socket>::make_tls_connect(connector, domain)?)
    }
}

/// Opens a connection. Every connection to the database begins here, so that all of them use the same TLS settings.
pub(crate) async fn connect(config: &Config) -> Result<(Client, Driver), tokio_postgres::Error> {
    // The state of a handshake is large, and must not be part of every future that may connect.
    Box::pin(open(config)).await
}

async fn open(config: &Config) -> Result<(Client, Driver), tokio_postgres::Error> {
    let mut postgres = config.postgres.clone();
    if postgres.get_hosts().is_empty() {
        let port = postgres.get_ports().first().copied().unwrap_or(DEFAULT_PORT);
        postgres.host_path(socket_directory(&*SOCKET_DIRECTORIES, port));
    }
    // Does not read files for a connection that does not use them.
    let (_, is_in_network) = kinds_of_hosts(&postgres);
    let tls = config.tls.clone();
    if tls.mode == SslMode::Disable || !is_in_network {
        postgres.ssl_mode(DriverSslMode::Disable);
        return postgres.connect(NO_TLS.clone()).await;
    }
    let is_optional = tls.mode == SslMode::Prefer;
    let client_config = spawn_blocking(move || tls.client_config()).await;
    let client_config = client_config.unwrap_or_else(|error| Err(UrlFault::Tls(error.to_string())));
    let connector = || Connector(client_config.clone().map(MakeRustlsConnect::new));
    if !is_optional {
        postgres.ssl_mode(DriverSslMode::Require);
        return postgres.connect(connector()).await;
    }
    postgres.ssl_mode(DriverSslMode::Prefer);
    match postgres.connect(connector()).await {
        Err(error) if is_tls_failure(&error) => {
            postgres.ssl_mode(DriverSslMode::Disable);
            match postgres.connect(connector()).await {
                // The server accepts neither way. The reason against TLS is the one to remove.
                Err(second) if second.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => Err(error),
                connected => connected,
            }
        }
        connected => connected,
    }
}

/// Returns the first directory that has PostgreSQL's socket. If none has it yet, the first directory.
fn socket_directory(candidates: &[PathBuf], port: u16) -> &Path {
    let first = candidates.iter().find(|directory| socket(directory, port).exists());
    first.or(candidates.first()).map_or(Path::new("/tmp"), PathBuf::as_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_socket_is_in_the_first_directory_that_has_one() {
        let directory = test_support::test_directory();
        let candidates = ["one", "two"].map(|name| directory.path().join(name));
        for candidate in &candidates {
            std::fs::create_dir(candidate).unwrap();
        }
        assert_eq!(socket_directory(&candidates, 5432), candidates[0]);
        std::fs::write(candidates[1].join(".s.PGSQL.5433"), "").unwrap();
        assert_eq!(socket_directory(&candidates, 5433), candidates[1]);
        assert_eq!(socket_directory(&candidates, 5432), candidates[0]);
    }
}
