//! The server as its clients see it: bytes over TCP, with a real PostgreSQL.

#![cfg(test)]

mod client;
mod faults;
mod feed;
mod http;
mod ingest;
mod limits;
mod proxy;
mod query;
mod support;
