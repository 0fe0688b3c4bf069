//! The server as its clients see it: bytes over TCP, with a real PostgreSQL.

#![cfg(test)]

mod abuse;
mod access;
mod access_end;
mod alerts;
mod audit;
mod bounds;
mod client;
mod connections;
mod dashboards;
mod database;
mod doors;
mod erasing;
mod event_streams;
mod feed;
mod framing;
mod guarded;
mod http;
mod import;
mod ingest;
mod limits;
mod outages;
mod page;
mod panics;
mod pooler;
mod program;
mod proxy;
mod query;
mod request_ids;
mod retention;
mod secrets;
mod support;
mod tls;
