//! The command `distribute`: the tables of users over the workers of a Citus cluster.

use std::io::{self, Write};

use health_core::{Limits, cluster::DistributionStep, distribute, distribution_steps};

use crate::{args::DistributeArgs, database::Postgres, error::ProgramError};

/// Distributes the tables and says what is true afterwards, a line each; or prints the statements only.
pub(crate) async fn execute(args: DistributeArgs) -> Result<(), ProgramError> {
    if !args.database.is_external() {
        return Err(ProgramError::NeedsUrl { command: "distribute" });
    }
    let postgres = Postgres::for_command(&args.database).await?;
    let config = postgres.config(Limits::default())?;
    tracing::info!("using the {config}");
    let lines = if args.dry_run {
        as_statements(&distribution_steps(&config).await?)
    } else {
        let steps = distribute(&config).await?;
        let lines: Vec<_> = steps.iter().map(|step| format!("{}.\n", step.outcome)).collect();
        lines.concat()
    };
    write!(io::stdout(), "{lines}").map_err(ProgramError::System)
}

/// Returns a script for psql that does the same: all in one transaction.
fn as_statements(steps: &[DistributionStep]) -> String {
    let mut script = "BEGIN;\nSET LOCAL citus.multi_shard_modify_mode = 'sequential';\n".to_owned();
    for step in steps {
        script.push_str("-- ");
        script.push_str(&step.outcome);
        script.push_str(".\n");
        for statement in &step.statements {
            script.push_str(statement);
            script.push_str(";\n");
        }
    }
    script.push_str("COMMIT;\n");
    script
}
