//! HTTP ingest and queries, and a live feed over TCP, on top of `health-core`.
//!
//! The program `health-server` is a thin shell around [`run`]. Tests and other programs call the same function:
//!
//! ```no_run
//! use health_core::{Config, Health};
//! use health_server::{Listeners, ServerLimits, run};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let health = Health::open(Config::from_url("postgres://localhost/health_db")?).await?;
//! let listeners = Listeners::bind("127.0.0.1:0", "127.0.0.1:0").await?;
//! println!("{listeners}");
//! let shutdown = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
//! run(listeners, health, ServerLimits::default(), shutdown).await?;
//! # Ok(())
//! # }
//! ```

mod acceptor;
mod addresses;
mod app;
mod args;
mod audit;
mod backup;
mod check;
mod config;
mod connection_slots;
mod database;
mod descriptors;
mod distribute;
mod error;
mod feed;
mod http;
mod import;
mod limits;
mod listeners;
mod logging;
mod metrics;
mod migrate;
mod options;
mod program;
mod quote;
mod refusals;
mod reload;
mod request_id;
mod secret_file;
mod server;
mod service_manager;
mod tls;
mod token_rates;
mod tokens;
mod unneeded_tokens;
mod wrong_tokens;

pub use crate::{
    error::ProgramError,
    limits::ServerLimits,
    listeners::{BindError, Listeners},
    options::ServerOptions,
    program::main,
    secret_file::SecretFileError,
    server::run,
    tls::{ServerTls, TlsError},
};
