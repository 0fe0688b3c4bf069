//! A PostgreSQL server that this process starts, supervises and stops.
//!
//! It runs the server programs that are installed on the machine. Its cluster lies in a data directory of its own, is
//! durable, and listens on a Unix socket only. It ends when the process that started it ends, even if that is killed.
//! After a crash at any moment, also while the cluster is being created, the next start needs no repair.
//!
//! ```no_run
//! use health_core::{
//!     Config, Health,
//!     embedded::{Cluster, Options},
//! };
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Cluster::start(Options::new().data_dir("/srv/health")).await?;
//! let health = Health::open(Config::from_url(&cluster.url("postgres"))?).await?;
//! // …
//! health.close().await?;
//! cluster.stop().await?;
//! # Ok(())
//! # }
//! ```

mod base_backup;
mod cluster;
mod directory;
mod error;
mod find;
mod instance;
mod log_tail;
mod options;
mod os_user;
mod program_environment;
mod ready;
mod socket;
mod supervisor;
mod watchdog;

pub(crate) use crate::embedded::base_backup::{copy_running, put_back};

pub use crate::embedded::{
    cluster::Cluster,
    error::EmbeddedError,
    log_tail::LogTail,
    options::{Options, default_data_dir},
    os_user::UNPRIVILEGED_NAMES,
};
