//! The database of an example: an existing one, or a PostgreSQL that the example runs itself.

use std::{
    env,
    future::pending,
    path::{Path, PathBuf},
};

use health_core::embedded::{Cluster, EmbeddedError, Options, default_data_dir};

/// The name of the database in an embedded PostgreSQL. `health-server` uses the same.
const EMBEDDED_DATABASE: &str = "health_db";

/// A database that can be used until [`Database::stop`].
#[derive(Debug)]
pub struct Database {
    url: String,
    embedded: Option<Embedded>,
}

#[derive(Debug)]
struct Embedded {
    cluster: Cluster,
    data_dir: PathBuf,
}

impl Database {
    /// Returns the database that `DATABASE_URL` names, or else starts a PostgreSQL in the default data directory.
    ///
    /// `health-server` chooses its database in the same way.
    ///
    /// # Errors
    /// An error if the variable is empty, or as of [`Database::embedded`].
    pub async fn from_environment() -> crate::Result<Self> {
        match env::var("DATABASE_URL") {
            // A script may have forgotten to set it. Another database must not be filled in silence.
            Ok(url) if url.is_empty() => {
                Err("the environment variable DATABASE_URL is empty. Unset it, or write a URL to it".into())
            }
            Ok(url) => Ok(Self::existing(url)),
            Err(_) => Ok(Self::embedded(None).await?),
        }
    }

    /// Returns a database that something else runs.
    pub fn existing(url: String) -> Self {
        Self { url, embedded: None }
    }

    /// Starts a PostgreSQL with its data in `data_dir`, or else in the default data directory.
    ///
    /// # Errors
    /// [`EmbeddedError`], whose message says what the user can do.
    pub async fn embedded(data_dir: Option<PathBuf>) -> Result<Self, EmbeddedError> {
        let data_dir = data_dir.map_or_else(default_data_dir, Ok)?;
        let cluster = Cluster::start(Options::new().data_dir(&data_dir)).await?;
        Ok(Self {
            url: cluster.url(EMBEDDED_DATABASE),
            embedded: Some(Embedded { cluster, data_dir }),
        })
    }

    /// Returns the database's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the data directory of an embedded PostgreSQL.
    pub fn data_dir(&self) -> Option<&Path> {
        self.embedded.as_ref().map(|embedded| embedded.data_dir.as_path())
    }

    /// Resolves when an embedded PostgreSQL ends unexpectedly.
    pub async fn failed(&self) -> EmbeddedError {
        match &self.embedded {
            Some(embedded) => embedded.cluster.ended().await,
            None => pending().await,
        }
    }

    /// Stops an embedded PostgreSQL. Leaves an existing database alone.
    ///
    /// # Errors
    /// [`EmbeddedError`] if PostgreSQL does not stop.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        match self.embedded {
            Some(embedded) => embedded.cluster.stop().await,
            None => Ok(()),
        }
    }
}
