//! A supervised PostgreSQL of our own, run from the server programs that are installed on the machine.
//!
//! With no database given, this is the database: a real PostgreSQL, durable, in a data directory that belongs to it, reached
//! by a Unix socket alone. It ends when its owner ends, however that happens, and a crash at any moment, also in the middle of making the
//! cluster, leaves nothing to repair by hand.

mod account;
mod cluster;
mod directory;
mod error;
mod find;
mod options;
mod site;
mod socket;
mod watchdog;

pub use crate::embedded::{
    cluster::Cluster,
    error::{EmbeddedError, LogTail},
    options::{Options, default_data_dir},
};
