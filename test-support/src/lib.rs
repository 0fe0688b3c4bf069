//! A throw-away PostgreSQL cluster a test process, one database a test.
//!
//! The cluster is started by the first test that wants a database, without syncing anything to the disk, and is gone with its
//! files when the process ends, also when that is killed.
//!
//! ```no_run
//! # async fn example() {
//! let database = test_support::TestDatabase::new().await;
//! println!("{}", database.url());
//! # }
//! ```

mod admin;
mod database;

pub use crate::database::TestDatabase;
