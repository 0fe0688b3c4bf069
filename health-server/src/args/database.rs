//! The options that choose the database.

use std::path::PathBuf;

use crate::secret_file::{SecretFileError, read_secret};

/// Options that choose the database.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DatabaseArgs {
    /// PostgreSQL to use, such as `postgres://user:password@host/health_db`; without it, the server runs its own.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, value_parser = parse_database_url)]
    pub(crate) database_url: Option<String>,
    /// File with the database URL, which only its owner can read: a secret of Docker, Kubernetes or systemd.
    #[arg(long, env = "DATABASE_URL_FILE", value_name = "FILE")]
    pub(crate) database_url_file: Option<PathBuf>,
    /// Data directory of the server's own PostgreSQL.
    #[arg(long, env = "HEALTH_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

impl DatabaseArgs {
    /// Returns whether the database is another one than the server's own PostgreSQL.
    pub(crate) fn is_external(&self) -> bool {
        self.database_url.is_some() || self.database_url_file.is_some()
    }

    /// Returns the URL of the database. Without one, the server runs its own PostgreSQL.
    ///
    /// # Errors
    /// [`SecretFileError`] if the URL is in a file that cannot be used.
    pub(crate) fn url(&self) -> Result<Option<String>, SecretFileError> {
        match (&self.database_url, &self.database_url_file) {
            (Some(url), _) => Ok(Some(url.clone())),
            (None, Some(file)) => read_secret(file, "--database-url-file").map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// Refuses an empty URL. It comes from a script whose variable is not set, and must not fill another database in
/// silence.
fn parse_database_url(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() {
        return Err(
            "write a URL that is not empty, such as postgres://user:password@host/health_db. Without the option and \
             DATABASE_URL, the server runs its own PostgreSQL",
        );
    }
    Ok(text.to_owned())
}
