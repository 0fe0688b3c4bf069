//! The dashboard put together: terminal, network tasks, loop.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use crossterm::{clipboard::CopyToClipboard, execute};
use rustix::process::{Signal, getpgrp, kill_process_group};
use tokio::sync::{Notify, mpsc};

use crate::{
    app::{App, Effect, Input, Net, QueryError, Tone},
    caps::Caps,
    config::{MachineDefaults, Settings},
    error::Error,
    net::{Base, Client, Feed, FeedOptions, Queries},
    options::Options,
    replay::Recording,
    run::{self, Outside, Performed},
    signals,
    term::{self, Screen, Taken},
};

/// Messages between the network and the loop. Each holds up to a thousand samples; when this many wait, the feed keeps the
/// newest sample of each user instead.
const MESSAGES_MAX: usize = 64;

/// Runs the dashboard in this terminal until the user quits it, or SIGTERM, SIGINT or SIGHUP comes. The terminal is given
/// back whatever happens.
///
/// # Errors
/// [`Error::NotATerminal`] where there is none, [`Error::Server`] and [`Error::Config`] where the options make no sense,
/// [`Error::Terminal`] where the terminal fails. A server that is away is no error: the dashboard says so and goes on
/// trying.
pub async fn run(options: Options) -> Result<(), Error> {
    let settings = prepare(&options)?;
    let client = Client {
        base: Base::parse(&options.server)?,
        token: options.token.clone(),
    };
    let (to_loop, from_net) = mpsc::channel(MESSAGES_MAX);
    let retry = Arc::new(Notify::new());
    let feed = FeedOptions {
        addr: options.feed.clone(),
        token: options.token,
        lossless: false,
    };
    let task = tokio::spawn(Feed::new(feed, to_loop.clone(), retry.clone()).run());
    let outside = Process {
        source: Source::Server {
            queries: Queries::new(client, to_loop),
            retry,
        },
        mouse: settings.mouse,
    };
    let ended = show(settings, options.feed, outside, from_net).await;
    task.abort();
    ended
}

/// Shows a recording as if it arrived now.
pub(crate) async fn replay(options: Options, path: &Path, speed: f64) -> Result<(), Error> {
    let settings = prepare(&options)?;
    let recording = Recording::open(path)?;
    let (to_loop, from_net) = mpsc::channel(MESSAGES_MAX);
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned();
    let outside = Process {
        source: Source::Recording {
            first: recording.next_time().unwrap_or_default(),
            began: Instant::now(),
            speed,
        },
        mouse: settings.mouse,
    };
    let task = tokio::spawn(recording.play(to_loop, speed, name.clone()));
    let ended = show(settings, name, outside, from_net).await;
    task.abort();
    ended
}

fn prepare(options: &Options) -> Result<Settings, Error> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Error::NotATerminal);
    }
    let var = |name: &str| std::env::var(name).ok();
    Ok(Settings::load(
        options,
        Caps::detect(var),
        &MachineDefaults::detect(var),
    )?)
}

async fn show(settings: Settings, from: String, mut outside: Process, net: mpsc::Receiver<Net>) -> Result<(), Error> {
    let stop = signals::stop().map_err(Error::Terminal)?;
    let suspend = signals::suspend().map_err(Error::Terminal)?;
    term::take(settings.mouse).map_err(Error::Terminal)?;
    let taken = Taken;
    let size = crossterm::terminal::size().map_err(Error::Terminal)?;
    let every = Duration::from_secs(1) / u32::from(settings.fps);
    let mut app = App::new(settings, from, size, outside.now());
    let mut screen = Screen::stdout();
    let stop = async {
        tokio::select! {
            () = stop => {}
            () = term::panicked() => {}
        }
    };
    let ended = run::run(
        &mut app,
        &mut screen,
        &mut outside,
        run::terminal_inputs(suspend),
        net,
        every,
        stop,
    )
    .await;
    drop(taken);
    if ended? {
        screen.print().map_err(Error::Terminal)?;
    }
    Ok(())
}

/// The process the dashboard runs in.
struct Process {
    source: Source,
    mouse: bool,
}

/// Where the readings come from.
enum Source {
    Server {
        queries: Queries,
        retry: Arc<Notify>,
    },
    /// A file; its time runs `speed` times as fast as ours.
    Recording {
        first: DateTime<Utc>,
        began: Instant,
        speed: f64,
    },
}

impl Outside for Process {
    fn perform(&mut self, effect: Effect) -> io::Result<Performed> {
        match effect {
            Effect::Quit { keep_frame } => return Ok(Performed::Quit { keep_frame }),
            Effect::ClearScreen => return Ok(Performed::Redraw),
            Effect::Suspend => return self.suspend(),
            Effect::RetryNow => {
                if let Source::Server { retry, .. } = &self.source {
                    retry.notify_one();
                }
            }
            Effect::Ask { id, query } => match &mut self.source {
                Source::Server { queries, .. } => queries.ask(id, query),
                Source::Recording { .. } => {
                    let result = Err(QueryError::NoServer);
                    return Ok(Performed::Tell(Input::Net(Net::Answer { id, result })));
                }
            },
            Effect::Cancel { id } => {
                if let Source::Server { queries, .. } = &mut self.source {
                    queries.cancel(id);
                }
            }
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
        match &self.source {
            Source::Server { .. } => Utc::now(),
            Source::Recording { first, began, speed } => {
                let passed = began.elapsed().mul_f64(*speed);
                *first + TimeDelta::from_std(passed).unwrap_or(TimeDelta::MAX)
            }
        }
    }

    fn speed(&self) -> f64 {
        match &self.source {
            Source::Server { .. } => 1.0,
            Source::Recording { speed, .. } => *speed,
        }
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
