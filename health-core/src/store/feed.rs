//! What the feed resumes from.

use crate::{
    error::Error,
    live::cursor::Position,
    store::connection::{Readers, checkout, classify},
};

/// Every transaction below a snapshot's xmin has ended.
const POSITION: &str =
    "SELECT replace(stream::text, '-', ''), pg_snapshot_xmin(pg_current_snapshot())::text FROM health_feed";

/// Where the stream of changes stands now.
pub(crate) async fn position(readers: &Readers) -> Result<Position, Error> {
    let mut session = checkout(readers).await?;
    let statement = session.prepare(POSITION).await.map_err(classify)?;
    let row = session.client().query_one(&statement, &[]).await.map_err(classify)?;
    Ok(Position {
        stream: row.get(0),
        xid: row.get::<_, &str>(1).parse().unwrap_or(0),
    })
}
