//! The event loop. It handles all waiting inputs, and then draws if something changed and the last frame is old
//! enough.

use std::{io, io::Write, time::Duration};

use chrono::{DateTime, Utc};
use crossterm::event::{Event, KeyEventKind};
use tokio::{
    signal::unix::Signal,
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    app::{App, Effect, Input, NetworkEvent},
    error::Error,
    keys::Key,
    term::{Screen, TerminalInput},
    ui,
};

/// The largest number of inputs that are handled before the next frame. More inputs would delay the frame.
const INPUTS_PER_FRAME_MAX: usize = 256;

/// The longest sleep. It keeps the arithmetic of [`Instant`] in range; the loop then sleeps again.
const SLEEP_MAX: Duration = Duration::from_hours(24);

/// The world around the loop: the clock, the terminal, files and the network.
///
/// There are two implementations: the real terminal, and the tests of the budgets, which run with the paused clock of
/// tokio and count what is drawn.
pub(crate) trait Environment {
    /// Performs an effect.
    fn perform(&mut self, effect: Effect) -> io::Result<EffectOutcome>;
    /// Returns the current time. A replay has a time of its own.
    fn now(&self) -> DateTime<Utc>;
    /// Returns how many times faster than real time [`Environment::now`] runs.
    fn speed(&self) -> f64 {
        1.0
    }
    /// Returns false after a panic in any task has given the terminal back.
    fn may_draw(&self) -> bool;
    /// Returns whether the terminal has taken the last frame.
    fn is_output_idle(&self) -> bool {
        true
    }
    /// Resolves when the terminal has taken the last frame.
    fn output_idle(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }
}

/// The outcome of an effect.
pub(crate) enum EffectOutcome {
    Done,
    /// The effect causes a new input.
    Input(Input),
    /// The terminal no longer shows the last frame.
    Redraw,
    /// The loop must end.
    Quit {
        keep_frame: bool,
    },
}

/// Starts a task that reads the terminal, and returns its inputs.
pub(crate) fn terminal_inputs(
    mut input: TerminalInput,
    mut suspend: Signal,
    mut resize: Signal,
) -> mpsc::Receiver<io::Result<Input>> {
    let (to, inputs) = mpsc::channel(INPUTS_PER_FRAME_MAX);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                event = input.next() => event.map(input_of),
                // From `kill -TSTP`. Ctrl-Z arrives as a key.
                Some(()) = suspend.recv() => Ok(Some(Input::Suspend)),
                Some(()) = resize.recv() => {
                    crossterm::terminal::size().map(|(width, height)| Some(Input::Resize(width, height)))
                }
                // Otherwise this task would take the first key after the dashboard.
                () = to.closed() => return,
            };
            let is_closed = next.is_err();
            if let Some(input) = next.transpose()
                && to.send(input).await.is_err()
            {
                return;
            }
            if is_closed {
                return;
            }
        }
    });
    inputs
}

/// Runs until the user quits, `stop` resolves, or the terminal is closed. Returns whether to print the last frame.
pub(crate) async fn run<W: Write>(
    app: &mut App,
    screen: &mut Screen<W>,
    environment: &mut impl Environment,
    mut terminal: mpsc::Receiver<io::Result<Input>>,
    mut network: mpsc::Receiver<NetworkEvent>,
    frame_interval: Duration,
    stop: impl Future<Output = ()>,
) -> Result<bool, Error> {
    tokio::pin!(stop);
    let mut last_frame: Option<Instant> = None;
    // A frame after a key is drawn at once. A frame after samples waits for the frame rate.
    let mut urgent = true;
    loop {
        for _ in 0..INPUTS_PER_FRAME_MAX {
            let Some(input) = next_waiting_input(&mut terminal, &mut network) else {
                break;
            };
            // The terminal is closed. Reading it again would fail again, in a busy loop.
            let Ok(input) = input else { return Ok(false) };
            urgent |= !matches!(input, Input::Network(_));
            if let Some(keep_frame) = handle(app, screen, environment, input)? {
                return Ok(keep_frame);
            }
        }
        if !environment.may_draw() {
            return Err(Error::Panicked);
        }
        let next_frame = last_frame.map(|at| at + frame_interval);
        let is_idle = environment.is_output_idle();
        if app.dirty && is_idle && (urgent || next_frame.is_none_or(|at| at <= Instant::now())) {
            screen
                .draw(app.size, |buf| ui::draw(app, buf))
                .map_err(Error::Terminal)?;
            last_frame = Some(Instant::now());
            app.dirty = false;
            urgent = false;
        }
        let wake = if app.dirty {
            next_frame.filter(|_| is_idle)
        } else {
            app.next_change()
                .map(|at| instant_after(at - environment.now(), environment.speed()))
        };
        // `biased`: the end must not wait for a flood of inputs, and keys must not wait for samples.
        let input = tokio::select! {
            biased;
            () = &mut stop => return if environment.may_draw() { Ok(false) } else { Err(Error::Panicked) },
            input = terminal.recv() => match input {
                Some(Ok(input)) => {
                    urgent = true;
                    Some(input)
                }
                Some(Err(_)) | None => return Ok(false),
            },
            Some(message) = network.recv() => Some(Input::Network(message)),
            // A terminal that does not read must not stop the loop: it still obeys signals.
            () = environment.output_idle(), if app.dirty && !is_idle => None,
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                (!app.dirty).then_some(Input::Tick)
            }
        };
        if let Some(input) = input
            && let Some(keep_frame) = handle(app, screen, environment, input)?
        {
            return Ok(keep_frame);
        }
    }
}

/// Returns an input that has already arrived. Keys come first: they must not wait for a flood of samples.
fn next_waiting_input(
    terminal: &mut mpsc::Receiver<io::Result<Input>>,
    network: &mut mpsc::Receiver<NetworkEvent>,
) -> Option<io::Result<Input>> {
    let key = terminal.try_recv().ok();
    key.or_else(|| network.try_recv().ok().map(|event| Ok(Input::Network(event))))
}

/// Handles one input and its effects. Returns `Some` if the loop must end: whether to print the last frame.
fn handle<W: Write>(
    app: &mut App,
    screen: &mut Screen<W>,
    environment: &mut impl Environment,
    input: Input,
) -> Result<Option<bool>, Error> {
    let mut inputs = vec![input];
    while let Some(input) = inputs.pop() {
        for effect in app.update(input, environment.now()) {
            match environment.perform(effect).map_err(Error::Terminal)? {
                EffectOutcome::Done => {}
                EffectOutcome::Input(input) => inputs.push(input),
                EffectOutcome::Redraw => {
                    screen.forget();
                    app.dirty = true;
                }
                EffectOutcome::Quit { keep_frame } => return Ok(Some(keep_frame)),
            }
        }
    }
    Ok(None)
}

/// Converts an event of the terminal. Some terminals report key releases, which are ignored.
fn input_of(event: Event) -> Option<Input> {
    match event {
        Event::Key(key) if key.kind == KeyEventKind::Release => None,
        Event::Key(key) => Some(Input::Key(Key::from_event(key))),
        Event::Paste(text) => Some(Input::Paste(text)),
        Event::Mouse(event) => Some(Input::Mouse(event)),
        Event::Resize(width, height) => Some(Input::Resize(width, height)),
        Event::FocusGained | Event::FocusLost => None,
    }
}

/// Returns the instant when `from_now` has passed on a clock of this speed.
fn instant_after(from_now: chrono::TimeDelta, speed: f64) -> Instant {
    let left = from_now
        .to_std()
        .unwrap_or(Duration::ZERO)
        .min(SLEEP_MAX)
        .div_f64(speed);
    // One more millisecond, so that the clock has certainly passed the time when the tick is handled.
    Instant::now() + left + Duration::from_millis(1)
}
