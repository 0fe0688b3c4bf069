//! A pseudo-terminal that nobody reads.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::ioctl_fionread,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use super::{
    TIMEOUT,
    process::{Running, health_tui},
};

/// A terminal that takes no more for this long is full.
const FULL_AFTER: Duration = Duration::from_secs(1);

/// A program in a terminal that nobody reads, so that it fills up.
pub(crate) struct StoppedTerminal {
    master: File,
    terminal: OwnedFd,
    pub(crate) process: Running,
}

impl StoppedTerminal {
    pub(crate) fn open(arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap();
        let terminal = open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let size = Winsize {
            ws_row: 60,
            ws_col: 200,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&terminal, size).unwrap();
        let mut command = health_tui(arguments);
        command
            .current_dir(Path::new(env!("CARGO_TARGET_TMPDIR")))
            .stdin(terminal.try_clone().unwrap())
            .stdout(terminal.try_clone().unwrap())
            .stderr(terminal.try_clone().unwrap());
        let process = Running::start(command);
        Self {
            master: File::from(master),
            terminal,
            process,
        }
    }

    /// Asks for whole frames until the terminal takes no more.
    pub(crate) fn fill(&mut self) {
        let end = Instant::now() + TIMEOUT;
        let (mut waiting, mut grew_at) = (0, Instant::now());
        while waiting == 0 || grew_at.elapsed() < FULL_AFTER {
            assert!(Instant::now() < end, "the terminal never fills");
            // Ctrl-L. The terminal also limits what is typed and not read.
            self.master.write_all(b"\x0c").unwrap();
            let now = ioctl_fionread(&self.master).unwrap();
            if now != waiting {
                (waiting, grew_at) = (now, Instant::now());
            }
            thread::yield_now();
        }
    }

    pub(crate) fn write(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Returns whether the terminal shows what is typed, line by line, as a shell needs it.
    pub(crate) fn is_in_line_mode(&self) -> bool {
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Reads what the program has left in the terminal, up to `last`.
    pub(crate) fn left_until(&mut self, last: &str) -> String {
        let end = Instant::now() + TIMEOUT;
        let mut text = String::new();
        while !text.ends_with(last) {
            assert!(Instant::now() < end, "the terminal is not restored: {text:?}");
            let waiting = usize::try_from(ioctl_fionread(&self.master).unwrap()).unwrap();
            let mut bytes = vec![0; waiting];
            self.master.read_exact(&mut bytes).unwrap();
            text.push_str(&String::from_utf8_lossy(&bytes));
            thread::yield_now();
        }
        text
    }
}
