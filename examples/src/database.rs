//! The database of an example: one that was named, or a PostgreSQL of our own.

use std::{
    env,
    future::pending,
    path::{Path, PathBuf},
};

use health_core::embedded::{Cluster, EmbeddedError, Options, default_data_dir};

/// The database's name in a PostgreSQL of our own.
const OWN_NAME: &str = "health_db";

/// A database that can be used until [`Database::stop`].
#[derive(Debug)]
pub struct Database {
    url: String,
    own: Option<(Cluster, PathBuf)>,
}

impl Database {
    /// The one that `DATABASE_URL` names, else the one in the default data directory, as `health-server` does it.
    ///
    /// # Errors
    /// See [`Database::own`].
    pub async fn find() -> Result<Self, EmbeddedError> {
        match env::var("DATABASE_URL") {
            Ok(url) if !url.is_empty() => Ok(Self::named(url)),
            _ => Self::own(None).await,
        }
    }

    /// One that is there already.
    pub fn named(url: String) -> Self {
        Self { url, own: None }
    }

    /// A PostgreSQL of our own, with its data in `data_dir` or the default data directory.
    ///
    /// # Errors
    /// [`EmbeddedError`], worded for whoever started the program.
    pub async fn own(data_dir: Option<PathBuf>) -> Result<Self, EmbeddedError> {
        let directory = data_dir.map_or_else(default_data_dir, Ok)?;
        let cluster = Cluster::start(Options::new().data_dir(&directory)).await?;
        Ok(Self {
            url: cluster.url(OWN_NAME),
            own: Some((cluster, directory)),
        })
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its data lies, if it is our own.
    pub fn data_dir(&self) -> Option<&Path> {
        self.own.as_ref().map(|(_, directory)| directory.as_path())
    }

    /// Resolves when a PostgreSQL of our own ends although nobody asked it to.
    pub async fn ended(&self) -> EmbeddedError {
        match &self.own {
            Some((cluster, _)) => cluster.ended().await,
            None => pending().await,
        }
    }

    /// Ends a PostgreSQL of our own; leaves any other alone.
    ///
    /// # Errors
    /// [`EmbeddedError`] where it does not end.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        match self.own {
            Some((cluster, _)) => cluster.stop().await,
            None => Ok(()),
        }
    }
}
