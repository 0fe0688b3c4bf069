//! What the tests of all crates share: databases, processes and temporary directories.
//!
//! * [`TestDatabase`]: an empty or migrated database for one test.
//! * [`TestCluster`]: a PostgreSQL of its own for one test, with settings, `pg_hba.conf` and TLS.
//! * [`Authority`]: certificates for it.
//! * [`TestProcess`]: a program that is stopped with the test, and the addresses that it prints.
//! * [`ReservedPort`]: a port for a server that ends and starts again.
//! * [`FitFile`]: files as watches write them.
//! * [`test_directory`]: a temporary directory that is removed with the test.
//!
//! The first test that asks for a database starts one PostgreSQL cluster for the whole test process. The cluster
//! never waits for the disk. It ends, and its files are removed, when the test process ends or is killed. If the
//! variable [`CITUS`] names a cluster, its coordinator takes the place of this PostgreSQL.
//!
//! ```no_run
//! # async fn example() {
//! let database = test_support::TestDatabase::new().await;
//! println!("{}", database.url());
//! # }
//! ```

mod admin;
mod certificates;
mod cluster;
mod database;
mod directory;
mod fit;
mod nodes;
mod port;
mod process;
mod template;

pub use crate::{
    certificates::{Authority, Certificate},
    cluster::TestCluster,
    database::{TestDatabase, open_with_retries, patient_limits},
    directory::test_directory,
    fit::{FitFile, FitValue},
    nodes::{CITUS, commit_limit, count_on_all_nodes, earlier, is_on_citus},
    port::ReservedPort,
    process::{Addresses, TestProcess},
};
pub use rustix::process::Signal;
pub use tempfile::TempDir;
