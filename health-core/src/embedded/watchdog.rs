//! A program that ends when we end, however that happens.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, PipeWriter, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ExitStatus, Stdio},
};

use tokio::{process::Command, sync::watch};

use crate::embedded::{account::Account, error::EmbeddedError};

/// Runs `"$@"` and waits for it, while a second shell reads a pipe from us: each line is the name of a signal to send on, and the
/// pipe's end, which the kernel brings about when we are killed, means SIGINT.
///
/// `PR_SET_PDEATHSIG` would not do: it fires when the *thread* that spawned ends, and macOS does not have it. Details:
///
/// * The lock comes in as standard output and goes on as descriptor 9, so that no descriptor of ours ever has to be
///   inheritable: other threads may be starting programs at the same time.
/// * Only the program keeps the lock. Neither shell does, so the lock is free the moment the program and its children are gone.
/// * A process manager may signal the whole group; the shells ignore that, and leave it to us to say when to end.
/// * `$1` is a directory to remove when the program succeeded, `$2` one to remove when it did not.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
succeeded=$1 failed=$2; shift 2
exec 8<&0 9>&1 1>&2 </dev/null
"$@" 8<&- &
program=$!
exec 9>&-
(while read -r signal; do kill -"$signal" $program; done; kill -INT $program) <&8 8<&- &
reader=$!
exec 8<&-
wait $program; status=$?
exec 2>/dev/null
kill -KILL $reader; wait $reader
if [ $status = 0 ]; then remove=$succeeded; else remove=$failed; fi
[ -z "$remove" ] || rm -rf "$remove"
exit $status
"#;

/// Variables that a program may need to find its libraries and tools. All others are kept from it.
const VARIABLES: [&str; 3] = ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"];

/// How to run a program under the watchdog.
#[derive(Debug)]
pub(crate) struct Watched<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: &'a [OsString],
    pub(crate) account: &'a Account,
    /// Inherited by the program and everything it starts.
    pub(crate) lock: &'a File,
    /// Takes what the program prints. A file: a pipe would break when we die.
    pub(crate) log: &'a File,
    /// Removed when the program has succeeded.
    pub(crate) remove_after_success: Option<&'a Path>,
    /// Removed when the program has failed.
    pub(crate) remove_after_failure: Option<&'a Path>,
}

/// A running program. Dropping it sends SIGINT.
#[derive(Debug)]
pub(crate) struct Watchdog {
    pipe: PipeWriter,
    ended: watch::Receiver<Option<ExitStatus>>,
}

impl Watched<'_> {
    pub(crate) fn spawn(&self) -> Result<Watchdog, EmbeddedError> {
        self.try_spawn().map_err(EmbeddedError::io("run", self.program))
    }

    fn try_spawn(&self) -> io::Result<Watchdog> {
        let (reader, pipe) = io::pipe()?;
        let removed = |directory: Option<&Path>| directory.map(Path::as_os_str).unwrap_or_default().to_owned();
        let mut command = std::process::Command::new("/bin/sh");
        command
            .args([OsStr::new("-c"), OsStr::new(SCRIPT), OsStr::new("sh")])
            .args([removed(self.remove_after_success), removed(self.remove_after_failure)])
            .arg(self.program)
            .args(self.arguments)
            .env_clear()
            .envs(VARIABLES.iter().filter_map(|name| Some((name, env::var_os(name)?))))
            .env("LC_ALL", "C")
            .stdin(Stdio::from(reader))
            .stdout(Stdio::from(self.lock.try_clone()?))
            .stderr(Stdio::from(self.log.try_clone()?));
        self.account.apply(&mut command);
        let mut command = Command::from(command);
        // Ctrl-C at the terminal is for us: we stop PostgreSQL when what is under way is stored.
        let mut child = command.process_group(0).spawn()?;
        let (tell, ended) = watch::channel(None);
        tokio::spawn(async move {
            let status = child.wait().await.map(of_the_program).unwrap_or_default();
            // Nobody listens any more where the watchdog was dropped.
            let _ = tell.send(Some(status));
        });
        Ok(Watchdog { pipe, ended })
    }
}

impl Watchdog {
    /// Resolves when the program has ended; at once where it already has. `None`: the runtime it was started on is gone.
    pub(crate) async fn ended(&self) -> Option<ExitStatus> {
        let mut ended = self.ended.clone();
        ended.wait_for(Option::is_some).await.ok().and_then(|status| *status)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Sends a signal, by its name without `SIG`. One that comes too late is no error.
    pub(crate) fn signal(&self, name: &str) {
        let _ = writeln!(&self.pipe, "{name}");
    }
}

/// A shell says 128 and the signal's number where a signal ended its child.
fn of_the_program(shell: ExitStatus) -> ExitStatus {
    match shell.code() {
        Some(code) if code > 128 => ExitStatus::from_raw(code - 128),
        _ => shell,
    }
}
