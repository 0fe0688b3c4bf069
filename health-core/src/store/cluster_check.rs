//! What `health-server check` asks of a Citus cluster.

use tokio_postgres::Row;

use crate::{
    cluster::ClusterCheck,
    error::Error,
    setup_error::SetupError,
    store::{
        connection::Session,
        database::Facts,
        distribute::{self, steps},
        refusal::classify,
        tables::Tables,
    },
};

/// Asks each node how many transactions it can prepare. Each connection of the coordinator may need one.
const NODES: &str = "SELECT coalesce(node.nodename || ':' || node.nodeport, 'node ' || answer.nodeid), answer.success, \
     coalesce(answer.result, ''), current_setting('max_connections')::bigint \
     FROM run_command_on_all_nodes('SHOW max_prepared_transactions') AS answer \
     LEFT JOIN pg_dist_node AS node ON node.nodeid = answer.nodeid ORDER BY 1";

/// Asks about the cluster. Returns `None` if the database belongs to none: it has no extension `citus` that works.
pub(super) async fn check(session: &Session, facts: &Facts) -> Result<Option<ClusterCheck>, Error> {
    if !distribute::has_citus(session).await? {
        return Ok(None);
    }
    let (missing, refusal) = match steps(session, facts).await {
        Ok(steps) => (steps, None),
        Err(Error::Setup(SetupError::Cluster(refusal))) => (Vec::new(), Some(refusal)),
        Err(error) => return Err(error),
    };
    let missing = missing.into_iter().filter(|step| !step.statements.is_empty());
    let nodes = session.client().query(NODES, &[]).await.map_err(classify)?;
    let answers = |row: &&Row| row.get::<_, bool>(1);
    let name_and_answer = |row: &Row| format!("{} ({})", row.get::<_, &str>(0), row.get::<_, &str>(2).trim_end());
    let is_few = |row: &&Row| {
        let prepared = row.get::<_, &str>(2).parse::<i64>();
        prepared.is_ok_and(|prepared| prepared < row.get::<_, i64>(3))
    };
    Ok(Some(ClusterCheck {
        version: distribute::check_citus(session, facts).await.unwrap_or_default(),
        is_distributed: session.tables() == Tables::Distributed,
        refusal,
        missing: missing.map(|step| step.outcome).collect(),
        nodes: nodes.len(),
        away: nodes.iter().filter(|row| !answers(row)).map(name_and_answer).collect(),
        few_prepared: nodes
            .iter()
            .filter(answers)
            .filter(is_few)
            .map(name_and_answer)
            .collect(),
    }))
}
