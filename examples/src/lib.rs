//! What the examples share: simulated people, an HTTP client, a database to run on, and what the benchmarks share.

pub mod bench;
mod client;
mod connection;
mod connector;
mod credential_args;
mod database;
mod day;
mod noise;
mod person;
mod population;
mod report;
pub mod server_process;
mod shutdown;
mod simulation;

pub use crate::{
    client::{Client, ClientError, IngestResult, InvalidServerUrl, ServerUrl},
    connection::Connection,
    credential_args::CredentialArgs,
    database::Database,
    person::Person,
    population::{Interval, InvalidInterval, Population},
    report::exit_code,
    shutdown::{ShutdownSignals, shutdown_signal},
    simulation::{Incomplete, Simulation, Totals},
};

/// The result of a program that prints its error and exits.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
