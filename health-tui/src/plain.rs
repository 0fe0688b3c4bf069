//! `--plain`: one line per sample, and one per erasure, for pipes and screen readers.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use health_core::{Erasure, Sample, Source};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    caps::Caps,
    config::{MachineDefaults, Settings},
    error::Error,
    fmt,
    headless::{self, SampleOutput},
    options::Options,
};

/// Writes each sample to standard output, and the state of the connection to standard error.
pub(crate) async fn run(options: &Options) -> Result<(), Error> {
    let var = |name: &str| std::env::var(name).ok();
    let settings = Settings::load(options, Caps::detect(var), &MachineDefaults::detect(var))?;
    if let Some(note) = &settings.tz_note {
        // If stderr is closed, there is no reader for this line.
        _ = writeln!(io::stderr(), "{note}");
    }
    let output = PlainOutput {
        settings,
        text: String::new(),
    };
    headless::run(options, output).await
}

struct PlainOutput {
    settings: Settings,
    text: String,
}

impl SampleOutput for PlainOutput {
    fn write(&mut self, samples: &[Sample]) -> Result<(), Error> {
        self.text.clear();
        for sample in samples {
            write_line(sample, &self.settings, &mut self.text);
        }
        self.flush()
    }

    fn write_erased(&mut self, erasure: &Erasure) -> Result<(), Error> {
        self.text.clear();
        write_erased_line(erasure, &self.settings, &mut self.text);
        self.flush()
    }

    /// Notices the end of the reader, as in `health-tui --plain | head -1`, also while no samples arrive.
    fn check(&mut self) -> Result<(), Error> {
        let out = io::stdout();
        let mut fds = [PollFd::new(&out, PollFlags::empty())];
        let is_closed = poll(&mut fds, Some(&Timespec::default())).is_ok() && fds[0].revents().contains(PollFlags::ERR);
        if is_closed {
            return Err(Error::Output(io::ErrorKind::BrokenPipe.into()));
        }
        Ok(())
    }
}

impl PlainOutput {
    fn flush(&self) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        out.write_all(self.text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(Error::Output)
    }
}

/// Appends a line such as `erased: Ada Lovelace (101) from 2025-03-02 18:00:00 to 2025-03-02 19:00:00, watch`.
fn write_erased_line(erasure: &Erasure, settings: &Settings, out: &mut String) {
    let id = erasure.user_id().get();
    // Writing to a String cannot fail.
    match settings.names.get(&id) {
        Some(name) => _ = write!(out, "erased: {name} ({id})"),
        None => _ = write!(out, "erased: user {id}"),
    }
    match erasure.range() {
        Some(range) => {
            let (start, end) = (
                fmt::date_time(range.start(), settings.tz),
                fmt::date_time(range.end(), settings.tz),
            );
            _ = write!(out, " from {start} to {end}");
        }
        None => out.push_str(", everything"),
    }
    match erasure.source().map(Source::as_str) {
        Some("") => out.push_str(", the unnamed source"),
        Some(source) => _ = write!(out, ", {source}"),
        None => {}
    }
    out.push('\n');
}

/// Appends a line such as `2025-03-02 18:00:00 Ada Lovelace (101): 72 bpm, 12 steps, 0.4 kcal, watch`.
fn write_line(sample: &Sample, settings: &Settings, out: &mut String) {
    let id = sample.user_id().get();
    out.push_str(&fmt::date_time(sample.timestamp(), settings.tz));
    // Writing to a String cannot fail.
    match settings.names.get(&id) {
        Some(name) => _ = write!(out, " {name} ({id}): "),
        None => _ = write!(out, " user {id}: "),
    }
    let mut parts = Vec::with_capacity(4);
    if let Some(v) = sample.heart_rate() {
        parts.push(format!("{} bpm", v.get()));
    }
    if let Some(v) = sample.steps() {
        parts.push(format!("{} steps", v.get()));
    }
    if let Some(v) = sample.calories() {
        parts.push(format!("{} kcal", v.get()));
    }
    if !sample.source().as_str().is_empty() {
        parts.push(sample.source().as_str().to_owned());
    }
    out.push_str(&parts.join(", "));
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use health_core::{HeartRate, Readings, Steps, TimeRange, UserId};

    use super::*;

    #[test]
    fn an_erasure_is_a_line_with_the_user_the_range_and_the_source() {
        let at = |hours: i64| DateTime::from_timestamp(1_740_938_400 + hours * 3_600, 0).unwrap();
        let (user, range) = (UserId::new(101).unwrap(), TimeRange::new(at(0), at(1)).unwrap());
        let mut settings = Settings::default();
        let mut out = String::new();
        write_erased_line(&Erasure::of_user(user), &settings, &mut out);
        settings.names.insert(101, "Ada".to_owned());
        write_erased_line(&Erasure::of_range(user, range, None), &settings, &mut out);
        for source in ["", "watch"] {
            let source = Some(Source::new(source).unwrap());
            write_erased_line(&Erasure::of_range(user, range, source), &settings, &mut out);
        }
        let hour = "erased: Ada (101) from 2025-03-02 18:00:00 to 2025-03-02 19:00:00";
        assert_eq!(
            out,
            format!("erased: user 101, everything\n{hour}\n{hour}, the unnamed source\n{hour}, watch\n")
        );
    }

    #[test]
    fn a_line_names_the_user_and_all_readings() {
        let readings = Readings {
            heart_rate: HeartRate::new(72.5).ok(),
            steps: Steps::new(12).ok(),
            calories: None,
        };
        let at = DateTime::from_timestamp(1_740_938_400, 0).unwrap();
        let sample = Sample::new(UserId::new(101).unwrap(), at, Source::new("watch").unwrap(), readings).unwrap();
        let mut settings = Settings::default();
        let mut out = String::new();
        write_line(&sample, &settings, &mut out);
        settings.names.insert(101, "Ada".to_owned());
        write_line(&sample, &settings, &mut out);
        assert_eq!(
            out,
            "2025-03-02 18:00:00 user 101: 72.5 bpm, 12 steps, watch\n2025-03-02 18:00:00 Ada (101): 72.5 bpm, 12 steps, watch\n"
        );
    }
}
