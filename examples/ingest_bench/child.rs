//! The server under measurement.

pub(crate) use examples::server_process::{ServerProcess as Server, serve};
