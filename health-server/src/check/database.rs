//! What the database says, in lines with a remedy.

use std::time::Duration;

use chrono::{DateTime, Utc};
use health_core::{
    check::{DatabaseCheck, SchemaState},
    cluster::ClusterCheck,
    counted,
    flags::format_period,
    format_timestamp,
    token::Token,
};

use super::finding::{Finding, Level, in_bytes, in_words};
use crate::{args::ServeArgs, listeners::exposed_address};

/// The oldest version of PostgreSQL that has everything that the statements of this program use.
const VERSION_MIN: i32 = 140_000;

/// Clocks that NTP keeps differ by milliseconds.
const CLOCK_RISK: Duration = Duration::from_secs(2);

/// While a transaction is open, vacuum removes nothing that is newer.
const TRANSACTION_OLD: Duration = Duration::from_hours(1);

/// Summaries are made 5 to 20 minutes after the fact.
const SEALING_LATE: Duration = Duration::from_hours(1);

/// More dirty slices slow down queries noticeably.
const DIRTY_SLICES_MANY: u64 = 50_000;

/// WAL that an unused replication slot may keep: a fraction of the smallest disks.
const WAL_KEPT_MAX: u64 = 1 << 30;

/// The time in which the owner of a token should get a new one.
const TOKEN_SOON: Duration = Duration::from_hours(14 * 24);

pub(super) async fn findings(check: &DatabaseCheck, args: &ServeArgs) -> Vec<Finding> {
    let mut findings = vec![version(check), schema(check)];
    findings.extend(settings(check));
    findings.extend(check.cluster.as_ref().map(cluster).unwrap_or_default());
    findings.extend(connections(check));
    findings.extend(rights(check));
    findings.push(clock(check, args));
    findings.push(Finding::ok(
        "size",
        in_bytes(approximate(check.settings.database_bytes)),
    ));
    findings.extend(sealing(check));
    findings.extend(retention(check, args));
    findings.extend(transactions(check));
    findings.extend(tokens(&check.tokens, Utc::now()));
    if matches!(check.schema, SchemaState::Current) {
        findings.push(access(check, args).await);
    }
    findings
}

fn version(check: &DatabaseCheck) -> Finding {
    let DatabaseCheck {
        name, role, version, ..
    } = check;
    let fact = format!("{version}, the database {name:?} as the role {role:?}");
    if check.settings.version_number < VERSION_MIN {
        return Finding::wrong("PostgreSQL", fact, "Upgrade PostgreSQL to version 14 or later");
    }
    if check.is_pooled {
        let remedy =
            "Connect to PostgreSQL directly, or set the pooler to session mode (PgBouncer: pool_mode = session)";
        return Finding::wrong(
            "PostgreSQL",
            format!("{fact}, behind a pooler in transaction mode"),
            remedy,
        );
    }
    if check.is_standby {
        let remedy = "Nothing can be stored until it is promoted. Use the URL of the primary";
        return Finding::risk("PostgreSQL", format!("{fact}, a standby"), remedy);
    }
    Finding::ok("PostgreSQL", fact)
}

fn schema(check: &DatabaseCheck) -> Finding {
    match &check.schema {
        SchemaState::Current => Finding::ok("schema", "up to date"),
        SchemaState::Unusable(error) => Finding::wrong("schema", error.to_string(), ""),
        _ => Finding::wrong(
            "schema",
            "not up to date",
            "Run `health-server migrate` as the owner of the tables; a server that may do so migrates when it starts",
        ),
    }
}

fn settings(check: &DatabaseCheck) -> Vec<Finding> {
    let settings = &check.settings;
    let switch = |is_on: bool, name: &'static str, danger: &str| {
        if is_on {
            return Finding::ok(name, "on");
        }
        let remedy = format!("Set {name} = on, for instance with ALTER SYSTEM SET {name} = on, and reload PostgreSQL");
        Finding::wrong(name, format!("off: {danger}"), remedy)
    };
    let commit = settings.synchronous_commit.as_str();
    let commit = match commit {
        "off" | "local" => format!("{commit} by default; all sessions of this program use on"),
        _ => commit.to_owned(),
    };
    let encoding = if check.is_encoding_supported {
        Finding::ok("encoding", check.encoding.clone())
    } else {
        let remedy = "Move to a database in UTF8: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0";
        let fact = format!(
            "{}: some names of sources cannot be stored, and the server refuses to start",
            check.encoding
        );
        Finding::wrong("encoding", fact, remedy)
    };
    vec![
        switch(
            settings.fsync,
            "fsync",
            "a crash of the machine may lose or damage stored samples",
        ),
        switch(
            settings.full_page_writes,
            "full_page_writes",
            "a crash of the machine may damage pages",
        ),
        Finding::ok("synchronous_commit", commit),
        switch(
            settings.autovacuum,
            "autovacuum",
            "tables grow without end, queries get slower, and at last PostgreSQL refuses to write",
        ),
        encoding,
    ]
}

fn connections(check: &DatabaseCheck) -> Option<Finding> {
    let connections = check.connections?;
    let level = if connections.allowed < connections.needed {
        Level::Wrong
    } else if connections.allowed < connections.wanted {
        Level::Risk
    } else {
        Level::Ok
    };
    let fact = format!(
        "a server opens up to {} and needs at least {}; {} are allowed, {} are open now",
        connections.wanted, connections.needed, connections.allowed, connections.open
    );
    let remedy = "Raise max_connections or the limit of the role or the database, or lower --readers and --writers";
    Some(Finding::at(level, "connections", fact, remedy))
}

/// Says whether the cluster keeps the promises, or could.
fn cluster(cluster: &ClusterCheck) -> Vec<Finding> {
    let fact = format!("Citus {} with {}", cluster.version, counted(cluster.nodes, "node"));
    let mut findings = vec![match &cluster.refusal {
        Some(refusal) if cluster.is_distributed => Finding::wrong("cluster", format!("{fact}: {refusal}"), ""),
        Some(refusal) => Finding::risk(
            "cluster",
            format!("{fact}; the tables cannot be distributed: {refusal}"),
            "",
        ),
        None if !cluster.is_distributed => {
            let fact = format!("{fact}; the tables are not distributed, which `health-server distribute` does");
            Finding::ok("cluster", fact)
        }
        None if !cluster.missing.is_empty() => Finding::wrong(
            "cluster",
            format!("{fact}; only a part of the tables is distributed"),
            "Stop every server, and run `health-server distribute` as the owner of the tables",
        ),
        None => Finding::ok("cluster", format!("{fact}, the tables are distributed by user")),
    }];
    findings.extend(cluster.away.iter().map(|node| {
        let fact = format!("{node} does not answer: what belongs to its users is refused");
        let remedy = "Start PostgreSQL on this node, and look whether the coordinator may connect (pg_hba.conf, pg_dist_authinfo)";
        Finding::wrong("cluster", fact, remedy)
    }));
    findings.extend(cluster.few_prepared.iter().map(|node| {
        let fact = format!("{node} may prepare fewer transactions than the coordinator can have connections");
        Finding::risk(
            "cluster",
            fact,
            "Raise max_prepared_transactions there, and restart PostgreSQL",
        )
    }));
    findings
}

fn rights(check: &DatabaseCheck) -> Option<Finding> {
    if !matches!(check.schema, SchemaState::Current) {
        return None;
    }
    if check.missing_rights.is_empty() {
        return Some(Finding::ok("rights", "all that the server needs"));
    }
    let fact = format!("the role {:?} lacks {}", check.role, check.missing_rights.join("; "));
    let remedy = format!(
        "Let the owner run what `health-server migrate --print-grants {}` prints",
        check.role
    );
    Some(Finding::wrong("rights", fact, remedy))
}

fn clock(check: &DatabaseCheck, args: &ServeArgs) -> Finding {
    let difference = check.clock_ahead.abs().to_std().unwrap_or_default();
    let direction = if check.clock_ahead < chrono::TimeDelta::zero() {
        "behind"
    } else {
        "ahead of"
    };
    let max_future = args.core_limits.max_future.to_std().unwrap_or_default();
    let level = if difference > max_future {
        Level::Wrong
    } else if difference > CLOCK_RISK {
        Level::Risk
    } else {
        Level::Ok
    };
    let fact = if difference.is_zero() {
        "that of the database agrees with this machine's".to_owned()
    } else {
        format!(
            "that of the database is {} ms {direction} this machine's",
            difference.as_millis()
        )
    };
    Finding::at(
        level,
        "clock",
        fact,
        "Synchronise the clocks of both machines, for instance with chrony",
    )
}

fn sealing(check: &DatabaseCheck) -> Option<Finding> {
    let sealing = check.sealing?;
    let is_late = sealing.lag > SEALING_LATE || sealing.dirty_slices > DIRTY_SLICES_MANY;
    let level = if is_late { Level::Risk } else { Level::Ok };
    let fact = format!(
        "everything up to {} ago is summarised, {} wait to be summarised again",
        in_words(sealing.lag),
        counted(sealing.dirty_slices, "slice")
    );
    let remedy = "Answers stay exact, but get slower. If a server runs, look in its log for `summaries`";
    Some(Finding::at(level, "summaries", fact, remedy))
}

fn retention(check: &DatabaseCheck, args: &ServeArgs) -> Option<Finding> {
    let retain = args.core_limits.retain?;
    let late = check.users_with_old_samples?;
    let level = if late > 0 { Level::Risk } else { Level::Ok };
    let fact = if late > 0 {
        format!(
            "{} samples older than --retain {}",
            counted_users(late),
            format_period(retain)
        )
    } else {
        format!("samples older than {} are erased", format_period(retain))
    };
    let remedy = "Let a server run with this setting. If one does, look in its log for `retention`";
    Some(Finding::at(level, "retention", fact, remedy))
}

fn counted_users(users: usize) -> String {
    if users == 1 {
        "a user has".to_owned()
    } else {
        format!("{users} users or more have")
    }
}

fn transactions(check: &DatabaseCheck) -> Vec<Finding> {
    let mut findings = Vec::new();
    let oldest = check
        .oldest_transaction
        .as_ref()
        .filter(|oldest| oldest.age > TRANSACTION_OLD);
    findings.push(match oldest {
        None => Finding::ok("transactions", "none is open for long"),
        Some(oldest) => Finding::risk(
            "transactions",
            format!(
                "one of the role {:?} ({:?}, process {}) is open for {}: meanwhile vacuum removes nothing",
                oldest.role,
                oldest.application,
                oldest.pid,
                in_words(oldest.age)
            ),
            format!("End it: SELECT pg_terminate_backend({})", oldest.pid),
        ),
    });
    let prepared = &check.prepared;
    if prepared.count > 0 {
        let level = if prepared.oldest > TRANSACTION_OLD {
            Level::Risk
        } else {
            Level::Ok
        };
        let fact = format!(
            "{}, the oldest for {}",
            counted(prepared.count, "prepared one"),
            in_words(prepared.oldest)
        );
        let remedy = format!("If its program is gone: ROLLBACK PREPARED '{}'", prepared.name);
        findings.push(Finding::at(level, "transactions", fact, remedy));
    }
    if check.wal_kept_bytes > WAL_KEPT_MAX {
        findings.push(Finding::risk(
            "replication",
            format!(
                "a slot that nobody uses keeps {} of WAL",
                in_bytes(approximate(check.wal_kept_bytes))
            ),
            "Let its standby run, or drop the slot with pg_drop_replication_slot",
        ));
    }
    findings
}

fn tokens(tokens: &[Token], now: DateTime<Utc>) -> Vec<Finding> {
    let expiring = tokens.iter().filter_map(|token| {
        let at = token.expires_at?;
        let left = (at - now).to_std().unwrap_or_default();
        (left < TOKEN_SOON).then_some((token, at, left))
    });
    let finding = |(token, at, left): (&Token, DateTime<Utc>, Duration)| {
        let fact = if left.is_zero() {
            format!("{} expired on {}", token.name, format_timestamp(at))
        } else {
            format!(
                "{} expires on {}, in {}",
                token.name,
                format_timestamp(at),
                in_words(left)
            )
        };
        let remedy = format!(
            "Create another one, and revoke this one: health-server token revoke {}",
            token.name
        );
        Finding::risk("token", fact, remedy)
    };
    expiring.map(finding).collect()
}

/// Says how many tokens open something. Expired ones do not, but the server demands one as long as any exists.
fn tokens_in_force(tokens: &[Token], now: DateTime<Utc>) -> String {
    let is_expired = |token: &&Token| token.expires_at.is_some_and(|at| at <= now);
    let expired = tokens.iter().filter(is_expired).count();
    let in_force = counted(tokens.len() - expired, "token");
    if expired == 0 {
        format!("{in_force} in force")
    } else {
        format!("{in_force} in force, {expired} expired")
    }
}

/// Says who can reach the server.
async fn access(check: &DatabaseCheck, args: &ServeArgs) -> Finding {
    let exposed = exposed_address([("--http", &args.http), ("--feed", &args.feed)]).await;
    match exposed {
        _ if !check.tokens.is_empty() => Finding::ok("access", tokens_in_force(&check.tokens, Utc::now())),
        None => Finding::ok("access", "no token exists, and only this machine is served"),
        Some((flag, address)) if args.allow_anonymous => Finding::risk(
            "access",
            format!("every client that reaches {flag} {address} may read, write and erase all data"),
            "Create a token with `health-server token create --name NAME --scope ingest,read`",
        ),
        Some((flag, address)) => Finding::wrong(
            "access",
            format!("no token exists, so the server refuses to start at {flag} {address}"),
            "Create a token with `health-server token create --name NAME --scope ingest,read`",
        ),
    }
}

#[expect(clippy::cast_precision_loss, reason = "an approximate number for people")]
fn approximate(bytes: u64) -> f64 {
    bytes as f64
}
