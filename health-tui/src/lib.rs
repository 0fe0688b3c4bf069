//! The Health dashboard: everyone's heart rate, steps and calories as they arrive over the live feed, one user in detail
//! back into the past, and statistics over any range, in a terminal.
//!
//! ```no_run
//! # async fn example() -> Result<(), health_tui::Error> {
//! health_tui::run(health_tui::Options::default()).await
//! # }
//! ```

mod app;
#[cfg(test)]
mod budgets;
mod caps;
mod config;
mod dashboard;
#[cfg(test)]
mod docs;
mod error;
#[cfg(test)]
mod fixtures;
mod fmt;
mod headless;
mod keys;
mod layout;
mod net;
mod options;
mod plain;
mod program;
mod record;
mod replay;
mod run;
mod signals;
#[cfg(test)]
mod snapshots;
mod store;
#[cfg(test)]
mod svg;
mod term;
mod theme;
mod ui;

pub use crate::{dashboard::run, error::Error, net::BaseError, options::Options, program::program, theme::ThemeName};
