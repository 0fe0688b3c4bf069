//! `POST /ingest`: records and bodies.

mod bodies;
mod records;
mod support;
