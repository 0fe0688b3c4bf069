//! The Health dashboard for a terminal.
//!
//! It shows the heart rate, steps and calories of all users as they arrive on the live feed, the history of one user,
//! and statistics over any time range.
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
mod small_screens;
#[cfg(test)]
mod snapshots;
mod store;
#[cfg(test)]
mod svg;
mod term;
mod theme;
mod ui;

pub use crate::{
    dashboard::{check_terminal, run},
    error::Error,
    net::ServerUrlError,
    options::Options,
    program::program,
    theme::ThemeName,
};
