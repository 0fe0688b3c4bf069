//! What the examples share: people whose watches send plausible readings, what it takes to post them, and a server to measure.

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
    client::{Client, ClientError, Posted, Server, UnreadableServer},
    connection::Connection,
    database::Database,
    person::Person,
    population::{Interval, Population, UnreadableInterval},
    shutdown::shutdown_signal,
    simulation::{Simulation, Tally},
};
