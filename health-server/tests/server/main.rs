//! The server from outside: bytes over TCP, against a real PostgreSQL.

#![cfg(test)]

mod client;
mod faults;
mod feed;
mod http;
mod ingest;
mod limits;
mod line;
mod query;
mod support;
