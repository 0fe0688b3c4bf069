//! Phones that send their last 48 hours again every quarter of an hour, with what is new.

use std::time::Duration;

use chrono::TimeDelta;

use crate::{Bench, Line, Outcome, child::Server, data::Rows, float, load, median, reference::Reference};

pub(crate) const NAME: &str = "48 hours resent";

/// A sample a minute.
const WINDOW: usize = 48 * 60;

const NEW: usize = 15;

/// Quarters of an hour.
const TIMES: usize = 4;

const CONNECTIONS: usize = 4;

/// Writes of PostgreSQL's log so far, in bytes.
const LOG: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint";

const UNFINISHED: &str = "SELECT (SELECT count(*) FROM health_dirty) + (SELECT count(*) FROM health_sealing \
     WHERE sealed_before < threshold OR threshold < now() - interval '1 day')";

/// Also those that autovacuum has taken away already.
const DEAD: &str = "SELECT (n_tup_upd + n_tup_del)::bigint FROM pg_stat_user_tables WHERE relname = 'health_metrics'";

const LEFT: &str = "SELECT n_dead_tup::bigint FROM pg_stat_user_tables WHERE relname = 'health_metrics'";

impl Bench {
    /// One request a user, first with two days, then with the same two days and a quarter of an hour more, again and again.
    pub(crate) async fn phone(&self) -> Outcome<Vec<Line>> {
        let users = (self.args.rows / WINDOW).max(1);
        let mut rows = Rows::new(users, users * (WINDOW + TIMES * NEW));
        rows.every = TimeDelta::minutes(1);
        let (mut first, mut again, mut first_log, mut again_log) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut dead, mut left) = (0, 0);
        for round in 0..self.args.rounds {
            self.say(NAME, round);
            let rows = rows.until_now();
            let database = self.reference.fresh_database().await?;
            let mut server = Server::start(&database).await?;
            for time in 0..=TIMES {
                let window = (NEW * time).saturating_sub(NEW)..WINDOW + NEW * time;
                let bodies: Vec<_> = (0..users).map(|user| rows.of_user(user, window.clone())).collect();
                let before = Reference::ask(&database, LOG).await?;
                let seconds = load::post_in_turn(server.http(), &bodies, CONNECTIONS)
                    .await?
                    .as_secs_f64();
                let log = Reference::ask(&database, LOG).await? - before;
                let count = float(users * window.len());
                let (rates, logs) = if time == 0 {
                    (&mut first, &mut first_log)
                } else {
                    (&mut again, &mut again_log)
                };
                rates.push(count / seconds);
                logs.push(float(usize::try_from(log)?) / count);
                // A quarter of an hour is long enough for that.
                all_is_sealed(&database).await?;
            }
            // What a session has not told the statistics yet, it tells at its end.
            server.stop().await?;
            dead = dead.max(Reference::ask(&database, DEAD).await?);
            left = left.max(Reference::ask(&database, LEFT).await?);
        }
        let (rate, log) = (median(&mut again), median(&mut again_log));
        let line = |name: String, figure: String| Line {
            name,
            figure,
            ratio: None,
            wanted: None,
        };
        Ok(vec![
            Line {
                name: format!("{NAME} with 15 new minutes, {users} users: against the first time"),
                figure: format!("{:.0} k rows/s", rate / 1e3),
                ratio: Some(rate / median(&mut first)),
                wanted: Some(0.7),
            },
            line(
                format!("    log a row sent (the first time: {:.0} B)", median(&mut first_log)),
                format!("{log:.1} B"),
            ),
            line(
                format!("    rows updated or deleted in {TIMES} times, dead at the end"),
                format!("{dead}, {left}"),
            ),
        ])
    }
}

async fn all_is_sealed(database: &str) -> Outcome<()> {
    while Reference::ask(database, UNFINISHED).await? > 0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
