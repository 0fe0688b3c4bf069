//! The proof of the product's promise: a sample that was acknowledged is never lost, whatever fails, and whenever.
//!
//! The tests run the program `health-server` in a process of its own, on a PostgreSQL that stores durably, and then
//! kill, stop, block or fill up what the program depends on. Nothing is simulated.
//!
//! - [`ingest_crashes`]: clients write while server and PostgreSQL are killed in turn. Each acknowledged sample is
//!   stored exactly once, and every count in every response is right. [`model`] computes what must be stored, from
//!   the documented rules alone; [`writer`] is such a client.
//! - [`feed_crashes`]: subscribers disconnect and resume while two servers and PostgreSQL are killed in turn. Every
//!   subscriber gets every committed sample, and none that was never committed.
//! - [`outages`]: a database that restarts, runs out of connections, or is locked. The server answers 503 and
//!   recovers without a restart.
//! - [`full_disk`]: a disk without space. The server answers 503, and stores again as soon as there is space.
//! - [`durability`]: a role whose commits do not wait for the disk. What the server reports as done is durable all the
//!   same.
//! - [`import_crashes`]: an import that is killed and repeated, or whose server is killed, stores its files once.
//! - [`large_queries`]: queries over many samples that have no summaries yet. They cost little memory.
//! - [`stalled`]: subscribers that do not read. They cost little memory, and learn exactly how much they have missed.
//!
//! [`server`] and [`database`] start and break the two processes, and [`client`] is an HTTP client that expects
//! failures.
//!
//! `HEALTH_TEST_ROUNDS=1000` runs the two tests with crashes for as many rounds.

#![cfg(test)]

mod client;
mod database;
mod durability;
mod feed_crashes;
mod full_disk;
mod import_crashes;
mod ingest_crashes;
mod large_queries;
mod model;
mod outages;
mod server;
mod stalled;
mod writer;
