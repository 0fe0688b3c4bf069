//! The dashboard put together: terminal, network tasks, loop.

use std::{
    io::{self, IsTerminal, Write},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use crossterm::{clipboard::CopyToClipboard, event::EventStream, execute};
use rustix::process::{Signal, getpgrp, kill_process_group};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, mpsc},
};

use crate::{
    app::{App, Effect, Input, Tone},
    caps::Caps,
    config::Settings,
    error::Error,
    net::{Base, Client, Feed, FeedOptions, Queries},
    options::Options,
    run::{self, Outside, Performed},
    term::{self, Screen, Taken},
    theme::ThemeName,
};

/// Messages between the network and the loop. Each holds up to a thousand samples; when this many wait, the feed keeps the
/// newest sample of each user instead.
const MESSAGES_MAX: usize = 64;

/// Frames a second while data arrives, here and over SSH.
const FPS: u8 = 10;
const FPS_REMOTE: u8 = 4;

/// Runs the dashboard in this terminal until the user quits it, or SIGTERM, SIGINT or SIGHUP comes. The terminal is given
/// back whatever happens.
///
/// # Errors
/// [`Error::NotATerminal`] where there is none, [`Error::Server`] where the address is none, [`Error::Terminal`] where the
/// terminal fails. A server that is away is no error: the dashboard says so and goes on trying.
pub async fn run(options: Options) -> Result<(), Error> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Error::NotATerminal);
    }
    let base = Base::parse(&options.server)?;
    let caps = Caps::detect(|name| std::env::var(name).ok());
    let settings = settings(&options, caps);
    let fps = options.fps.unwrap_or(if caps.remote { FPS_REMOTE } else { FPS });

    let (to_loop, from_net) = mpsc::channel(MESSAGES_MAX);
    let retry = Arc::new(Notify::new());
    let feed = FeedOptions {
        addr: options.feed.clone(),
        token: options.token.clone(),
    };
    let client = Client {
        base,
        token: options.token,
    };
    let feed = tokio::spawn(Feed::new(feed, to_loop.clone(), retry.clone()).run());
    let stop = stop().map_err(Error::Terminal)?;

    term::take(settings.mouse).map_err(Error::Terminal)?;
    let taken = Taken;
    let size = crossterm::terminal::size().map_err(Error::Terminal)?;
    let mut app = App::new(settings, options.feed, size, Utc::now());
    let mut screen = Screen::stdout();
    let mut outside = Process {
        queries: Queries::new(client, to_loop),
        retry,
        mouse: app.mouse,
    };
    let every = Duration::from_secs(1) / u32::from(fps);
    let ended = run::run(
        &mut app,
        &mut screen,
        &mut outside,
        EventStream::new(),
        from_net,
        every,
        stop,
    )
    .await;
    feed.abort();
    drop(taken);
    if ended? {
        screen.print().map_err(Error::Terminal)?;
    }
    Ok(())
}

fn settings(options: &Options, caps: Caps) -> Settings {
    let theme = options.theme.unwrap_or(if caps.no_color {
        ThemeName::Mono
    } else {
        ThemeName::Dark
    });
    Settings {
        theme,
        depth: caps.depth,
        unicode: caps.unicode && !options.ascii,
        ..Settings::default()
    }
}

/// Resolves at the first signal that means the end.
fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}

/// The process the dashboard runs in.
struct Process {
    queries: Queries,
    retry: Arc<Notify>,
    mouse: bool,
}

impl Outside for Process {
    fn perform(&mut self, effect: Effect) -> io::Result<Performed> {
        match effect {
            Effect::Quit { keep_frame } => return Ok(Performed::Quit { keep_frame }),
            Effect::ClearScreen => return Ok(Performed::Redraw),
            Effect::Suspend => return self.suspend(),
            Effect::RetryNow => self.retry.notify_one(),
            Effect::Ask { id, query } => self.queries.ask(id, query),
            Effect::Cancel { id } => self.queries.cancel(id),
            Effect::Copy(text) => execute!(io::stdout(), CopyToClipboard::to_clipboard_from(text))?,
            Effect::Mouse(on) => {
                self.mouse = on;
                term::set_mouse(on)?;
            }
            Effect::Save { name, content } => {
                let (tone, text) = match save(&name, &content) {
                    Ok(()) => (Tone::Good, format!("saved as {name}")),
                    Err(error) => (Tone::Bad, format!("cannot write {name}: {error}")),
                };
                return Ok(Performed::Tell(Input::Note(tone, text)));
            }
        }
        Ok(Performed::Done)
    }

    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn may_draw(&self) -> bool {
        term::is_taken()
    }
}

impl Process {
    /// Raw mode takes the meaning from Ctrl-Z, so it is done by hand: give the terminal back, stop, and take it again when
    /// the shell says so.
    fn suspend(&self) -> io::Result<Performed> {
        term::give_back();
        kill_process_group(getpgrp(), Signal::STOP)?;
        term::take(self.mouse)?;
        let (width, height) = crossterm::terminal::size()?;
        // Both: the size may be another, and the screen surely is.
        Ok(Performed::Tell(Input::Resumed(width, height)))
    }
}

/// A new file: what is there already is never overwritten.
fn save(name: &str, content: &str) -> io::Result<()> {
    let mut file = std::fs::File::create_new(name)?;
    file.write_all(content.as_bytes())
}
