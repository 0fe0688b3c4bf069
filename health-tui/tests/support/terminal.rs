//! A pseudo-terminal whose screen a test can read.

use std::{
    io::{Read, Write},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};

use super::TIMEOUT;

/// The text that the program copied to the clipboard, in base64.
#[derive(Default)]
struct Clipboard(Option<String>);

impl vt100::Callbacks for Clipboard {
    fn copy_to_clipboard(&mut self, _: &mut vt100::Screen, _kind: &[u8], data: &[u8]) {
        self.0 = Some(String::from_utf8_lossy(data).into_owned());
    }
}

/// A program in a pseudo-terminal of its own.
pub(crate) struct Terminal {
    shared: Arc<(Mutex<vt100::Parser<Clipboard>>, Condvar)>,
    master: Box<dyn MasterPty + Send>,
    write: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    /// The number of bytes that the program has written.
    written: Arc<AtomicU64>,
    /// Ends when all output has been read.
    reading: thread::JoinHandle<()>,
}

impl Terminal {
    pub(crate) fn open(command: CommandBuilder, columns: u16, rows: u16) -> Self {
        let size = PtySize {
            rows,
            cols: columns,
            pixel_width: 0,
            pixel_height: 0,
        };
        let pair = native_pty_system().openpty(size).unwrap();
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let shared = Arc::new((
            Mutex::new(vt100::Parser::new_with_callbacks(
                rows,
                columns,
                200,
                Clipboard::default(),
            )),
            Condvar::new(),
        ));
        let mut reader = pair.master.try_clone_reader().unwrap();
        let to = shared.clone();
        let written = Arc::new(AtomicU64::new(0));
        let count = written.clone();
        let reading = thread::spawn(move || {
            let mut bytes = vec![0; 65_536];
            while let Ok(n @ 1..) = reader.read(&mut bytes) {
                count.fetch_add(u64::try_from(n).unwrap(), Ordering::Relaxed);
                to.0.lock().unwrap().process(&bytes[..n]);
                to.1.notify_all();
            }
        });
        let write = pair.master.take_writer().unwrap();
        Self {
            shared,
            master: pair.master,
            write,
            child,
            written,
            reading,
        }
    }

    pub(crate) fn send(&mut self, keys: &str) {
        self.write.write_all(keys.as_bytes()).unwrap();
        self.write.flush().unwrap();
    }

    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        self.shared.0.lock().unwrap().screen_mut().set_size(rows, columns);
        let size = PtySize {
            rows,
            cols: columns,
            pixel_width: 0,
            pixel_height: 0,
        };
        self.master.resize(size).unwrap();
    }

    /// Waits until `holds` is true of the screen.
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn(&vt100::Screen) -> bool) {
        let end = Instant::now() + TIMEOUT;
        let mut parser = self.shared.0.lock().unwrap();
        while !holds(parser.screen()) {
            let left = end.checked_duration_since(Instant::now());
            let left = left.unwrap_or_else(|| panic!("timed out: {what}\n{}", parser.screen().contents()));
            parser = self.shared.1.wait_timeout(parser, left).unwrap().0;
        }
    }

    pub(crate) fn wait_for(&self, text: &str) {
        self.wait_until(text, |screen| screen.contents().contains(text));
    }

    /// Waits until the program copies text to the clipboard. Returns it in base64.
    pub(crate) fn wait_for_copy(&self) -> String {
        let end = Instant::now() + TIMEOUT;
        let mut parser = self.shared.0.lock().unwrap();
        loop {
            if let Some(copied) = parser.callbacks_mut().0.take() {
                return copied;
            }
            let left = end.checked_duration_since(Instant::now()).expect("nothing was copied");
            parser = self.shared.1.wait_timeout(parser, left).unwrap().0;
        }
    }

    /// Clicks on a cell. The first cell is (0, 0).
    pub(crate) fn click(&mut self, column: u16, row: u16) {
        self.send(&format!("\x1b[<0;{};{}M\x1b[<0;{0};{1}m", column + 1, row + 1));
    }

    /// Returns the number of bytes that the program has written so far.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.process_id().unwrap()
    }

    /// Returns what `look` reads from the present screen.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.shared.0.lock().unwrap().screen())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let process = i32::try_from(self.process_id()).unwrap();
        kill_process(Pid::from_raw(process).unwrap(), signal).unwrap();
    }

    /// Waits until the kernel reports that the process is stopped.
    pub(crate) fn wait_until_stopped(&self) {
        let end = Instant::now() + TIMEOUT;
        while !self.is_stopped() {
            assert!(Instant::now() < end, "timed out: the process is not stopped");
            thread::yield_now();
        }
    }

    fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process_id())).unwrap();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    }

    /// Waits for the end of the program and checks that it restored the terminal. Returns the exit status and the
    /// screen.
    pub(crate) fn ended(mut self) -> (u32, String) {
        let end = Instant::now() + TIMEOUT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            let text = self.look(vt100::Screen::contents);
            assert!(Instant::now() < end, "timed out: the program does not end\n{text}");
            thread::yield_now();
        };
        // The program has the terminal open no more, so everything is read soon: as soon as no program that another
        // test was starting meanwhile has it.
        while !self.reading.is_finished() {
            assert!(Instant::now() < end, "timed out: a process has the terminal still open");
            thread::yield_now();
        }
        let parser = self.shared.0.lock().unwrap();
        let screen = parser.screen();
        assert!(
            !screen.alternate_screen() && !screen.hide_cursor(),
            "{status:?} without restoring the terminal\n{}",
            screen.contents()
        );
        assert!(!screen.bracketed_paste());
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        (status.exit_code(), screen.contents())
    }
}

impl Terminal {
    /// Like [`Terminal::ended`], for a program that ends with a message before it enters the terminal.
    pub(crate) fn ended_with_text(self) -> (u32, String) {
        self.wait_for("health-tui: ");
        self.ended()
    }
}
