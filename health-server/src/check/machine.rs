//! What the machine and its files say: certificate, disk, backups, open files.

use std::{path::Path, time::Duration};

use chrono::{DateTime, Utc};
use health_core::{backup::last_backup, check::Growth, format_timestamp};

use super::finding::{Finding, Level, in_bytes, in_words};
use crate::{args::ServeArgs, descriptors::shortage, tls::ServerTls};

/// A certificate that expires sooner should have been renewed by now: usual tools renew a month before.
const CERTIFICATE_SOON: Duration = Duration::from_hours(21 * 24);

/// After this, clients refuse the certificate before most people have reacted.
const CERTIFICATE_NOW: Duration = Duration::from_hours(3 * 24);

/// A backup that is older loses more than most people accept.
const BACKUP_OLD: Duration = Duration::from_hours(7 * 24);

/// The share of the disk that PostgreSQL needs for its WAL and for rewriting indexes.
const FREE_SHARE_MIN: f64 = 0.1;
const FREE_SHARE_WRONG: f64 = 0.02;

/// The time in which an operator gets more disk.
const DISK_LASTS_MIN: Duration = Duration::from_hours(14 * 24);

/// Says whether the certificate can be used, and how long.
pub(super) fn certificate(args: &ServeArgs) -> Option<Finding> {
    let subject = "certificate";
    let (certificate, key) = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return None,
        _ => {
            let remedy = "Set --tls-cert and --tls-key, or neither";
            return Some(Finding::wrong(
                subject,
                "only one of the certificate and its key is set",
                remedy,
            ));
        }
    };
    Some(match ServerTls::load(certificate, key) {
        Err(error) => Finding::wrong(subject, error.to_string(), ""),
        Ok(tls) => expiry(
            subject,
            tls.status().expires_at,
            Utc::now(),
            CERTIFICATE_SOON,
            CERTIFICATE_NOW,
        ),
    })
}

fn expiry(subject: &'static str, at: DateTime<Utc>, now: DateTime<Utc>, soon: Duration, urgent: Duration) -> Finding {
    let remedy = "Renew it, and send SIGHUP to the server";
    let left = (at - now).to_std().unwrap_or_default();
    let level = match left {
        left if left < urgent => Level::Wrong,
        left if left < soon => Level::Risk,
        _ => Level::Ok,
    };
    let fact = if left.is_zero() {
        format!("expired on {}: clients refuse it", format_timestamp(at))
    } else {
        format!("valid until {}, for {}", format_timestamp(at), in_words(left))
    };
    Finding::at(level, subject, fact, remedy)
}

/// Says how old the last backup of a data directory is.
pub(super) fn backup(data_dir: &Path) -> Finding {
    let remedy = "Run `health-server backup DIR` regularly, and keep copies on another machine";
    match last_backup(data_dir) {
        None => Finding::risk("backup", "none was made", remedy),
        Some(last) => {
            let age = (Utc::now() - last.finished_at).to_std().unwrap_or_default();
            let level = if age > BACKUP_OLD { Level::Risk } else { Level::Ok };
            let fact = format!("the last one is {} old, in {}", in_words(age), last.directory.display());
            Finding::at(level, "backup", fact, remedy)
        }
    }
}

/// Says how much of the disk is free, and how long that lasts.
pub(super) fn disk(data_dir: &Path, growth: Option<Growth>) -> Option<Finding> {
    let disk = rustix::fs::statvfs(data_dir).ok()?;
    #[expect(clippy::cast_precision_loss, reason = "an approximate number for people")]
    let (free, total) = (
        (disk.f_bavail * disk.f_frsize) as f64,
        (disk.f_blocks * disk.f_frsize) as f64,
    );
    Some(disk_finding(free, total, growth.map(|growth| growth.bytes_per_day)))
}

fn disk_finding(free: f64, total: f64, bytes_per_day: Option<f64>) -> Finding {
    let share = if total > 0.0 { free / total } else { 0.0 };
    let days = bytes_per_day.filter(|bytes| *bytes >= 1.0).map(|bytes| free / bytes);
    let lasts = days.unwrap_or(f64::INFINITY);
    let level = if share < FREE_SHARE_WRONG || lasts < 1.0 {
        Level::Wrong
    } else if share < FREE_SHARE_MIN || lasts < DISK_LASTS_MIN.as_secs_f64() / 86_400.0 {
        Level::Risk
    } else {
        Level::Ok
    };
    let growth = match (bytes_per_day, days) {
        (Some(bytes), Some(days)) => format!(
            ", and {} a day are written, which lasts {days:.0} days",
            in_bytes(bytes)
        ),
        _ => ", and too little was written to tell the growth".to_owned(),
    };
    let fact = format!(
        "{} of {} are free ({:.0} %){growth}",
        in_bytes(free),
        in_bytes(total),
        share * 100.0
    );
    Finding::at(level, "disk", fact, "Enlarge the disk, or erase what is not needed")
}

/// Says whether the system allows the open files that the limits need.
pub(super) fn open_files(args: &ServeArgs) -> Option<Finding> {
    let (available, needed) = shortage(&args.core_limits)?;
    Some(Finding::wrong(
        "open files",
        format!("the system allows {available}, and the server needs at least {needed}"),
        "Raise the limit with `ulimit -n`, or lower --readers and --writers",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_a_risk_before_it_is_wrong() {
        let now = DateTime::UNIX_EPOCH;
        let level = |days| {
            let at = now + chrono::TimeDelta::days(days);
            expiry("certificate", at, now, CERTIFICATE_SOON, CERTIFICATE_NOW).level
        };
        assert_eq!(
            [90, 22, 20, 4, 2, -1].map(level),
            [
                Level::Ok,
                Level::Ok,
                Level::Risk,
                Level::Risk,
                Level::Wrong,
                Level::Wrong
            ]
        );
    }

    #[test]
    fn the_disk_is_judged_by_its_share_and_by_its_growth() {
        let gib = 1024.0 * 1024.0 * 1024.0;
        assert_eq!(disk_finding(50.0 * gib, 100.0 * gib, Some(gib)).level, Level::Ok);
        assert_eq!(
            disk_finding(50.0 * gib, 100.0 * gib, Some(5.0 * gib)).level,
            Level::Risk
        );
        assert_eq!(
            disk_finding(50.0 * gib, 100.0 * gib, Some(60.0 * gib)).level,
            Level::Wrong
        );
        assert_eq!(disk_finding(5.0 * gib, 100.0 * gib, None).level, Level::Risk);
        assert_eq!(disk_finding(gib, 100.0 * gib, None).level, Level::Wrong);
    }
}
