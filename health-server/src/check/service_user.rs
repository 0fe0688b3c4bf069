//! The user of the server, and the files that this user cannot read. Root, who may run the check, can read them all.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use health_core::embedded::{Options, UNPRIVILEGED_NAMES};
use rustix::{
    fs::{Access, access},
    process::{Gid, Uid, geteuid},
    thread::{set_thread_gid, set_thread_groups, set_thread_uid},
};

use super::finding::Finding;

const SUBJECT: &str = "files";

/// The user of a server.
#[derive(Debug)]
pub(super) struct ServiceUser {
    name: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    /// What tells that this is the user, as a clause.
    evidence: String,
}

/// A path that a user cannot read: the file itself, or a directory that leads to it.
#[derive(Debug)]
struct Closed {
    path: PathBuf,
    error: io::Error,
}

impl ServiceUser {
    /// Returns the user of the server on a data directory: of the one that runs, or else the owner of the directory.
    ///
    /// Returns `None` if this process is not root's, and if the user is root or not known.
    pub(super) fn of_data_dir(options: &Options) -> Option<Self> {
        if !geteuid().is_root() {
            return None;
        }
        let directory = options.resolve_data_dir().ok()?;
        let user = match options.server_process().and_then(Self::of_process) {
            Some(running) => running,
            None => Self::of_owner(&directory)?,
        };
        (!user.uid.is_root()).then_some(user)
    }

    fn of_process(process: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let numbers = |field: &str| -> Option<Vec<u32>> {
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            line.split_whitespace().map(|number| number.parse().ok()).collect()
        };
        // The second number is the effective id, by which the kernel decides.
        let uid = *numbers("Uid:")?.get(1)?;
        Some(Self {
            name: name(uid),
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(*numbers("Gid:")?.get(1)?),
            groups: numbers("Groups:")?.into_iter().map(Gid::from_raw).collect(),
            evidence: format!("as whom the server runs (process {process})"),
        })
    }

    fn of_owner(directory: &Path) -> Option<Self> {
        let metadata = fs::metadata(directory).ok()?;
        let (name, gid) = (name(metadata.uid()), metadata.gid());
        // One of these owns the data directory of a server that runs as root.
        if UNPRIVILEGED_NAMES.contains(&name.as_str()) {
            return None;
        }
        let groups = id(&["-G"], metadata.uid()).unwrap_or_else(|| gid.to_string());
        let groups = groups.split_whitespace().filter_map(|group| group.parse().ok());
        Some(Self {
            name,
            uid: Uid::from_raw(metadata.uid()),
            gid: Gid::from_raw(gid),
            groups: groups.map(Gid::from_raw).collect(),
            evidence: format!("who owns {}", directory.display()),
        })
    }

    /// Says which of the files the user cannot read. Each has a word for what it is. Leaves out those that root cannot
    /// read either: the check says more about them elsewhere.
    pub(super) fn findings<'a>(&self, files: impl IntoIterator<Item = (&'static str, &'a Path)>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut readable = Vec::new();
        for (what, path) in files.into_iter().filter(|(_, path)| File::open(path).is_ok()) {
            match self.closed(path) {
                Ok(None) => readable.push(what),
                Ok(Some(closed)) => findings.push(self.finding(what, path, &closed)),
                // A container may keep root from changing its user.
                Err(_) => return Vec::new(),
            }
        }
        if findings.is_empty() && !readable.is_empty() {
            let fact = format!(
                "the user {}, {}, can read: {}",
                self.name,
                self.evidence,
                readable.join(", ")
            );
            findings.push(Finding::ok(SUBJECT, fact));
        }
        findings
    }

    fn finding(&self, what: &str, path: &Path, closed: &Closed) -> Finding {
        let at = closed.path.display();
        let owner =
            fs::metadata(&closed.path).map_or_else(|error| error.to_string(), |metadata| owner_and_mode(&metadata));
        let is_file = closed.path == path;
        let (place, remedy) = if is_file {
            let group = id(&["-gn"], self.uid.as_raw()).unwrap_or_else(|| self.gid.as_raw().to_string());
            let remedy = format!("Let the user's group read it: `chgrp {group} {at} && chmod 640 {at}`");
            ("it".to_owned(), remedy)
        } else {
            let remedy =
                format!("Put the file into another directory, or let the user enter this one: `chmod o+x {at}`");
            (format!("the directory {at}"), remedy)
        };
        let fact = format!(
            "the user {}, {}, cannot read the {what} {}: {}; {place} {owner}",
            self.name,
            self.evidence,
            path.display(),
            closed.error
        );
        Finding::wrong(SUBJECT, fact, remedy)
    }

    /// Tries to open a file as this user. The kernel decides, so that access control lists count, too.
    fn closed(&self, path: &Path) -> rustix::io::Result<Option<Closed>> {
        let open = || {
            self.become_in_this_thread()?;
            let Err(error) = File::open(path) else { return Ok(None) };
            let mut directories: Vec<&Path> = path.ancestors().skip(1).filter(|path| *path != "").collect();
            directories.reverse();
            let closed = directories
                .into_iter()
                .find(|path| access(*path, Access::EXEC_OK).is_err());
            let path = closed.unwrap_or(path).to_owned();
            Ok(Some(Closed { path, error }))
        };
        // The thread ends as this user. The other threads stay root's.
        thread::scope(|scope| scope.spawn(open).join()).unwrap_or(Ok(None))
    }

    fn become_in_this_thread(&self) -> rustix::io::Result<()> {
        set_thread_groups(&self.groups)?;
        set_thread_gid(self.gid)?;
        set_thread_uid(self.uid)
    }
}

/// `belongs to root (group 0), mode 0600`
fn owner_and_mode(metadata: &Metadata) -> String {
    let (owner, group) = (name(metadata.uid()), metadata.gid());
    format!(
        "belongs to {owner} (group {group}), mode {:04o}",
        metadata.mode() & 0o7777
    )
}

/// Returns the name of a user, or the number of one without a name.
fn name(uid: u32) -> String {
    id(&["-un"], uid).unwrap_or_else(|| uid.to_string())
}

/// Asks the system's user database, which need not be `/etc/passwd`.
fn id(arguments: &[&str], uid: u32) -> Option<String> {
    let mut command = Command::new("id");
    command.args(arguments).arg(uid.to_string()).stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
