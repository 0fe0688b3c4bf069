//! Which database the program works with: one that was named, or one of our own.

use std::future::pending;

use health_core::{
    Config, Error,
    embedded::{Cluster, EmbeddedError, Options},
};

use crate::{args::Database, error::ProgramError, limits::Limits};

/// The database's name in a PostgreSQL of our own.
const OWN_NAME: &str = "health_db";

/// A database, and the PostgreSQL that runs for it alone.
pub(crate) struct Provided {
    url: String,
    cluster: Option<Cluster>,
}

impl Provided {
    /// For as long as the server runs: a second server on the same data directory is refused.
    pub(crate) async fn for_serving(database: &Database) -> Result<Self, ProgramError> {
        match named(database) {
            Some(url) => Ok(Self::named(url)),
            None => Ok(Self::own(Cluster::start(options(database)).await?)),
        }
    }

    /// For one command: beside a server that runs on the same data directory, too.
    pub(crate) async fn for_a_moment(database: &Database) -> Result<Self, ProgramError> {
        match named(database) {
            Some(url) => Ok(Self::named(url)),
            None => Ok(Self::own(Cluster::attach(options(database)).await?)),
        }
    }

    pub(crate) fn config(&self, limits: &Limits) -> Result<Config, Error> {
        Ok(Config::from_url(&self.url)?.limits(limits.core()))
    }

    /// Resolves when a PostgreSQL of our own ends although nobody asked it to.
    pub(crate) async fn ended(&self) -> EmbeddedError {
        match &self.cluster {
            Some(cluster) => cluster.ended().await,
            None => pending().await,
        }
    }

    pub(crate) async fn stop(self) -> Result<(), EmbeddedError> {
        match self.cluster {
            Some(cluster) => cluster.stop().await,
            None => Ok(()),
        }
    }

    fn named(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            cluster: None,
        }
    }

    fn own(cluster: Cluster) -> Self {
        Self {
            url: cluster.url(OWN_NAME),
            cluster: Some(cluster),
        }
    }
}

/// The URL, if there is one; an empty variable names nothing.
fn named(database: &Database) -> Option<&str> {
    database.database_url.as_deref().filter(|url| !url.is_empty())
}

fn options(database: &Database) -> Options {
    let options = Options::new();
    match &database.data_dir {
        Some(directory) => options.data_dir(directory),
        None => options,
    }
}
