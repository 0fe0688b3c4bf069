//! The cost of summarising for writers: the usual server against one that never summarises.

use examples::{
    Result,
    bench::{Row, float, median},
    server_process::ServerProcess,
};

use crate::{
    Bench,
    baseline::query_integer,
    dataset::{Dataset, HeartRates},
    load,
};

/// No sample is as old as this limit asks for, so nothing is ever sealed, no slice becomes dirty, and the roller is
/// idle.
const NEVER_SEAL: (&str, &str) = ("HEALTH_SETTLE", "36500d");

/// The goal for the rate of a server that summarises, as a share of the rate of one that does not.
const GOAL: f64 = 0.9;

/// How many times more rows this measurement sends than the others.
///
/// The roller resummarises dirty slices some seconds after they became dirty. It would have no work during a shorter
/// load.
const ROWS_FACTOR: usize = 5;

const CONNECTIONS: usize = 4;

impl Bench<'_> {
    /// Loads both servers in turn, with rows of the past and with live rows.
    pub(crate) async fn sealing(&self) -> Result<Vec<Row>> {
        let rows = ROWS_FACTOR * self.args.rows;
        let past = || Dataset::new(1_000, rows);
        // With this many users, all rows are of the last minutes, as from a live fleet.
        let live = || Dataset::new(20_000, rows).until_now();
        // Both servers find these rows in the table, but only one has to summarise them during the load.
        let waiting = Dataset::new(1_000, self.args.rows).csv();
        Ok(vec![
            self.with_and_without_sealing("sealing, rows of the past", None, past)
                .await?,
            self.with_and_without_sealing("sealing, live rows while older ones wait", Some(&waiting), live)
                .await?,
        ])
    }

    async fn with_and_without_sealing(
        &self,
        name: &str,
        waiting_csv: Option<&str>,
        dataset: impl Fn() -> Dataset,
    ) -> Result<Row> {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for round in self.rounds(name) {
            let bodies = dataset().bodies(CONNECTIONS, HeartRates::Original);
            let mut servers: [(&[_], &mut Vec<f64>); 2] = [(&[], &mut with), (&[NEVER_SEAL], &mut without)];
            // The second server of a round finds warmer caches.
            servers.rotate_left(round % 2);
            for (limits, seconds) in servers {
                let database = self.baseline.fresh_database().await?;
                if let Some(csv) = waiting_csv {
                    self.baseline.copy(&database, csv).await?;
                }
                let mut server = ServerProcess::start_with(&database, limits).await?;
                seconds.push(load::post_at_once(server.http(), &bodies).await?);
                if limits.is_empty() {
                    check_summaries_exist(&database).await?;
                }
                server.stop().await?;
            }
        }
        let k_rows_per_second = |seconds| float(ROWS_FACTOR * self.args.rows) / seconds / 1e3;
        let (with, without) = (median(with), median(without));
        let row = Row::new(
            format!("{name}, to a server that never seals"),
            format!(
                "{:.0} to {:.0} k rows/s",
                k_rows_per_second(with),
                k_rows_per_second(without)
            ),
        );
        Ok(row.at_least(without / with, GOAL, ""))
    }
}

/// Fails if the roller was idle during the load, because the measurement would then prove nothing.
async fn check_summaries_exist(database_url: &str) -> Result<()> {
    match query_integer(database_url, "SELECT count(*) FROM health_rollups").await? {
        0 => Err("The server summarised nothing during the load: send more rows with --rows.".into()),
        _ => Ok(()),
    }
}
