//! The PostgreSQL that the program uses: an external one, or one that the program runs itself.

use std::future::pending;

use health_core::{
    Config, DatabaseStatus, Error, Limits,
    embedded::{Cluster, EmbeddedError, Options},
};

use crate::{args::database::DatabaseArgs, error::ProgramError};

/// The name of the database in a PostgreSQL that the program runs itself.
pub(crate) const EMBEDDED_DATABASE: &str = "health_db";

/// The name of this program in `pg_stat_activity`.
const APPLICATION: &str = "health-server";

/// The PostgreSQL that the program uses.
pub(crate) enum Postgres {
    /// A PostgreSQL that was started elsewhere, by its URL.
    External(String),
    /// A PostgreSQL that the program runs itself.
    Embedded(Cluster),
}

impl Postgres {
    /// Provides a PostgreSQL to `serve`. A second server on the same data directory is refused.
    ///
    /// `status` gets the outages of a PostgreSQL that the program runs itself.
    pub(crate) async fn for_serving(args: &DatabaseArgs, status: &DatabaseStatus) -> Result<Self, ProgramError> {
        match args.url()? {
            Some(url) => Ok(Self::External(url)),
            None => Ok(Self::Embedded(
                Cluster::start(options(args).status(status.clone())).await?,
            )),
        }
    }

    /// Provides a PostgreSQL to a command that runs once. It can share the data directory with a running server.
    pub(crate) async fn for_command(args: &DatabaseArgs) -> Result<Self, ProgramError> {
        match args.url()? {
            Some(url) => Ok(Self::External(url)),
            None => Ok(Self::Embedded(Cluster::attach(options(args)).await?)),
        }
    }

    pub(crate) fn config(&self, limits: Limits) -> Result<Config, Error> {
        let config = match self {
            Self::External(url) => Config::from_url(url),
            Self::Embedded(cluster) => Config::from_url(&cluster.url(EMBEDDED_DATABASE)),
        };
        Ok(config?.application(APPLICATION).limits(limits))
    }

    /// Resolves if an embedded PostgreSQL has ended, and starting it again cannot help.
    pub(crate) async fn ended(&self) -> EmbeddedError {
        match self {
            Self::External(_) => pending().await,
            Self::Embedded(cluster) => cluster.ended().await,
        }
    }

    /// Stops an embedded PostgreSQL.
    pub(crate) async fn stop(self) -> Result<(), EmbeddedError> {
        match self {
            Self::External(_) => Ok(()),
            Self::Embedded(cluster) => cluster.stop().await,
        }
    }
}

/// Returns the options of the PostgreSQL that the program runs itself.
pub(crate) fn options(args: &DatabaseArgs) -> Options {
    let options = Options::new();
    match &args.data_dir {
        Some(directory) => options.data_dir(directory),
        None => options,
    }
}
