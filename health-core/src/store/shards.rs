//! Which users have their rows in the same shard of a distributed table.
//!
//! Citus sends a statement to each shard that it needs, with all parameters. A statement with the keys of thousands of
//! users would send each key to all 32 shards, and each shard would search its rows for all keys. So a session sends a
//! statement about many users once for each shard, with the keys of that shard's users, and does not wait for an answer
//! before it sends the next.

use std::collections::HashMap;

use crate::store::{columns::distinct, connection::Session};

/// Finds the shard of each user. It is a hash, so this reads only the list of shards.
const SHARDS: &str = "SELECT user_id, get_shard_id_for_distribution_column('health_metrics', user_id) \
     FROM unnest($1::bigint[]) AS users (user_id)";

/// Returns indices of `users`, in their order, grouped by the shard of the user. If a shard was split meanwhile, a
/// group may have the users of two shards.
pub(super) async fn by_shard(session: &mut Session, users: &[i64]) -> Result<Vec<Vec<usize>>, tokio_postgres::Error> {
    let names = distinct(users);
    if names.len() <= 1 {
        return Ok(vec![(0..users.len()).collect()]);
    }
    let statement = session.prepare(SHARDS).await?;
    let rows = session.client().query(&statement, &[&names]).await?;
    let shards: HashMap<i64, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut groups: HashMap<Option<i64>, Vec<usize>> = HashMap::new();
    for (index, user) in users.iter().enumerate() {
        groups.entry(shards.get(user).copied()).or_default().push(index);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    // All writers use this order, so that two of them do not lock the same rows in different orders.
    groups.sort_unstable();
    Ok(groups)
}
