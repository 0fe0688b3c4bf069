//! `health-server migrate`: brings the schema up to date, or says what that would do.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use health_core::{Limits, MigrationPlan, PendingMigration, Trial, counted, grants, migrate, plan_migration};

use crate::{
    args::MigrateArgs,
    database::{Postgres, options},
    error::ProgramError,
};

/// Executes the command.
pub(crate) async fn execute(args: MigrateArgs) -> Result<(), ProgramError> {
    if args.dry_run && !args.database.is_external() && !options(&args.database).has_cluster()? {
        let directory = options(&args.database).resolve_data_dir()?;
        let sentence = "-- There is no database in";
        let rest = "The first start creates it, with all migrations. Nothing was changed.";
        return print(&format!("{sentence} {}. {rest}\n", directory.display()));
    }
    let postgres = Postgres::for_command(&args.database).await?;
    let done = if args.dry_run {
        dry_run(&postgres).await
    } else {
        migrate_and_print(&postgres, args.print_grants.as_deref()).await
    };
    postgres.stop().await?;
    done
}

/// Brings the schema up to date. Prints what to grant to a role, if there is one.
async fn migrate_and_print(postgres: &Postgres, role: Option<&str>) -> Result<(), ProgramError> {
    let config = postgres.config(Limits::default())?;
    tracing::info!("using the {config}");
    migrate(&config).await?;
    match role {
        Some(role) => print(&grants(&config, role).await?),
        None => Ok(()),
    }
}

/// Prints what the migrations would do.
async fn dry_run(postgres: &Postgres) -> Result<(), ProgramError> {
    let config = postgres.config(Limits::default())?;
    tracing::info!("using the {config}");
    print(&page(&plan_migration(&config).await?))
}

fn print(text: &str) -> Result<(), ProgramError> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(ProgramError::System(error)),
        _ => Ok(()),
    }
}

/// Writes a plan as SQL with comments.
fn page(plan: &MigrationPlan) -> String {
    let MigrationPlan { database, version, .. } = plan;
    if plan.pending.is_empty() {
        return format!(
            "-- The schema of the database {database:?} is up to date (version {version}): no migration would run.\n"
        );
    }
    let pending = counted(plan.pending.len(), "migration");
    let mut text = format!(
        "-- The database {database:?} has schema version {version}. {pending} would run. Nothing was changed.\n-- {}\n",
        about_trial(plan.trial)
    );
    for migration in &plan.pending {
        write_migration(&mut text, migration);
    }
    text
}

fn about_trial(trial: Trial) -> &'static str {
    match trial {
        Trial::Complete => {
            "They were tried in one transaction that was rolled back. Locks that an earlier one has taken are not listed again."
        }
        Trial::Locked => {
            "The trial ended early: another session held a lock for more than a second. Try again, or look in pg_stat_activity \
             for a long transaction, for which the migration would wait, too."
        }
        Trial::TooLong => {
            "The trial was ended after 5 seconds, because it holds the locks, too. The migration takes longer: stop the servers \
             before it."
        }
        Trial::NoDatabase => "The database does not exist. It would be created first, so nobody waits for a lock.",
        Trial::ReadOnly => "They were not tried, because the database is read-only. Run this on the primary.",
        Trial::Distributed => {
            "They were not tried, because the tables are distributed by Citus: the locks would be on all servers."
        }
        _ => "They were not tried.",
    }
}

fn write_migration(text: &mut String, migration: &PendingMigration) {
    let PendingMigration { version, name, sql, .. } = migration;
    // Writing to a String cannot fail; the same holds below.
    let _ = match &migration.tried {
        None => write!(text, "\n-- Migration {version} ({name}), not tried.\n"),
        Some(tried) => write!(
            text,
            "\n-- Migration {version} ({name}). It took {:.1} ms, and holds these locks for no longer:\n",
            tried.took.as_secs_f64() * 1000.0
        ),
    };
    if let Some(tried) = &migration.tried {
        for lock in &tried.locks {
            let (mode, waits) = (lock.mode.name(), lock.mode.who_waits());
            let _ = writeln!(text, "--   {}: {mode} ({waits})", lock.relation);
        }
        if tried.locks.is_empty() {
            text.push_str("--   none on what exists already\n");
        }
    }
    let _ = writeln!(text, "{}", sql.trim_end());
}
