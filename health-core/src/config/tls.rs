//! The TLS settings of a database URL, with the meaning that they have for libpq.
//!
//! Files are read when the configuration is made, so that a fault ends the start at once, and again for each
//! connection, so that renewed certificates are used.

pub(crate) mod certificate_fault;
mod client;
mod files;
mod names;
mod verifier;
mod version_one;

use std::path::{Path, PathBuf};

use rustls::ClientConfig;
use tokio_postgres::config::SslNegotiation;

use crate::config::{
    tls::client::client_config,
    url::{
        fault::{FileFault, UrlFault},
        parameters::Parameters,
        settings::{choice, kinds_of_hosts},
    },
};

/// How a connection in the network is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SslMode {
    /// Plain text.
    Disable,
    /// TLS if the server and its certificate allow it, otherwise plain text.
    Prefer,
    /// TLS. The certificate is checked only if there is a file of root certificates.
    Require,
    /// TLS with a server certificate of a trusted authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate must name the host.
    VerifyFull,
}

/// The TLS settings of a database.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) mode: SslMode,
    /// Whether TLS begins without asking the server first (`sslnegotiation=direct`).
    pub(crate) is_direct: bool,
    roots: TrustedRoots,
    identity: Option<(PathBuf, PathBuf)>,
}

/// Where the certificates of trusted authorities are.
#[derive(Debug, Clone)]
enum TrustedRoots {
    /// No certificate is checked.
    None,
    File(PathBuf),
    System,
}

impl SslMode {
    const ALL: [Self; 5] = [
        Self::Disable,
        Self::Prefer,
        Self::Require,
        Self::VerifyCa,
        Self::VerifyFull,
    ];

    /// Returns the name in a URL.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl Tls {
    /// The settings of a connection that uses no TLS.
    pub(crate) const OFF: Self = Self {
        mode: SslMode::Disable,
        is_direct: false,
        roots: TrustedRoots::None,
        identity: None,
    };

    /// Returns the settings that the parameters ask for. `home` has libpq's default files.
    pub(crate) fn new(
        parameters: &Parameters,
        driver: &tokio_postgres::Config,
        home: Option<&Path>,
    ) -> Result<Self, UrlFault> {
        let is_system = parameters.bytes("sslrootcert") == Some(b"system");
        let default = if is_system {
            SslMode::VerifyFull
        } else {
            SslMode::Prefer
        };
        let mode = mode(parameters)?.unwrap_or(default);
        if is_system && mode != SslMode::VerifyFull {
            return Err(UrlFault::WeakWithSystemRoots(mode.name()));
        }
        let is_direct = driver.get_ssl_negotiation() == SslNegotiation::Direct;
        if is_direct && mode < SslMode::Require {
            return Err(UrlFault::WeakWithDirect(mode.name()));
        }
        if kinds_of_hosts(driver) == (true, true) && mode > SslMode::Prefer {
            return Err(UrlFault::MixedHosts(mode.name()));
        }
        let tls = Self {
            mode,
            is_direct,
            roots: TrustedRoots::new(parameters, mode, home)?,
            identity: identity(parameters, home)?,
        };
        // A socket of this machine never uses TLS.
        if kinds_of_hosts(driver).1 && mode != SslMode::Disable {
            tls.client_config()?;
        }
        Ok(tls)
    }

    /// Reads the files, and returns the configuration for a connection.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, UrlFault> {
        client_config(self)
    }
}

impl TrustedRoots {
    fn new(parameters: &Parameters, mode: SslMode, home: Option<&Path>) -> Result<Self, UrlFault> {
        if mode == SslMode::Disable {
            return Ok(Self::None);
        }
        match parameters.bytes("sslrootcert") {
            Some(b"system") => Ok(Self::System),
            Some(path) => Ok(Self::File(path_of(path))),
            None => match default_file(home, "root.crt") {
                Ok(path) => Ok(Self::File(path)),
                Err(_) if mode < SslMode::VerifyCa => Ok(Self::None),
                Err(path) => Err(UrlFault::NoRootCertificate {
                    mode: mode.name(),
                    path,
                }),
            },
        }
    }
}

/// Returns the files of the client's certificate and key, if there are any.
fn identity(parameters: &Parameters, home: Option<&Path>) -> Result<Option<(PathBuf, PathBuf)>, UrlFault> {
    let key = parameters.bytes("sslkey").map(path_of);
    let default_key = || default_file(home, "postgresql.key").unwrap_or_else(|path| path);
    match parameters.bytes("sslcert").map(path_of) {
        Some(certificate) => Ok(Some((certificate, key.unwrap_or_else(default_key)))),
        None => match default_file(home, "postgresql.crt") {
            Ok(certificate) => Ok(Some((certificate, key.unwrap_or_else(default_key)))),
            Err(path) if key.is_some() => Err(UrlFault::File {
                parameter: "sslcert",
                fault: FileFault::Unreadable {
                    path,
                    reason: "sslkey needs a certificate, and the URL names none".to_owned(),
                },
            }),
            Err(_) => Ok(None),
        },
    }
}

fn mode(parameters: &Parameters) -> Result<Option<SslMode>, UrlFault> {
    // libpq reads JDBC's `ssl=true` in a URL as `sslmode=require`.
    let ssl = choice(
        parameters,
        "ssl",
        "sslmode=… in place of it",
        &[("true", SslMode::Require)],
    )?;
    let expected = "disable, prefer, require, verify-ca or verify-full";
    let mode = choice(
        parameters,
        "sslmode",
        expected,
        &SslMode::ALL.map(|mode| (mode.name(), mode)),
    )?;
    Ok(mode.or(ssl))
}

/// Returns the path of a file in `~/.postgresql`, as an error if it does not exist.
fn default_file(home: Option<&Path>, name: &str) -> Result<PathBuf, PathBuf> {
    let path = home.unwrap_or(Path::new("~")).join(".postgresql").join(name);
    if path.exists() { Ok(path) } else { Err(path) }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}
