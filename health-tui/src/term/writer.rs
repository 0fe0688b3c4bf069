//! The thread that writes to the terminal.
//!
//! A terminal may stop reading: the user stopped it, its program hangs, or a connection is stuck. Then a write does not
//! return. The event loop must go on meanwhile, because it also obeys signals.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    stdio::stdout,
    termios::{Action, QueueSelector, tcflow, tcflush},
};
use tokio::sync::Notify;

/// The largest write. Between two writes the thread can give the rest up.
const CHUNK_BYTES: usize = 4096;

/// More is not accepted while the terminal reads nothing. A frame of a very large terminal is smaller.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A terminal that takes nothing for this long counts as stopped when the program ends.
const STALL_TIMEOUT: Duration = Duration::from_millis(500);

/// Ends an escape sequence that was cut off (CAN of ECMA-48).
const CANCEL: u8 = 0x18;

/// The writer of this process. There is one, because there is one terminal.
pub(super) fn writer() -> &'static TerminalWriter {
    static WRITER: OnceLock<TerminalWriter> = OnceLock::new();
    WRITER.get_or_init(|| TerminalWriter::start(|bytes| Ok(rustix::io::write(stdout(), bytes)?), wake_blocked_write))
}

/// What waits to be written.
#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Whether the thread is writing something that is no longer in `waiting`.
    is_writing: bool,
    /// Counts the writes, so that a slow terminal can be told from a stopped one.
    progress: u64,
    /// The thread must give up what it is writing.
    is_abandoned: bool,
    error: Option<io::ErrorKind>,
}

struct Shared {
    state: Mutex<State>,
    /// Something changed that the thread, or a thread that waits for it, wants to know.
    changed: Condvar,
    /// Everything is written.
    idle: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct TerminalWriter {
    shared: Arc<Shared>,
    /// Discards what the terminal has not read, so that a blocked write returns.
    unblock: Box<dyn Fn() + Send + Sync>,
}

impl TerminalWriter {
    fn start(
        write: impl Fn(&[u8]) -> io::Result<usize> + Send + 'static,
        unblock: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            idle: Notify::new(),
        });
        let of_thread = shared.clone();
        thread::spawn(move || run(&of_thread, write));
        Self {
            shared,
            unblock: Box::new(unblock),
        }
    }

    /// Returns whether everything is written.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.shared.state();
        state.waiting.is_empty() && !state.is_writing
    }

    /// Resolves when everything is written.
    pub(super) async fn idle(&self) {
        loop {
            let idle = self.shared.idle.notified();
            if self.is_idle() {
                return;
            }
            idle.await;
        }
    }

    /// Adds bytes to those that wait. Fails if writing has failed, or if too many bytes wait.
    pub(super) fn push(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.shared.state();
        if let Some(kind) = state.error {
            return Err(kind.into());
        }
        if state.waiting.len() + bytes.len() > WAITING_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "the terminal does not read"));
        }
        state.waiting.extend_from_slice(bytes);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Waits until everything is written, or until the terminal is found to be stopped. Returns whether all is written.
    pub(super) fn drain(&self) -> bool {
        let mut state = self.shared.state();
        let (mut progress, mut deadline) = (state.progress, Instant::now() + STALL_TIMEOUT);
        while state.is_writing || !state.waiting.is_empty() {
            if state.progress != progress {
                (progress, deadline) = (state.progress, Instant::now() + STALL_TIMEOUT);
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return false;
            };
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Writes the last bytes. If the terminal is stopped, they replace everything that it has not read, and take effect
    /// when it reads again.
    pub(super) fn finish(&self, bytes: &[u8]) {
        if self.push(bytes).is_ok() && self.drain() {
            return;
        }
        {
            let mut state = self.shared.state();
            state.is_abandoned = true;
            state.waiting.clear();
            state.waiting.push(CANCEL);
            state.waiting.extend_from_slice(bytes);
            self.shared.changed.notify_all();
        }
        (self.unblock)();
        self.drain();
    }
}

/// Lets a write return that waits for the terminal to read.
fn wake_blocked_write() {
    // If stdout is no terminal any more, there is nothing to discard.
    _ = tcflush(stdout(), QueueSelector::OFlush);
    // Discarding alone does not wake the write. Starting the output does, if it was stopped.
    _ = tcflow(stdout(), Action::OOff);
    _ = tcflow(stdout(), Action::OOn);
}

fn run(shared: &Shared, write: impl Fn(&[u8]) -> io::Result<usize>) {
    let mut bytes = Vec::new();
    loop {
        let mut state = shared.state();
        while state.waiting.is_empty() {
            state = shared.wait(state);
        }
        std::mem::swap(&mut bytes, &mut state.waiting);
        state.is_writing = true;
        state.is_abandoned = false;
        drop(state);
        let result = write_chunks(shared, &bytes, &write);
        bytes.clear();
        let mut state = shared.state();
        state.is_writing = false;
        if let Err(error) = result {
            state.error = Some(error.kind());
            state.waiting.clear();
        }
        let is_idle = state.waiting.is_empty();
        drop(state);
        shared.changed.notify_all();
        if is_idle {
            shared.idle.notify_waiters();
        }
    }
}

fn write_chunks(shared: &Shared, bytes: &[u8], write: impl Fn(&[u8]) -> io::Result<usize>) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match write(&rest[..rest.len().min(CHUNK_BYTES)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another program has switched the terminal to writes that do not wait.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error),
        }
        let mut state = shared.state();
        state.progress += 1;
        if state.is_abandoned {
            return Ok(());
        }
        shared.changed.notify_all();
    }
    Ok(())
}

/// Passes what is written to it to the thread.
#[derive(Debug)]
pub(crate) struct TerminalOutput;

impl Write for TerminalOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        writer().push(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A writer to a terminal that takes one write for each permit, the sender of permits, and the writes that it took.
    /// When the terminal is told to discard what it has not read, it gets `permits_after_discard`.
    fn stopped_writer(permits_after_discard: usize) -> (TerminalWriter, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
        let (permit, permits) = mpsc::channel();
        let of_discard = permit.clone();
        let unblock = move || (0..permits_after_discard).for_each(|_| of_discard.send(()).unwrap());
        let (took, taken) = mpsc::channel();
        let write = move |bytes: &[u8]| {
            permits.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            took.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        };
        (TerminalWriter::start(write, unblock), permit, taken)
    }

    /// Waits until the thread has begun to write everything that waited.
    fn wait_until_taken(writer: &TerminalWriter) {
        while !writer.shared.state().waiting.is_empty() {
            thread::yield_now();
        }
    }

    #[tokio::test]
    async fn a_stopped_terminal_blocks_nobody_and_memory_stays_bounded() {
        let (writer, permit, taken) = stopped_writer(0);
        let frame = vec![b'x'; WAITING_BYTES_MAX / 4];
        let fill = || {
            for _ in 0..4 {
                writer.push(&frame).unwrap();
            }
        };
        // The thread blocks on the first byte. When the terminal has taken that, the thread blocks on all four frames.
        writer.push(b"x").unwrap();
        wait_until_taken(&writer);
        fill();
        permit.send(()).unwrap();
        wait_until_taken(&writer);
        // Four frames are being written and four wait, which is the most.
        fill();
        for _ in 0..10 {
            assert_eq!(writer.push(&frame).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        assert!(!writer.is_idle());
        assert!(!writer.drain());
        // The terminal reads again.
        for _ in 0..2 * WAITING_BYTES_MAX / CHUNK_BYTES {
            permit.send(()).unwrap();
        }
        writer.idle().await;
        assert!(writer.is_idle() && writer.drain());
        let written: usize = taken.try_iter().map(|bytes| bytes.len()).sum();
        assert_eq!(written, 1 + 8 * frame.len());
    }

    #[test]
    fn the_last_bytes_replace_a_frame_that_a_stopped_terminal_does_not_take() {
        // The write that is blocked returns when the terminal discards what it has not read. Another one is possible
        // after it.
        let (writer, _permit, taken) = stopped_writer(2);
        writer.push(&vec![b'x'; 100_000]).unwrap();
        wait_until_taken(&writer);
        writer.finish(b"restored");
        assert_eq!(taken.recv().unwrap(), [b'x'; CHUNK_BYTES]);
        assert_eq!(taken.recv().unwrap(), b"\x18restored");
        assert!(taken.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_closed_terminal_is_an_error() {
        let (writer, permit, taken) = stopped_writer(0);
        drop(taken);
        permit.send(()).unwrap();
        writer.push(b"x").unwrap();
        writer.idle().await;
        assert_eq!(writer.push(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
