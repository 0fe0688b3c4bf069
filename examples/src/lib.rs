//! What the examples share: people whose watches send plausible readings, what it takes to post them, and a server to measure.

pub mod child;
mod client;
mod connection;
mod crowd;
mod database;
mod day;
mod ending;
mod noise;
mod person;
mod simulation;

pub use crate::{
    client::{Client, ClientError, Posted, Server, UnreadableServer},
    connection::Connection,
    crowd::{Crowd, Interval, UnreadableInterval},
    database::Database,
    ending::asked_to_end,
    person::Person,
    simulation::{Simulation, Tally},
};
