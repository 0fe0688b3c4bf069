//! A program that ends when this process ends, even if this process is killed.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, PipeWriter, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ExitStatus, Stdio},
};

use tokio::{process::Command, sync::watch};

use crate::embedded::{error::EmbeddedError, os_user::OsUser, program_environment::program_environment};

/// A shell script that runs `"$@"` and waits for it, while a second shell reads signals from a pipe.
///
/// Each line of the pipe is the name of a signal to send to the program. The end of the pipe means SIGINT. If this
/// process is killed, the kernel closes the pipe.
///
/// SIGINT is sent every second until the program has ended. A program that has just begun loses it: it inherits from
/// the shells that the signal is ignored, until it installs its handler.
///
/// `PR_SET_PDEATHSIG` is no replacement: it fires when the *thread* that spawned the program ends, and macOS lacks it.
///
/// * The lock comes in as standard output and is passed on as descriptor 9. So none of our own descriptors is ever
///   inheritable, even while other threads start programs.
/// * Only the program inherits the lock, neither shell does. So the lock is free as soon as the program and its
///   children have ended.
/// * A process manager may signal the whole process group. The shells ignore these signals, because this process
///   decides when PostgreSQL ends.
/// * `$1` is a directory to remove after success, `$2` a directory to remove after failure. Both may be empty.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
succeeded=$1 failed=$2; shift 2
exec 8<&0 9>&1 1>&2 </dev/null
"$@" 8<&- &
program=$!
exec 9>&-
(while read -r signal; do kill -"$signal" $program; done
while kill -INT $program 2>/dev/null; do sleep 1; done) <&8 8<&- &
reader=$!
exec 8<&-
wait $program; status=$?
exec 2>/dev/null
kill -KILL $reader; wait $reader
if [ $status = 0 ]; then remove=$succeeded; else remove=$failed; fi
[ -z "$remove" ] || rm -rf "$remove"
exit $status
"#;

/// A program with everything that is needed to run it under a [`Watchdog`].
#[derive(Debug)]
pub(crate) struct SupervisedCommand<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: &'a [OsString],
    pub(crate) user: &'a OsUser,
    /// A locked file. The program and all its children inherit the lock.
    pub(crate) lock: &'a File,
    /// The file for the program's output. A pipe would break if this process is killed.
    pub(crate) log: &'a File,
    /// A directory that is removed if the program succeeds.
    pub(crate) remove_after_success: Option<&'a Path>,
    /// A directory that is removed if the program fails.
    pub(crate) remove_after_failure: Option<&'a Path>,
}

/// A running program. Dropping it sends SIGINT to the program.
#[derive(Debug)]
pub(crate) struct Watchdog {
    signals: PipeWriter,
    status: watch::Receiver<Option<ExitStatus>>,
}

impl SupervisedCommand<'_> {
    pub(crate) fn spawn(&self) -> Result<Watchdog, EmbeddedError> {
        self.try_spawn().map_err(EmbeddedError::io("run", self.program))
    }

    fn try_spawn(&self) -> io::Result<Watchdog> {
        let (reader, signals) = io::pipe()?;
        let path_or_empty = |directory: Option<&Path>| directory.map(Path::as_os_str).unwrap_or_default().to_owned();
        let mut command = std::process::Command::new("/bin/sh");
        command
            .args([OsStr::new("-c"), OsStr::new(SCRIPT), OsStr::new("sh")])
            .args([
                path_or_empty(self.remove_after_success),
                path_or_empty(self.remove_after_failure),
            ])
            .arg(self.program)
            .args(self.arguments)
            .env_clear()
            .envs(program_environment())
            .stdin(Stdio::from(reader))
            .stdout(Stdio::from(self.lock.try_clone()?))
            .stderr(Stdio::from(self.log.try_clone()?));
        self.user.apply_to(&mut command);
        let mut command = Command::from(command);
        // Ctrl-C at the terminal must not reach PostgreSQL: this process first stores what it has accepted.
        let mut child = command.process_group(0).spawn()?;
        let (status_sender, status) = watch::channel(None);
        tokio::spawn(async move {
            let status = child.wait().await.map(program_status).unwrap_or_default();
            // The receiver is gone if the watchdog was dropped.
            let _ = status_sender.send(Some(status));
        });
        Ok(Watchdog { signals, status })
    }
}

impl Watchdog {
    /// Waits until the program has ended. Returns `None` if the runtime that started the program is gone.
    pub(crate) async fn ended(&self) -> Option<ExitStatus> {
        let mut status = self.status.clone();
        status.wait_for(Option::is_some).await.ok().and_then(|status| *status)
    }

    /// Returns where the exit status of the program appears when it has ended.
    pub(crate) fn status(&self) -> watch::Receiver<Option<ExitStatus>> {
        self.status.clone()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.status.borrow().is_some()
    }

    /// Sends a signal, given by its name without `SIG`. Does nothing if the program has ended.
    pub(crate) fn signal(&self, name: &str) {
        let _ = writeln!(&self.signals, "{name}");
    }
}

/// Converts the status of the shell to that of the program. A shell exits with 128 plus the number of the signal that
/// ended its child.
fn program_status(shell: ExitStatus) -> ExitStatus {
    match shell.code() {
        Some(code) if code > 128 => ExitStatus::from_raw(code - 128),
        _ => shell,
    }
}
