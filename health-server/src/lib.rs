//! HTTP ingest and query, and a live TCP line feed, around `health-core`.
//!
//! The binary `health-server` is a shell around [`run`]: tests and other programs call the same entry.
//!
//! ```no_run
//! use health_core::{Config, Health};
//! use health_server::{Limits, Listeners, run};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let limits = Limits::default();
//! let config = Config::from_url("postgres://localhost/health_db")?.limits(limits.core());
//! let health = Health::open(config).await?;
//! let listeners = Listeners::bind("127.0.0.1:0", "127.0.0.1:0").await?;
//! println!("{listeners}");
//! run(listeners, health, limits, async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
//! # Ok(())
//! # }
//! ```

mod accept;
mod app;
mod args;
mod database;
mod error;
mod feed;
mod http;
mod limits;
mod metrics;
mod program;
mod server;

pub use crate::{
    accept::{BindError, Listeners},
    args::Args,
    error::ProgramError,
    limits::{ByteSize, Limits, Span, UnreadableLimit},
    program::main,
    server::run,
};
