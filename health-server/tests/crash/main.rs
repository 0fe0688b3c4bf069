//! What was acknowledged is stored, once, and counted right, and told to every reader, whatever is killed and whenever.

#![cfg(test)]

mod client;
mod database;
mod disk;
mod faults;
mod feed;
mod model;
mod rounds;
mod server;
mod writer;
