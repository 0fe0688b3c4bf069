//! The command `check`: one page about the configuration and the database, each line with its remedy. It changes
//! nothing.

mod database;
mod finding;
mod machine;
mod ready;
mod service_user;
mod settings;

use std::{
    io::{self, Write},
    path::Path,
};

use chrono::Utc;
use health_core::{check_database, embedded::Cluster, format_timestamp};

use self::{
    finding::{Finding, Level},
    service_user::ServiceUser,
    settings::PACKAGE_SETTINGS,
};
use crate::{
    args::{ServeArgs, check::CheckArgs},
    config::Sources,
    database::{Postgres, options},
    error::ProgramError,
};

/// Prints the page.
///
/// # Errors
/// [`ProgramError::Check`] if something is wrong, [`ProgramError::NotReady`] with `--ready`.
pub(crate) async fn check(args: CheckArgs, sources: &Sources) -> Result<(), ProgramError> {
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
    findings.push(settings::origin(sources, Path::new(PACKAGE_SETTINGS)));
    findings.extend(machine::certificate(&args.serve));
    findings.extend(files(&args.serve, sources));
    findings.extend(of_database(&args.serve).await?);
    findings.extend(machine::open_files(&args.serve));
    print(&findings).map_err(ProgramError::System)?;
    match findings.iter().filter(|finding| finding.level == Level::Wrong).count() {
        0 => Ok(()),
        wrong => Err(ProgramError::Check { wrong }),
    }
}

/// Says whether the server's user can read the files that the server reads when it starts, and again at SIGHUP.
fn files(args: &ServeArgs, sources: &Sources) -> Vec<Finding> {
    // With a database elsewhere, the data directory tells nothing about the user.
    if args.database.is_external() {
        return Vec::new();
    }
    let Some(user) = ServiceUser::of_data_dir(&options(&args.database)) else {
        return Vec::new();
    };
    let files = [
        ("settings", &sources.file),
        ("certificate", &args.tls_cert),
        ("key", &args.tls_key),
    ];
    user.findings(
        files
            .into_iter()
            .filter_map(|(what, path)| Some((what, path.as_deref()?))),
    )
}

/// Returns what is to be said of the database. The PostgreSQL of a data directory that no server uses is started
/// meanwhile.
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
