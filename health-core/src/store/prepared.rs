//! Transactions that Citus has prepared on its nodes.
//!
//! If the tables are distributed, a commit has two phases. Citus prepares the transaction on every node that it has
//! changed, commits on the coordinator, and then tells the nodes to commit. Between the last two steps a session may
//! see the commit record and not yet the rows. If a node or the coordinator fails there, the client still hears of
//! success, perhaps with a warning, and the rows stay invisible until `recover_prepared_transactions()` is called.
//! Citus itself calls it once a minute.
//!
//! So a task that must not miss a row of a visible commit waits until all transactions have ended that are prepared at
//! that moment. If the tables are local, these functions return at once without asking the database.

use std::{collections::HashSet, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    sample::UserId,
    store::{connection::Session, error::StoreError, tables::Tables},
};

/// Lists the transactions of Citus that are prepared, on each node.
const PREPARED: &str = "SELECT nodeid, success, coalesce(result, '') FROM run_command_on_all_nodes( \
     $$SELECT string_agg(gid, ' ') FROM pg_prepared_xacts WHERE database = current_database() AND starts_with(gid, 'citus_')$$)";

/// Finds the node with the rows of a user. They are all in one shard.
const NODE_OF_USER: &str = "SELECT node.nodeid FROM pg_dist_placement AS placement \
     JOIN pg_dist_node AS node ON node.groupid = placement.groupid WHERE node.noderole = 'primary' \
     AND placement.shardid = get_shard_id_for_distribution_column('health_metrics', $1::bigint)";

/// Commits or rolls back the prepared transactions whose coordinator's side has ended.
const RECOVER: &str = "SELECT recover_prepared_transactions()";

/// How long [`recover`] may take. A transaction that is being committed ends in milliseconds.
const RECOVER_TIMEOUT: Duration = Duration::from_secs(2);

/// The first pause of [`recover`] for transactions that are being committed. It doubles.
const PAUSE: Duration = Duration::from_millis(5);

/// How often [`have_ended`] looks again, after a [`PAUSE`] each, before it gives up.
const LOOKS: usize = 10;

/// A transaction that is prepared on a node.
type Prepared = HashSet<(i32, String)>;

/// The users whose rows must be complete.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rows {
    OfAllUsers,
    /// Only the node with this user's rows is asked, so other nodes may be away.
    Of(UserId),
}

/// Ends every transaction that is prepared now. A commit that the session has seen before is complete afterwards.
///
/// # Errors
/// [`StoreError::NodeAway`] if a node does not answer, so that it is unknown what is prepared there.
/// [`StoreError::LeftPrepared`] if a transaction does not end in time.
pub(crate) async fn recover(session: &mut Session, rows: Rows) -> Result<(), StoreError> {
    if session.tables() == Tables::Local {
        return Ok(());
    }
    let only = only_node(session, rows).await?;
    let deadline = Instant::now() + RECOVER_TIMEOUT;
    let mut left = prepared(session, only).await?;
    let mut pause = PAUSE;
    while !left.is_empty() {
        if Instant::now() > deadline {
            return Err(StoreError::LeftPrepared);
        }
        session.client().batch_execute(RECOVER).await?;
        retain_prepared(session, only, &mut left).await?;
        if !left.is_empty() {
            sleep(pause).await;
            pause *= 2;
        }
    }
    Ok(())
}

/// Calls [`recover`] if the session got a warning since their number was `warnings`: one of its commits may be
/// incomplete.
pub(crate) async fn recover_if_warned(session: &mut Session, rows: Rows, warnings: u64) -> Result<(), StoreError> {
    if session.client().warnings() == warnings {
        return Ok(());
    }
    recover(session, rows).await
}

/// Returns whether every transaction that is prepared now has ended. Waits a moment for those that are being committed.
///
/// Unlike [`recover`], this may be part of a transaction.
///
/// # Errors
/// [`StoreError::NodeAway`] if a node does not answer.
pub(crate) async fn have_ended(session: &mut Session, rows: Rows) -> Result<bool, StoreError> {
    if session.tables() == Tables::Local {
        return Ok(true);
    }
    let only = only_node(session, rows).await?;
    let mut left = prepared(session, only).await?;
    for _ in 0..LOOKS {
        if left.is_empty() {
            return Ok(true);
        }
        sleep(PAUSE).await;
        retain_prepared(session, only, &mut left).await?;
    }
    Ok(left.is_empty())
}

/// Returns the only node that matters; `None` if all do.
async fn only_node(session: &mut Session, rows: Rows) -> Result<Option<i32>, StoreError> {
    let Rows::Of(user) = rows else { return Ok(None) };
    let statement = session.prepare(NODE_OF_USER).await?;
    let row = session.client().query_opt(&statement, &[&user.get()]).await?;
    Ok(row.map(|row| row.get(0)))
}

async fn retain_prepared(session: &mut Session, only: Option<i32>, left: &mut Prepared) -> Result<(), StoreError> {
    let prepared = prepared(session, only).await?;
    left.retain(|transaction| prepared.contains(transaction));
    Ok(())
}

async fn prepared(session: &mut Session, only: Option<i32>) -> Result<Prepared, StoreError> {
    let statement = session.prepare(PREPARED).await?;
    let mut prepared = Prepared::new();
    for row in session.client().query(&statement, &[]).await? {
        let (node, is_known, answer): (i32, bool, &str) = (row.get(0), row.get(1), row.get(2));
        if only.is_some_and(|only| only != node) {
            continue;
        }
        if !is_known {
            return Err(StoreError::NodeAway {
                node,
                reason: answer.trim_end().to_owned(),
            });
        }
        prepared.extend(answer.split_whitespace().map(|name| (node, name.to_owned())));
    }
    Ok(prepared)
}
