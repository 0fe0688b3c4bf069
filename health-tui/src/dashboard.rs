//! Runs the dashboard in a terminal: starts the network tasks and the event loop.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use crossterm::clipboard::CopyToClipboard;
use rustix::process::{Signal, getpgrp, kill_process_group};
use tokio::sync::{Notify, mpsc};

use crate::{
    app::{App, Effect, Input, NetworkEvent, QueryError, Tone},
    caps::{self, Caps},
    config::{MachineDefaults, Settings},
    error::Error,
    net::{self, FeedTask, HttpClient, QueryTasks, ServerUrl},
    options::Options,
    replay::Recording,
    run::{self, EffectOutcome, Environment},
    signals,
    term::{self, Screen, TerminalGuard, TerminalInput},
};

/// The capacity of the channel from the network tasks to the loop. A message holds up to a thousand samples. While
/// the channel is full, the feed client keeps only the newest sample of each user.
const NETWORK_EVENTS_MAX: usize = 64;

/// Runs the dashboard in this terminal until the user quits it, or until SIGTERM, SIGINT or SIGHUP arrives.
///
/// The terminal is restored in every case, also after a panic.
///
/// # Errors
/// [`Error::NotATerminal`] and [`Error::DumbTerminal`] without a usable terminal, [`Error::Server`] and
/// [`Error::Config`] if an option is invalid, [`Error::Terminal`] if the terminal fails. An unreachable server is no
/// error: the dashboard shows it and reconnects.
pub async fn run(options: Options) -> Result<(), Error> {
    let settings = load_settings(&options)?;
    let url = ServerUrl::parse(&options.server)?;
    let client = HttpClient {
        access: options.credentials().access(&url.authority(), url.is_tls)?,
        url,
    };
    let feed = net::feed_options(&options)?;
    let address = feed.address.clone();
    let (to_loop, from_network) = mpsc::channel(NETWORK_EVENTS_MAX);
    let retry = Arc::new(Notify::new());
    let task = tokio::spawn(FeedTask::new(feed, to_loop.clone(), retry.clone()).run());
    let environment = TerminalEnvironment {
        origin: SampleOrigin::Server {
            queries: QueryTasks::new(client, to_loop),
            retry,
        },
        mouse: settings.mouse,
    };
    let result = show(settings, address, environment, from_network).await;
    task.abort();
    result
}

/// Shows a recording as if its samples arrived now.
pub(crate) async fn replay(options: Options, path: &Path, speed: f64) -> Result<(), Error> {
    let settings = load_settings(&options)?;
    let recording = Recording::open(path)?;
    let (to_loop, from_network) = mpsc::channel(NETWORK_EVENTS_MAX);
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned();
    let environment = TerminalEnvironment {
        origin: SampleOrigin::Recording {
            first: recording.next_timestamp().unwrap_or_default(),
            began: Instant::now(),
            speed,
        },
        mouse: settings.mouse,
    };
    let task = tokio::spawn(recording.play(to_loop, speed, name.clone()));
    let result = show(settings, name, environment, from_network).await;
    task.abort();
    result
}

/// Returns an error if standard input and output are no terminal, or one that cannot show the dashboard.
///
/// # Errors
/// [`Error::NotATerminal`] and [`Error::DumbTerminal`].
pub fn check_terminal() -> Result<(), Error> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Error::NotATerminal);
    }
    match std::env::var("TERM") {
        Ok(term) if caps::is_dumb(&term) => Err(Error::DumbTerminal { term }),
        _ => Ok(()),
    }
}

/// Checks that there is a terminal, and loads the settings.
fn load_settings(options: &Options) -> Result<Settings, Error> {
    check_terminal()?;
    let var = |name: &str| std::env::var(name).ok();
    Ok(Settings::load(
        options,
        Caps::detect(var),
        &MachineDefaults::detect(var),
    )?)
}

async fn show(
    settings: Settings,
    server: String,
    mut environment: TerminalEnvironment,
    network: mpsc::Receiver<NetworkEvent>,
) -> Result<(), Error> {
    let stop = signals::stop().map_err(Error::Terminal)?;
    let suspend = signals::suspend().map_err(Error::Terminal)?;
    let resize = signals::resize().map_err(Error::Terminal)?;
    let input = TerminalInput::stdin().map_err(Error::Terminal)?;
    term::enter(settings.mouse).map_err(Error::Terminal)?;
    let guard = TerminalGuard;
    let size = crossterm::terminal::size().map_err(Error::Terminal)?;
    let frame_interval = Duration::from_secs(1) / u32::from(settings.fps);
    let mut app = App::new(settings, server, size, environment.now());
    let mut screen = Screen::terminal();
    let stop = async {
        tokio::select! {
            () = stop => {}
            () = term::panicked() => {}
        }
    };
    let result = run::run(
        &mut app,
        &mut screen,
        &mut environment,
        run::terminal_inputs(input, suspend, resize),
        network,
        frame_interval,
        stop,
    )
    .await;
    drop(guard);
    if result? {
        screen.print().map_err(Error::Terminal)?;
        term::drain();
    }
    Ok(())
}

/// The real terminal, the real clock and the network.
struct TerminalEnvironment {
    origin: SampleOrigin,
    mouse: bool,
}

/// Where the samples come from.
enum SampleOrigin {
    Server {
        queries: QueryTasks,
        retry: Arc<Notify>,
    },
    /// A recording. Its time begins with its first sample and runs `speed` times as fast as real time.
    Recording {
        first: DateTime<Utc>,
        began: Instant,
        speed: f64,
    },
}

impl Environment for TerminalEnvironment {
    fn perform(&mut self, effect: Effect) -> io::Result<EffectOutcome> {
        match effect {
            Effect::Quit { keep_frame } => return Ok(EffectOutcome::Quit { keep_frame }),
            Effect::ClearScreen => return Ok(EffectOutcome::Redraw),
            Effect::Suspend => return self.suspend(),
            Effect::RetryNow => {
                if let SampleOrigin::Server { retry, .. } = &self.origin {
                    retry.notify_one();
                }
            }
            Effect::SendQuery { id, query } => match &mut self.origin {
                SampleOrigin::Server { queries, .. } => queries.start(id, query),
                SampleOrigin::Recording { .. } => {
                    let result = Err(QueryError::NoServer);
                    return Ok(EffectOutcome::Input(Input::Network(NetworkEvent::Response {
                        id,
                        result,
                    })));
                }
            },
            Effect::CancelQuery { id } => {
                if let SampleOrigin::Server { queries, .. } = &mut self.origin {
                    queries.cancel(id);
                }
            }
            Effect::Copy(text) => {
                if let Err(error) = term::send(CopyToClipboard::to_clipboard_from(text)) {
                    let text = format!("Nothing was copied: {error}.");
                    return Ok(EffectOutcome::Input(Input::Message(Tone::Bad, text)));
                }
            }
            Effect::SetMouse(on) => {
                self.mouse = on;
                term::set_mouse(on)?;
            }
            Effect::SaveFile { name, content } => {
                let (tone, text) = match save(&name, &content) {
                    Ok(()) => (Tone::Good, format!("Saved as {name}.")),
                    Err(error) => (Tone::Bad, format!("Cannot write {name}: {error}.")),
                };
                return Ok(EffectOutcome::Input(Input::Message(tone, text)));
            }
        }
        Ok(EffectOutcome::Done)
    }

    fn now(&self) -> DateTime<Utc> {
        match &self.origin {
            SampleOrigin::Server { .. } => Utc::now(),
            SampleOrigin::Recording { first, began, speed } => {
                let passed = began.elapsed().mul_f64(*speed);
                *first + TimeDelta::from_std(passed).unwrap_or(TimeDelta::MAX)
            }
        }
    }

    fn speed(&self) -> f64 {
        match &self.origin {
            SampleOrigin::Server { .. } => 1.0,
            SampleOrigin::Recording { speed, .. } => *speed,
        }
    }

    fn may_draw(&self) -> bool {
        term::is_entered()
    }

    fn is_output_idle(&self) -> bool {
        term::is_idle()
    }

    async fn output_idle(&self) {
        term::idle().await;
    }
}

impl TerminalEnvironment {
    /// Suspends the process: in raw mode, the terminal does not do this for Ctrl-Z.
    ///
    /// Restores the terminal, stops the process group, and takes the terminal again after the shell continues the
    /// process.
    fn suspend(&self) -> io::Result<EffectOutcome> {
        term::restore();
        kill_process_group(getpgrp(), Signal::STOP)?;
        term::enter(self.mouse)?;
        let (width, height) = crossterm::terminal::size()?;
        // The terminal may have another size now, and it shows something else.
        Ok(EffectOutcome::Input(Input::Resumed(width, height)))
    }
}

/// Writes a new file. An existing file is never overwritten.
fn save(name: &str, content: &str) -> io::Result<()> {
    let mut file = std::fs::File::create_new(name)?;
    file.write_all(content.as_bytes())
}
