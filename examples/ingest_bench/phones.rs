//! Phones that send their last 48 hours again every 15 minutes, with the samples that are new.

use std::time::Duration;

use chrono::TimeDelta;
use examples::{
    Result,
    bench::{Row, float, median},
    server_process::ServerProcess,
};

use crate::{Bench, baseline::query_integer, dataset::Dataset, load};

pub(crate) const NAME: &str = "48 hours resent";

/// Samples of 48 hours, one a minute.
const WINDOW: usize = 48 * 60;

/// New samples in each upload after the first.
const NEW: usize = 15;

/// Uploads of each user after the first.
const RESENDS: usize = 4;

const CONNECTIONS: usize = 4;

/// The goal for the rate of the resent rows, as a share of the rate of the first upload.
const GOAL: f64 = 0.7;

/// Bytes of write-ahead log (WAL) that PostgreSQL has written.
const WAL_BYTES: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint";

/// Positive as long as there are dirty slices or slices that wait to be sealed.
const UNSEALED: &str = "SELECT (SELECT count(*) FROM health_dirty) + (SELECT count(*) FROM health_sealing \
     WHERE sealed_before < threshold OR threshold < now() - interval '1 day')";

/// Row versions that became dead, including those that autovacuum has removed.
const CHANGED_ROWS: &str =
    "SELECT (n_tup_upd + n_tup_del)::bigint FROM pg_stat_user_tables WHERE relname = 'health_metrics'";

/// Dead row versions that autovacuum has not removed yet.
const DEAD_ROWS: &str = "SELECT n_dead_tup::bigint FROM pg_stat_user_tables WHERE relname = 'health_metrics'";

/// What the uploads of all rounds cost.
#[derive(Default)]
struct Uploads {
    rows_per_second: Vec<f64>,
    wal_bytes_per_row: Vec<f64>,
}

impl Bench<'_> {
    /// Posts 48 hours of each user in one request, then the same 48 hours and 15 minutes more, four times.
    pub(crate) async fn phones(&self) -> Result<Vec<Row>> {
        let users = (self.args.rows / WINDOW).max(1);
        let (mut first, mut resent) = (Uploads::default(), Uploads::default());
        let (mut changed_rows, mut dead_rows) = (0, 0);
        for _ in self.rounds(NAME) {
            let mut dataset = Dataset::new(users, users * (WINDOW + RESENDS * NEW));
            dataset.interval = TimeDelta::minutes(1);
            let dataset = dataset.until_now();
            let database = self.baseline.fresh_database().await?;
            let mut server = ServerProcess::start(&database).await?;
            for resend in 0..=RESENDS {
                let range = (NEW * resend).saturating_sub(NEW)..WINDOW + NEW * resend;
                let bodies: Vec<_> = (0..users)
                    .map(|user| dataset.body_of_user(user, range.clone()))
                    .collect();
                let wal_before = query_integer(&database, WAL_BYTES).await?;
                let seconds = load::post_over(server.http(), &bodies, CONNECTIONS).await?;
                let wal = query_integer(&database, WAL_BYTES).await? - wal_before;
                let rows = float(users * range.len());
                let uploads = if resend == 0 { &mut first } else { &mut resent };
                uploads.rows_per_second.push(rows / seconds);
                uploads.wal_bytes_per_row.push(float(usize::try_from(wal)?) / rows);
                // In production, 15 minutes pass before the next upload. The roller needs less.
                wait_until_sealed(&database).await?;
            }
            // A session reports its last statistics when it ends.
            server.stop().await?;
            changed_rows = changed_rows.max(query_integer(&database, CHANGED_ROWS).await?);
            dead_rows = dead_rows.max(query_integer(&database, DEAD_ROWS).await?);
        }
        let (first_rate, rate) = (median(first.rows_per_second), median(resent.rows_per_second));
        Ok(vec![
            Row::new(
                format!("{NAME} with 15 new minutes, {users} users, to the first upload"),
                format!("{:.0} k rows/s", rate / 1e3),
            )
            .at_least(rate / first_rate, GOAL, ""),
            Row::new(
                format!("    WAL per row, first upload {:.0} B", median(first.wal_bytes_per_row)),
                format!("{:.1} B", median(resent.wal_bytes_per_row)),
            ),
            Row::new(
                format!("    rows updated or deleted in {RESENDS} resends, dead at the end"),
                format!("{changed_rows}, {dead_rows}"),
            ),
        ])
    }
}

async fn wait_until_sealed(database_url: &str) -> Result<()> {
    while query_integer(database_url, UNSEALED).await? > 0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
