//! The SQL of the live feed: new commit records, and the rows that they describe.

use std::{error::Error as StdError, future::poll_fn, sync::Arc, time::Duration};

use tokio_postgres::{
    AsyncMessage, NoTls, Row,
    types::{FromSql, Type},
};

use crate::{
    config::Config,
    error::Error,
    live::{
        cursor::Position,
        transaction_snapshot::{InvalidSnapshot, TransactionSnapshot},
    },
    sample::{Readings, Sample, Source, UserId},
    store::connection::{Readers, Session, checkout, classify},
};

/// One row of `health_commits`: a writing transaction, or several that were merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommitRow {
    pub(crate) xid: u64,
    pub(crate) ids: IdRange,
    /// The writer id, or [`MERGED`] for several transactions.
    pub(crate) writer: i64,
}

/// A range of `id`s, from `after` (exclusive) to `last` (inclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdRange {
    pub(crate) after: i64,
    pub(crate) last: i64,
}

/// A row of `health_metrics`, with the transaction that wrote its current version.
#[derive(Debug)]
pub(crate) struct FeedRow {
    pub(crate) id: i64,
    /// The lower 32 bits of the transaction id, see [`TransactionSnapshot::full_xid`].
    pub(crate) xid_low: u32,
    pub(crate) sample: Sample,
}

/// The commits after a position in the stream.
#[derive(Debug)]
pub(crate) struct ReplayRange {
    /// Cut at the last commit that it sees, see [`TransactionSnapshot::up_to`].
    pub(crate) snapshot: TransactionSnapshot,
    /// The range that holds the rows. `None` if there are no commits.
    pub(crate) ids: Option<IdRange>,
    /// Whether a commit after the position is older than the replay window.
    pub(crate) too_old: bool,
    /// Whether a commit after the position may have been pruned.
    pub(crate) pruned: bool,
    /// Whether the position is ahead of the database, which was then restored from a backup.
    pub(crate) ahead: bool,
}

/// The result of one poll of the commit log.
#[derive(Debug)]
pub(crate) struct PollResult {
    /// Cut at the last commit that it sees, see [`TransactionSnapshot::up_to`].
    pub(crate) snapshot: TransactionSnapshot,
    /// The commits that became visible, ordered by `last_id`.
    pub(crate) commits: Vec<CommitRow>,
    /// The reason why commits may be missing here, if so.
    pub(crate) gap: Option<&'static str>,
}

/// The writer id of records that stand for several commits.
pub(crate) const MERGED: i64 = 0;

/// Returns the id of the stream and the present position.
///
/// The id includes the oid of the database, because a copy that is restored elsewhere counts its transactions on
/// its own. The position ends at the last commit, see [`TransactionSnapshot::up_to`].
const POSITION: &str = "SELECT right(to_hex(hashtextextended(f.stream::text, d.oid::bigint)), 12), \
     pg_current_snapshot()::text, greatest(f.pruned_below::text::numeric, \
     (SELECT xid::text::numeric + 1 FROM health_commits ORDER BY xid DESC LIMIT 1))::text \
     FROM health_feed f CROSS JOIN pg_database d WHERE d.datname = current_database()";

/// The number of `id`s that one query reads, and so about the number of rows. A row takes some hundred bytes.
pub(crate) const IDS_PER_READ: i64 = 5_000;

/// Returns the commits that became visible since a snapshot.
///
/// They began after the snapshot (`$1`) or were in progress in it (`$2`). Both parts use the primary key, so a
/// long transaction of another session, which holds back `xmin`, does not make the query slower.
const POLL: &str = "SELECT here.snapshot, here.pruned_below, c.xid::text, c.first_id, c.last_id, c.writer \
     FROM (SELECT pg_current_snapshot()::text AS snapshot, pruned_below::text FROM health_feed) AS here LEFT JOIN ( \
     SELECT * FROM health_commits WHERE xid >= $1::text::xid8 UNION ALL \
     SELECT * FROM health_commits WHERE xid = ANY($2::text[]::xid8[])) AS c ON true ORDER BY c.last_id";

/// Returns the smallest range of `id`s that holds all commits after a snapshot.
///
/// One range instead of a list bounds the memory: it may include some other rows, which the replay skips.
const REPLAY_RANGE: &str = "SELECT pg_current_snapshot()::text, min(first_id), max(last_id), \
     coalesce(min(committed_at) FILTER (WHERE xid >= $2::text::xid8 OR xid = ANY($3::text[]::xid8[])) \
     < now() - $4::bigint * interval '1 microsecond', false), (SELECT pruned_below FROM health_feed) > $1::text::xid8, \
     greatest((SELECT pruned_below::text::numeric FROM health_feed), \
     (SELECT xid::text::numeric + 1 FROM health_commits ORDER BY xid DESC LIMIT 1))::text \
     FROM health_commits WHERE xid >= $1::text::xid8";

/// Returns the rows of a range of `id`s, by the block range index on `id`.
///
/// `user_id + 0` keeps the planner from the primary key, which would read everything that these users ever
/// stored.
const ROWS: &str = "SELECT id, xmin, user_id, timestamp, heart_rate, steps, calories, source FROM health_metrics \
     WHERE id > $1 AND id <= $2 AND ($3::bigint[] IS NULL OR user_id + 0 = ANY($3)) ORDER BY id";

/// Returns the first rows of one user in a range of `id`s.
///
/// It serves a user who is pulled ahead in a replay, and reads that user's rows only instead of the whole range.
const ROWS_OF_USER: &str = "SELECT id, xmin, user_id, timestamp, heart_rate, steps, calories, source \
     FROM health_metrics WHERE user_id = $1 AND id > $2 AND id <= $3 ORDER BY id LIMIT $4";

/// Prepares the poller's session.
///
/// The session listens for notifications. Its shared advisory lock shows other servers that a poller exists. It
/// writes nothing that must be durable, so no commit waits for the disk.
const LISTEN: &str = "SET synchronous_commit = off; SET enable_seqscan = off; \
     SET plan_cache_mode = force_generic_plan; SET statement_timeout = '10s'; LISTEN health_feed; SELECT pg_advisory_lock_shared(hashtext('health feed'), 0)";

/// Notifies other servers. The payload tells a server which notifications are its own.
const NOTIFY: &str = "SELECT pg_notify('health_feed', $1)";

/// Returns whether another session holds the same advisory lock.
const OTHER_LISTENERS: &str = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 \
     AND classid = hashtext('health feed')::bigint::bit(32)::bigint AND objid = 0 AND pid <> pg_backend_pid() \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";

/// Deletes commit records older than the replay window, and stores in `pruned_below` that they are gone.
///
/// The advisory lock lets only one server at a time do this.
const PRUNE: &str = "WITH mine AS MATERIALIZED ( \
     SELECT pg_try_advisory_xact_lock(hashtext('health feed upkeep')) AS held), \
     gone AS (DELETE FROM health_commits USING mine WHERE held AND xid < $1::text::xid8 \
     AND committed_at < now() - $2::bigint * interval '1 microsecond' RETURNING xid) \
     UPDATE health_feed SET pruned_below = greatest(pruned_below, gone_below.xid) \
     FROM (SELECT (max(xid::text::numeric) + 1)::text::xid8 AS xid FROM gone) AS gone_below \
     WHERE gone_below.xid IS NOT NULL";

/// Merges many commit records into one.
///
/// The merged record has the highest transaction id of all. So a replay that needs one of them reads the merged
/// record.
const MERGE: &str = "WITH mine AS MATERIALIZED ( \
     SELECT pg_try_advisory_xact_lock(hashtext('health feed upkeep')) AS held), \
     gone AS (DELETE FROM health_commits USING mine WHERE held AND xid < $1::text::xid8 AND writer <> 0 \
     RETURNING xid, first_id, last_id, committed_at) \
     INSERT INTO health_commits (xid, first_id, last_id, writer, committed_at) \
     SELECT max(xid::text::numeric)::text::xid8, min(first_id), max(last_id), 0, max(committed_at) \
     FROM gone HAVING count(*) > 0";

/// The poller's connection.
pub(crate) struct FeedConnection {
    session: Session,
    /// The payload of its own notifications, by which it ignores them.
    name: String,
}

impl FeedConnection {
    /// Connects. Calls `on_notification` when another server notifies, and when the connection is lost.
    pub(crate) async fn open(config: &Config, on_notification: impl Fn() + Send + 'static) -> Result<Self, Error> {
        let (client, mut connection) = config.postgres.connect(NoTls).await.map_err(classify)?;
        let name = format!("{:016x}", fastrand::u64(..));
        let own = name.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if matches!(message, AsyncMessage::Notification(notification) if notification.payload() != own) {
                    on_notification();
                }
            }
            on_notification();
        });
        let session = Session::of(client).await.map_err(classify)?;
        session.client().batch_execute(LISTEN).await.map_err(classify)?;
        Ok(Self { session, name })
    }

    /// Returns the commits that became visible since a snapshot.
    ///
    /// With `thorough`, also returns records that were merged since. `out_of_window` says that the snapshot is
    /// older than the replay window, so that older commits may have been pruned.
    pub(crate) async fn poll(
        &mut self,
        since: &TransactionSnapshot,
        thorough: bool,
        out_of_window: bool,
    ) -> Result<PollResult, Error> {
        let (from, also) = if thorough {
            (since.xmin(), Vec::new())
        } else {
            (since.xmax(), in_progress_as_text(since))
        };
        let statement = self.session.prepare(POLL).await.map_err(classify)?;
        let rows = self
            .session
            .client()
            .query(&statement, &[&from.to_string(), &also])
            .await
            .map_err(classify)?;
        let snapshot = snapshot(rows.first().map_or("", |row| row.get(0)))?;
        let pruned_below = rows.first().and_then(|row| row.get::<_, &str>(1).parse::<u64>().ok());
        let commits = rows.iter().filter_map(|row| {
            let xid: u64 = row.get::<_, Option<&str>>(2)?.parse().ok()?;
            Some(CommitRow {
                xid,
                ids: IdRange {
                    after: row.get(3),
                    last: row.get(4),
                },
                writer: row.get(5),
            })
        });
        let new = commits.filter(|commit| commit.writer == MERGED || !since.sees(commit.xid));
        let commits: Vec<_> = new.collect();
        let oldest_unseen = if out_of_window { since.xmin() } else { since.xmax() };
        let gap = if snapshot.xmax() < since.xmax() {
            Some("the database was restored from a backup")
        } else if pruned_below.is_some_and(|pruned| pruned > oldest_unseen) {
            Some("the database was out of reach for too long: some commits are no longer in the commit log")
        } else {
            None
        };
        let durable = commits.iter().map(|commit| commit.xid + 1).chain(pruned_below).max();
        Ok(PollResult {
            snapshot: snapshot.up_to(durable.unwrap_or(0).max(since.xmax())),
            commits,
            gap,
        })
    }

    /// Returns the rows of a range, ordered by `id`.
    pub(crate) async fn rows(&mut self, ids: IdRange) -> Result<Vec<FeedRow>, Error> {
        rows(&mut self.session, ids, None).await
    }

    /// Notifies the other servers of new commits.
    pub(crate) async fn notify(&mut self) -> Result<(), Error> {
        let statement = self.session.prepare(NOTIFY).await.map_err(classify)?;
        self.session
            .client()
            .execute(&statement, &[&self.name])
            .await
            .map_err(classify)?;
        Ok(())
    }

    /// Returns whether another server listens.
    pub(crate) async fn others_listen(&mut self) -> Result<bool, Error> {
        let statement = self.session.prepare(OTHER_LISTENERS).await.map_err(classify)?;
        let row = self
            .session
            .client()
            .query_one(&statement, &[])
            .await
            .map_err(classify)?;
        Ok(row.get(0))
    }
}

/// Returns the present position of the stream.
pub(crate) async fn position(readers: &Readers) -> Result<Position, Error> {
    let mut session = checkout(readers).await?;
    let statement = session.prepare(POSITION).await.map_err(classify)?;
    let row = session.client().query_one(&statement, &[]).await.map_err(classify)?;
    let snapshot = snapshot(row.get(1))?;
    let durable = row.get::<_, &str>(2).parse().unwrap_or(0);
    Ok(Position {
        stream: row.get(0),
        seen: snapshot.up_to(durable),
    })
}

/// Returns the range of commits that a snapshot does not see.
pub(crate) async fn replay_range(
    readers: &Readers,
    seen: &TransactionSnapshot,
    window: Duration,
) -> Result<ReplayRange, Error> {
    let mut session = checkout(readers).await?;
    let statement = session.prepare(REPLAY_RANGE).await.map_err(classify)?;
    let row = session
        .client()
        .query_one(
            &statement,
            &[
                &seen.xmin().to_string(),
                &seen.xmax().to_string(),
                &in_progress_as_text(seen),
                &micros(window),
            ],
        )
        .await
        .map_err(classify)?;
    let (after, last): (Option<i64>, Option<i64>) = (row.get(1), row.get(2));
    let snapshot = snapshot(row.get(0))?;
    let durable = row.get::<_, &str>(5).parse().unwrap_or(0);
    Ok(ReplayRange {
        ids: after.zip(last).map(|(after, last)| IdRange { after, last }),
        too_old: row.get(3),
        pruned: row.get(4),
        ahead: seen.xmax() > snapshot.xmax(),
        snapshot: snapshot.up_to(durable.max(seen.xmax())),
    })
}

/// Returns the rows of a range, ordered by `id`. If `users` is given, only the rows of these users.
pub(crate) async fn rows_in_range(
    readers: &Readers,
    ids: IdRange,
    users: Option<&[i64]>,
) -> Result<Vec<FeedRow>, Error> {
    rows(&mut *checkout(readers).await?, ids, users).await
}

/// Returns the first `limit` rows of one user in a range, ordered by `id`.
pub(crate) async fn rows_of_user(
    readers: &Readers,
    ids: IdRange,
    user: UserId,
    limit: i64,
) -> Result<Vec<FeedRow>, Error> {
    let mut session = checkout(readers).await?;
    let statement = session.prepare(ROWS_OF_USER).await.map_err(classify)?;
    let rows = session
        .client()
        .query(&statement, &[&user.get(), &ids.after, &ids.last, &limit])
        .await
        .map_err(classify)?;
    Ok(rows.iter().filter_map(feed_row).collect())
}

/// Deletes commit records below `horizon` that are older than `window`, and merges the others below
/// `merge_below`.
pub(crate) async fn prune_and_merge(
    readers: &Readers,
    horizon: u64,
    window: Duration,
    merge_below: Option<u64>,
) -> Result<(), Error> {
    let mut session = checkout(readers).await?;
    let prune = session.prepare(PRUNE).await.map_err(classify)?;
    let merge = session.prepare(MERGE).await.map_err(classify)?;
    let client = session.client();
    let pruned = client.execute(&prune, &[&horizon.to_string(), &micros(window)]).await;
    pruned.map_err(classify)?;
    if let Some(below) = merge_below {
        client.execute(&merge, &[&below.to_string()]).await.map_err(classify)?;
    }
    Ok(())
}

async fn rows(session: &mut Session, ids: IdRange, users: Option<&[i64]>) -> Result<Vec<FeedRow>, Error> {
    let statement = session.prepare(ROWS).await.map_err(classify)?;
    let rows = session
        .client()
        .query(&statement, &[&ids.after, &ids.last, &users])
        .await
        .map_err(classify)?;
    Ok(rows.iter().filter_map(feed_row).collect())
}

fn feed_row(row: &Row) -> Option<FeedRow> {
    let RowXid(xid_low) = row.get(1);
    let sample = (|| {
        let readings = Readings::from_row(row.get(4), row.get(5), row.get(6));
        let source = Source::new(row.get::<_, &str>(7))?;
        Sample::new(UserId::new(row.get(2))?, row.get(3), source, readings)
    })();
    match sample {
        Ok(sample) => Some(FeedRow {
            id: row.get(0),
            xid_low,
            sample,
        }),
        Err(fault) => {
            // No server writes such a row; another program must have.
            tracing::warn!(%fault, id = row.get::<_, i64>(0), "a stored row is not a valid sample, the feed skips it");
            None
        }
    }
}

fn snapshot(text: &str) -> Result<TransactionSnapshot, Error> {
    text.parse()
        .map_err(|error: InvalidSnapshot| Error::Database(Arc::new(error)))
}

fn in_progress_as_text(snapshot: &TransactionSnapshot) -> Vec<String> {
    snapshot.in_progress().iter().map(u64::to_string).collect()
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// The system column `xmin`.
struct RowXid(u32);

impl<'a> FromSql<'a> for RowXid {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(u32::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::XID
    }
}

/// Splits a range into parts that one query reads.
pub(crate) fn split_range(ids: IdRange) -> impl Iterator<Item = IdRange> {
    let step = usize::try_from(IDS_PER_READ).unwrap_or(usize::MAX);
    (ids.after..ids.last).step_by(step).map(move |after| IdRange {
        after,
        last: ids.last.min(after.saturating_add(IDS_PER_READ)),
    })
}
