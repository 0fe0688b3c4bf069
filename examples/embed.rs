//! Health as a library in another program: stores a sample and reads statistics.
//!
//! ```text
//! cargo run --example embed
//! ```
//!
//! It uses the PostgreSQL that `DATABASE_URL` names, or else starts one in the default data directory.

use std::{io::Write, process::ExitCode};

use chrono::{TimeDelta, Utc};
use examples::{Database, Result, exit_code};
use health_core::{Config, Health, HeartRate, Readings, Sample, Source, TimeRange, UserId};

#[tokio::main]
async fn main() -> ExitCode {
    exit_code("embed", embed().await)
}

async fn embed() -> Result<()> {
    let database = Database::from_environment().await?;
    // Creates or updates the schema, and starts the tasks that write and summarise.
    let health = Health::open(Config::from_url(database.url())?).await?;

    // Types such as `HeartRate` check their values, so an invalid sample cannot be constructed.
    let user = UserId::new(101)?;
    let readings = Readings {
        heart_rate: Some(HeartRate::new(72.0)?),
        ..Readings::default()
    };
    let sample = Sample::new(user, Utc::now(), Source::new("embed")?, readings)?;

    // Returns after the commit, and says whether the sample is new.
    let receipt = health.ingest([sample]).await?;
    let stats = health.stats(user, TimeRange::last(TimeDelta::hours(24))).await?;
    writeln!(std::io::stdout(), "{receipt:?}\n{stats:#?}")?;

    // Stores every accepted sample before it returns.
    health.close().await?;
    Ok(database.stop().await?)
}
