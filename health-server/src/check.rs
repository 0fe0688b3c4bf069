//! The command `check`: one page about the configuration and the database, each line with its remedy. It changes nothing.

mod database;
mod finding;
mod machine;
mod ready;

use std::io::{self, Write};

use chrono::Utc;
use health_core::{check_database, embedded::Cluster, format_timestamp};

use self::finding::{Finding, Level};
use crate::{
    args::{ServeArgs, check::CheckArgs},
    database::{Postgres, options},
    error::ProgramError,
};

/// Prints the page.
///
/// # Errors
/// [`ProgramError::Check`] if something is wrong, [`ProgramError::NotReady`] with `--ready`.
pub(crate) async fn check(args: CheckArgs) -> Result<(), ProgramError> {
    if args.ready {
        return ready::ask(&args.serve.http, args.serve.tls_cert.is_some()).await;
    }
    let mut findings = vec![Finding::ok(
        "health-server",
        format!(
            "version {}, checked at {}",
            env!("CARGO_PKG_VERSION"),
            format_timestamp(Utc::now())
        ),
    )];
    findings.extend(machine::certificate(&args.serve));
    findings.extend(of_database(&args.serve).await?);
    findings.extend(machine::open_files(&args.serve));
    print(&findings).map_err(ProgramError::System)?;
    match findings.iter().filter(|finding| finding.level == Level::Wrong).count() {
        0 => Ok(()),
        wrong => Err(ProgramError::Check { wrong }),
    }
}

/// Returns what is to be said of the database. The PostgreSQL of a data directory that no server uses is started meanwhile.
async fn of_database(args: &ServeArgs) -> Result<Vec<Finding>, ProgramError> {
    let mut findings = Vec::new();
    let postgres = if args.database.is_external() {
        Postgres::for_command(&args.database).await?
    } else {
        let options = options(&args.database);
        let directory = options.resolve_data_dir()?;
        if !options.has_cluster()? {
            return Ok(vec![Finding::wrong(
                "database",
                format!("there is none in {}", directory.display()),
                "If there was one, restore a backup first: the server creates an empty one at its start. Or name another directory with \
                 --data-dir",
            )]);
        }
        findings.push(machine::backup(&directory));
        let cluster = Cluster::attach(options).await?;
        findings.push(Finding::ok(
            "data directory",
            if cluster.is_owner() {
                format!(
                    "{}; no server uses it, so its PostgreSQL was started for this check",
                    directory.display()
                )
            } else {
                format!("{}, in use by a running server", directory.display())
            },
        ));
        Postgres::Embedded(cluster)
    };
    let checked = match postgres.config(args.core_limits.clone()) {
        Ok(config) => check_database(&config).await,
        Err(error) => Err(error),
    };
    match checked {
        Ok(checked) => {
            findings.extend(database::findings(&checked, args).await);
            if let Postgres::Embedded(cluster) = &postgres {
                findings.extend(machine::disk(cluster.data_dir(), checked.growth));
            }
        }
        Err(error) => findings.push(Finding::wrong("database", error.chain(), "")),
    }
    postgres.stop().await?;
    Ok(findings)
}

/// Prints one line for each finding.
fn print(findings: &[Finding]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for finding in findings {
        writeln!(out, "{finding}")?;
    }
    out.flush()
}
