//! What the user types. A thread waits for it, and reads only what has arrived.

use std::{
    collections::VecDeque,
    io::{self, PipeReader, PipeWriter, pipe},
    os::fd::AsFd,
    thread,
    time::Duration,
};

use crossterm::event::Event;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::term::decoder::Decoder;

/// How long the rest of an escape sequence may take. After that, Escape was a key. A network rarely cuts a sequence in
/// two, and a shorter pause than this cannot be noticed.
const SEQUENCE_TIMEOUT: Duration = Duration::from_millis(25);

/// How long the rest of a pasted text may take.
const PASTE_TIMEOUT: Duration = Duration::from_secs(2);

const READ_BYTES: usize = 4096;

/// The number of reads that wait for the event loop. While it is full, the terminal keeps what is typed.
const READS_MAX: usize = 16;

pub(crate) struct TerminalInput {
    reads: mpsc::Receiver<io::Result<Vec<u8>>>,
    decoder: Decoder,
    events: VecDeque<Event>,
    /// When an incomplete sequence ends.
    deadline: Option<Instant>,
    /// Closing it ends the thread, which otherwise would take the first key after the dashboard.
    _stop: PipeWriter,
}

impl TerminalInput {
    pub(crate) fn stdin() -> io::Result<Self> {
        let (stopped, stop) = pipe()?;
        let (to, reads) = mpsc::channel(READS_MAX);
        thread::spawn(move || read(&io::stdin(), &stopped, &to));
        Ok(Self {
            reads,
            decoder: Decoder::default(),
            events: VecDeque::new(),
            deadline: None,
            _stop: stop,
        })
    }

    /// Returns the next event. Fails when the terminal is closed. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            tokio::select! {
                read = self.reads.recv() => {
                    let bytes = read.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
                    self.decoder.add(&bytes);
                }
                () = sleep_until(self.deadline.unwrap_or_else(Instant::now)), if self.deadline.is_some() => {
                    self.events.extend(self.decoder.time_out());
                }
            }
            while let Some(event) = self.decoder.next_event() {
                self.events.push_back(event);
            }
            self.deadline = self.decoder.is_incomplete().then(|| {
                let timeout = if self.decoder.is_in_paste() {
                    PASTE_TIMEOUT
                } else {
                    SEQUENCE_TIMEOUT
                };
                Instant::now() + timeout
            });
        }
    }
}

/// Reads until the terminal is closed, or until the other end of `stopped` is.
fn read(terminal: &impl AsFd, stopped: &PipeReader, to: &mpsc::Sender<io::Result<Vec<u8>>>) {
    loop {
        let mut fds = [
            PollFd::new(terminal, PollFlags::IN),
            PollFd::new(stopped, PollFlags::IN),
        ];
        let polled = poll(&mut fds, None);
        if !fds[1].revents().is_empty() {
            return;
        }
        let read = match polled {
            Ok(_) if fds[0].revents().is_empty() => continue,
            Ok(_) => read_once(terminal),
            Err(error) => Err(error),
        };
        let read = match read {
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => continue,
            read => read.map_err(io::Error::from),
        };
        let is_closed = read.as_ref().map_or(true, Vec::is_empty);
        if is_closed || to.blocking_send(read).is_err() {
            return;
        }
    }
}

fn read_once(terminal: &impl AsFd) -> rustix::io::Result<Vec<u8>> {
    let mut bytes = vec![0; READ_BYTES];
    let count = rustix::io::read(terminal, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_reader_ends_with_the_terminal_and_with_the_dashboard_and_takes_no_key_after_it() {
        let (terminal, user) = pipe().unwrap();
        let (stopped, stop) = pipe().unwrap();
        let (to, mut reads) = mpsc::channel(READS_MAX);
        let thread = thread::spawn(move || {
            read(&terminal, &stopped, &to);
            terminal
        });
        rustix::io::write(&user, b"abc").unwrap();
        assert_eq!(reads.recv().await.unwrap().unwrap(), b"abc");
        drop(stop);
        let terminal = thread.join().unwrap();
        rustix::io::write(&user, b"q").unwrap();
        assert_eq!(read_once(&terminal).unwrap(), b"q");

        let (stopped, _stop) = pipe().unwrap();
        let (to, mut reads) = mpsc::channel(READS_MAX);
        drop(user);
        read(&terminal, &stopped, &to);
        drop(to);
        assert!(reads.recv().await.is_none());
    }
}
