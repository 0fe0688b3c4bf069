//! The page in a real browser: Chromium without a window, driven over its `DevTools` protocol, and a server with a real
//! PostgreSQL.
//!
//! The tests need the program `chromium`, and print that they were skipped without it.

#![cfg(test)]

mod chromium;
mod erased;
mod keyboard;
mod live;
mod parts;
mod safety;
mod server;
mod states;
mod tab;
mod token;
mod user;
