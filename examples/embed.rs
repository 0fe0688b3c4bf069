//! All of Health inside another program: a reading in, statistics out. Without `DATABASE_URL` it keeps a PostgreSQL of its own.

use std::io::Write;

use chrono::{TimeDelta, Utc};
use examples::Database;
use health_core::{Config, Health, HeartRate, Readings, Sample, Source, TimeRange, UserId};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let database = Database::find().await?;
    let health = Health::open(Config::from_url(database.url())?).await?;

    let user = UserId::new(101)?;
    let readings = Readings {
        heart_rate: Some(HeartRate::new(72.0)?),
        ..Readings::default()
    };
    let receipt = health
        .ingest([Sample::new(user, Utc::now(), Source::new("embed")?, readings)?])
        .await?;
    let stats = health.stats(user, TimeRange::last(TimeDelta::hours(24))).await?;
    writeln!(std::io::stdout(), "{receipt:?}\n{stats:#?}")?;

    health.close().await?;
    Ok(database.stop().await?)
}
