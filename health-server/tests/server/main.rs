//! The server as its clients see it: bytes over TCP, with a real PostgreSQL.

#![cfg(test)]

mod access;
mod bounds;
mod client;
mod connections;
mod database;
mod feed;
mod framing;
mod http;
mod ingest;
mod limits;
mod outages;
mod pooler;
mod proxy;
mod query;
mod support;
mod tls;
