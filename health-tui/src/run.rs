//! The loop: drains everything that is waiting, then draws if something changed and the last frame is old enough.

use std::{io, io::Write, time::Duration};

use chrono::{DateTime, Utc};
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt;
use tokio::{
    signal::unix::Signal,
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    app::{App, Effect, Input, Net},
    error::Error,
    keys::Key,
    term::Screen,
    ui,
};

/// Inputs taken between two looks at the clock: what waits longer than that is drawn in between.
const DRAIN_MAX: usize = 256;

/// The longest wait for a change; what is further away is looked for again then.
const WAIT_MAX: Duration = Duration::from_hours(24);

/// What the loop cannot do itself. A trait, so that the loop runs in tests without a terminal, files and a network.
pub(crate) trait Outside {
    /// Does what `effect` says. What became of it comes back as an input.
    fn perform(&mut self, effect: Effect) -> io::Result<Performed>;
    /// What time it is.
    fn now(&self) -> DateTime<Utc>;
    /// How many times faster than ours its time runs.
    fn speed(&self) -> f64 {
        1.0
    }
    /// False once the terminal is no longer ours to draw on.
    fn may_draw(&self) -> bool;
}

/// What became of an effect.
pub(crate) enum Performed {
    Done,
    Tell(Input),
    /// The screen is no longer what it was.
    Redraw,
    Quit {
        keep_frame: bool,
    },
}

/// What comes from the terminal, through a task of its own. Looking at an [`EventStream`] in passing, as the loop does when
/// it drains, would leave it with nobody to wake: it remembers the first one who asked.
pub(crate) fn terminal_inputs(mut suspend: Signal) -> mpsc::Receiver<io::Result<Input>> {
    let (to, inputs) = mpsc::channel(DRAIN_MAX);
    tokio::spawn(async move {
        let mut stream = EventStream::new();
        loop {
            let input = tokio::select! {
                event = stream.next() => match event {
                    Some(Ok(event)) => input_of(event).map(Ok),
                    Some(Err(error)) => Some(Err(error)),
                    None => return,
                },
                // `kill -TSTP`: the key itself arrives as a key.
                Some(()) = suspend.recv() => Some(Ok(Input::Suspend)),
            };
            if let Some(input) = input
                && to.send(input).await.is_err()
            {
                return;
            }
        }
    });
    inputs
}

/// Runs until the user quits, `stop` comes, or the terminal is gone. True where the last frame is to be left behind.
pub(crate) async fn run<W: Write>(
    app: &mut App,
    screen: &mut Screen<W>,
    outside: &mut impl Outside,
    mut terminal: mpsc::Receiver<io::Result<Input>>,
    mut net: mpsc::Receiver<Net>,
    frame_every: Duration,
    stop: impl Future<Output = ()>,
) -> Result<bool, Error> {
    tokio::pin!(stop);
    let mut last_frame: Option<Instant> = None;
    let mut urgent = true;
    loop {
        for _ in 0..DRAIN_MAX {
            // Keys first: whoever types must not wait behind the data.
            let input = if let Ok(input) = terminal.try_recv() {
                // The terminal is gone: to go on would be to spin.
                let Ok(input) = input else { return Ok(false) };
                urgent = true;
                input
            } else if let Ok(message) = net.try_recv() {
                Input::Net(message)
            } else {
                break;
            };
            if let Some(keep_frame) = take(app, screen, outside, input)? {
                return Ok(keep_frame);
            }
        }
        if !outside.may_draw() {
            return Err(Error::Panicked);
        }
        let due = last_frame.map(|at| at + frame_every);
        if app.dirty && (urgent || due.is_none_or(|at| at <= Instant::now())) {
            screen
                .draw(app.size, |buf| ui::draw(app, buf))
                .map_err(Error::Terminal)?;
            last_frame = Some(Instant::now());
            app.dirty = false;
        }
        urgent = false;
        let wake = if app.dirty {
            due
        } else {
            app.next_change().map(|at| instant(at - outside.now(), outside.speed()))
        };
        // Only idle waits in here; `biased` so that the end is not kept waiting by a flood, nor keys by data.
        let input = tokio::select! {
            biased;
            () = &mut stop => return if outside.may_draw() { Ok(false) } else { Err(Error::Panicked) },
            input = terminal.recv() => match input {
                Some(Ok(input)) => {
                    urgent = true;
                    Some(input)
                }
                Some(Err(_)) | None => return Ok(false),
            },
            Some(message) = net.recv() => Some(Input::Net(message)),
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                (!app.dirty).then_some(Input::Tick)
            }
        };
        if let Some(input) = input
            && let Some(keep_frame) = take(app, screen, outside, input)?
        {
            return Ok(keep_frame);
        }
    }
}

/// One input and all that follows from it. Some where it ends the program.
fn take<W: Write>(
    app: &mut App,
    screen: &mut Screen<W>,
    outside: &mut impl Outside,
    input: Input,
) -> Result<Option<bool>, Error> {
    let mut inputs = vec![input];
    while let Some(input) = inputs.pop() {
        for effect in app.update(input, outside.now()) {
            match outside.perform(effect).map_err(Error::Terminal)? {
                Performed::Done => {}
                Performed::Tell(input) => inputs.push(input),
                Performed::Redraw => {
                    screen.forget();
                    app.dirty = true;
                }
                Performed::Quit { keep_frame } => return Ok(Some(keep_frame)),
            }
        }
    }
    Ok(None)
}

/// Presses only: a release, where a terminal reports it, is not a second press.
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

fn instant(from_now: chrono::TimeDelta, speed: f64) -> Instant {
    let left = from_now.to_std().unwrap_or(Duration::ZERO).min(WAIT_MAX).div_f64(speed);
    // A millisecond more, so that the clock has passed the moment when the tick looks at it.
    Instant::now() + left + Duration::from_millis(1)
}
