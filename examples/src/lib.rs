//! What the examples share: simulated people, an HTTP client, a database to run on, and what the benchmarks share.

pub mod bench;
mod client;
mod connection;
mod database;
mod day;
mod noise;
mod person;
mod population;
pub mod server_process;
mod shutdown;
mod simulation;

pub use crate::{
    client::{Client, ClientError, IngestResult, InvalidServerUrl, ServerUrl},
    connection::Connection,
    database::Database,
    person::Person,
    population::{Interval, InvalidInterval, Population},
    shutdown::shutdown_signal,
    simulation::{Simulation, Totals},
};

/// The result of a `main` that prints its error and exits.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
