//! What summarising costs those who write: a server against one that never summarises.

use crate::{
    Bench, Line, Outcome,
    child::Server,
    data::{Rows, Values},
    float, load, median,
    reference::Reference,
};

/// So old does no sample get: nothing is ever due, no writer marks anything, and the roller has nothing to do.
const NEVER: (&str, &str) = ("HEALTH_SETTLE", "36500d");

const WANTED: f64 = 0.9;

/// Times as many rows as the other measurements send. Marks are only taken away some seconds after they were left: a
/// load that is over by then would find the roller asleep.
const LONGER: usize = 5;

const CONNECTIONS: usize = 4;

impl Bench {
    /// The usual server and one that never summarises, in turn.
    pub(crate) async fn sealing(&self) -> Outcome<Vec<Line>> {
        let count = LONGER * self.args.rows;
        let past = || Rows::new(1_000, count);
        // So many users that all rows are of the last minutes, as those of a fleet that is live.
        let live = || Rows::new(20_000, count).until_now();
        // Both find as many rows stored before; only one has them to summarise meanwhile.
        let before = Rows::new(1_000, self.args.rows).csv();
        Ok(vec![
            self.with_and_without("sealing, rows of the past", None, past).await?,
            self.with_and_without("sealing, live rows while older ones wait", Some(&before), live)
                .await?,
        ])
    }

    async fn with_and_without(&self, name: &str, before: Option<&str>, rows: impl Fn() -> Rows) -> Outcome<Line> {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for round in 0..self.args.rounds {
            self.say(name, round);
            let bodies = rows().bodies(CONNECTIONS, Values::First);
            // Who comes first changes from round to round.
            let mut sides: [(&[_], &mut Vec<f64>); 2] = [(&[], &mut with), (&[NEVER], &mut without)];
            sides.rotate_left(round % 2);
            for (limits, seconds) in sides {
                let database = self.reference.fresh_database().await?;
                if let Some(csv) = before {
                    self.reference.copy(&database, csv).await?;
                }
                let mut server = Server::start_with(&database, limits).await?;
                seconds.push(load::post_all(server.http(), &bodies).await?.as_secs_f64());
                if limits.is_empty() {
                    work_was_done(&database).await?;
                }
                server.stop().await?;
            }
        }
        let rate = |seconds| float(LONGER * self.args.rows) / seconds / 1e3;
        let (with, without) = (median(&mut with), median(&mut without));
        Ok(Line {
            name: format!("{name}: against never sealing"),
            figure: format!("{:.0} against {:.0} k rows/s", rate(with), rate(without)),
            ratio: Some(without / with),
            wanted: Some(WANTED),
        })
    }
}

/// A roller that slept the whole time would cost nothing and prove nothing.
async fn work_was_done(database: &str) -> Outcome<()> {
    let summaries = "SELECT count(*) FROM health_rollups";
    match Reference::ask(database, summaries).await? {
        0 => Err("nothing was summarised while samples were written".into()),
        _ => Ok(()),
    }
}
