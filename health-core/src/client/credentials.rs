//! What a user says about tokens and trust, and what may be sent where.

use std::path::PathBuf;

use super::{
    address::is_loopback,
    api_token::{ApiToken, TokenError},
    tls::{Tls, TrustError},
};

/// The token and the trusted authority that a user names.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// `--token`. An empty one is none, because a variable may be set to nothing.
    pub token: Option<ApiToken>,
    /// `--token-file`.
    pub token_file: Option<PathBuf>,
    /// `--ca`.
    pub ca: Option<PathBuf>,
    /// `--allow-plain-token`.
    pub allow_plain_token: bool,
}

/// What a connection to one host and port needs.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The token to send.
    pub token: Option<ApiToken>,
    /// The trusted authorities. `None` means plain text.
    pub tls: Option<Tls>,
}

/// Why no connection may be opened. Every message has a remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The authorities cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Anybody on the way could read the token.
    #[error(
        "The API token would travel to {0} in plain text. Use https:// for --server and tls:// for --feed, or --allow-plain-token if no other machine can listen there."
    )]
    PlainToken(String),
}

impl Credentials {
    /// Returns what a connection to `host:port` needs.
    ///
    /// # Errors
    /// [`CredentialsError`]. In particular, a token is sent in plain text only within this machine, unless the user
    /// allows it.
    pub fn access(&self, address: &str, is_tls: bool) -> Result<Access, CredentialsError> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) if !token.is_empty() => Some(token.clone()),
            (_, Some(path)) => Some(ApiToken::read(path)?),
            _ => None,
        };
        if let Some(token) = &token {
            token.secret()?;
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            if !is_tls && !self.allow_plain_token && !is_loopback(host) {
                return Err(CredentialsError::PlainToken(address.to_owned()));
            }
        }
        let tls = if is_tls {
            Some(Tls::new(self.ca.as_deref())?)
        } else {
            None
        };
        Ok(Access { token, tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leaves_this_machine_in_plain_text_only_if_the_user_allows_it() {
        let mut credentials = Credentials {
            token: Some("hlt_secret".into()),
            ..Credentials::default()
        };
        for address in ["localhost:8000", "127.0.0.1:8001", "[::1]:8000"] {
            assert!(credentials.access(address, false).unwrap().token.is_some());
        }
        let error = credentials.access("health.example:8000", false).unwrap_err();
        let text = format!("{error} {error:?} {credentials:?}");
        assert!(
            text.contains("health.example:8000") && !text.contains("hlt_secret"),
            "{text}"
        );
        credentials.allow_plain_token = true;
        assert!(
            credentials
                .access("health.example:8000", false)
                .unwrap()
                .token
                .is_some()
        );
        credentials.token = Some("".into());
        credentials.allow_plain_token = false;
        assert!(
            credentials
                .access("health.example:8000", false)
                .unwrap()
                .token
                .is_none()
        );
    }

    #[test]
    fn a_bad_file_of_an_authority_is_named() {
        let directory = test_support::test_directory();
        let path = directory.path().join("ca.pem");
        std::fs::write(&path, "no certificate").unwrap();
        for ca in [path, directory.path().join("missing.pem")] {
            let credentials = Credentials {
                ca: Some(ca),
                ..Credentials::default()
            };
            let error = credentials.access("localhost:8000", true).unwrap_err().to_string();
            assert!(error.contains("--ca") && error.contains(".pem"), "{error}");
        }
    }
}
