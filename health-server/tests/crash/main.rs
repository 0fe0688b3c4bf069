//! What was acknowledged is stored, once, and counted right, whatever is killed and whenever.

#![cfg(test)]

mod client;
mod database;
mod disk;
mod faults;
mod model;
mod rounds;
mod server;
mod writer;
