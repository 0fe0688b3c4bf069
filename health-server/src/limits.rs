//! Every limit of the server, with its unit, in one place. Each is a flag and a `HEALTH_…` variable.

use std::{fmt, num::IntErrorKind, str::FromStr, time::Duration};

use chrono::TimeDelta;
use clap::Args;

/// What the server takes at most, and how long it waits. The core's own limits ride along.
///
/// ```
/// use health_server::{ByteSize, Limits};
///
/// let limits = Limits { max_body: ByteSize::mib(1), ..Limits::default() };
/// assert_eq!(limits.max_line.to_string(), "64KiB");
/// ```
#[derive(Debug, Clone, PartialEq, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// HTTP connections open at once; one more takes the place of an idle one, or is told 503
    #[arg(long, env = "HEALTH_MAX_CONNECTIONS", value_name = "N", value_parser = at_least_one::<usize>, default_value_t = Self::DEFAULT.max_connections)]
    pub max_connections: usize,
    /// Feed connections open at once; one more is told so and closed
    #[arg(long, env = "HEALTH_MAX_FEED_CONNECTIONS", value_name = "N", value_parser = at_least_one::<usize>, default_value_t = Self::DEFAULT.max_feed_connections)]
    pub max_feed_connections: usize,
    /// How long an HTTP connection may be idle before it makes way where all are taken
    #[arg(long, env = "HEALTH_IDLE_GRACE", value_name = "TIME", default_value_t = Self::DEFAULT.idle_grace)]
    pub idle_grace: Span,
    /// How long a client may take to send the head of a request, also on an idle connection
    #[arg(long, env = "HEALTH_HEADER_TIMEOUT", value_name = "TIME", default_value_t = Self::DEFAULT.header_timeout)]
    pub header_timeout: Span,
    /// Bytes the head of a request may have
    #[arg(long, env = "HEALTH_MAX_HEADER", value_name = "BYTES", default_value_t = Self::DEFAULT.max_header)]
    pub max_header: ByteSize,
    /// How long a client may pause in the middle of a body
    #[arg(long, env = "HEALTH_BODY_TIMEOUT", value_name = "TIME", default_value_t = Self::DEFAULT.body_timeout)]
    pub body_timeout: Span,
    /// How long a client may leave an answer unread
    #[arg(long, env = "HEALTH_WRITE_TIMEOUT", value_name = "TIME", default_value_t = Self::DEFAULT.write_timeout)]
    pub write_timeout: Span,
    /// Decoded bytes an application/json body may have
    #[arg(long, env = "HEALTH_MAX_BODY", value_name = "BYTES", default_value_t = Self::DEFAULT.max_body)]
    pub max_body: ByteSize,
    /// Decoded bytes one NDJSON line may have, without its line end
    #[arg(long, env = "HEALTH_MAX_LINE", value_name = "BYTES", default_value_t = Self::DEFAULT.max_line)]
    pub max_line: ByteSize,
    /// Memory that all large application/json bodies together may take; more of them wait
    #[arg(long, env = "HEALTH_BODY_MEMORY", value_name = "BYTES", default_value_t = Self::DEFAULT.body_memory)]
    pub body_memory: ByteSize,
    /// Samples queued and being written, together
    #[arg(long, env = "HEALTH_QUEUE_ROWS", value_name = "ROWS", value_parser = at_least_one::<usize>, default_value_t = Self::DEFAULT.queue_rows)]
    pub queue_rows: usize,
    /// Samples in one transaction
    #[arg(long, env = "HEALTH_BATCH_ROWS", value_name = "ROWS", value_parser = at_least_one::<usize>, default_value_t = Self::DEFAULT.batch_rows)]
    pub batch_rows: usize,
    /// Database connections that write
    #[arg(long, env = "HEALTH_WRITERS", value_name = "N", value_parser = at_least_one::<usize>, default_value_t = Self::DEFAULT.writers)]
    pub writers: usize,
    /// Database connections that read
    #[arg(long, env = "HEALTH_READERS", value_name = "N", value_parser = at_least_one::<u32>, default_value_t = Self::DEFAULT.readers)]
    pub readers: u32,
    /// How long samples wait for room in the queue and for their commit before the client is told to come again
    #[arg(long, env = "HEALTH_INGEST_DEADLINE", value_name = "TIME", default_value_t = Self::DEFAULT.ingest_deadline)]
    pub ingest_deadline: Span,
    /// How long one reading statement may run
    #[arg(long, env = "HEALTH_STATEMENT_TIMEOUT", value_name = "TIME", default_value_t = Self::DEFAULT.statement_timeout)]
    pub statement_timeout: Span,
    /// How long a reader waits for a database connection
    #[arg(long, env = "HEALTH_CONNECTION_WAIT", value_name = "TIME", default_value_t = Self::DEFAULT.connection_wait)]
    pub connection_wait: Span,
    /// How long the end of the server waits for what it accepted to be stored
    #[arg(long, env = "HEALTH_DRAIN_TIMEOUT", value_name = "TIME", default_value_t = Self::DEFAULT.drain_timeout)]
    pub drain_timeout: Span,
    /// How far ahead of the server's clock a timestamp may be
    #[arg(long, env = "HEALTH_MAX_FUTURE", value_name = "TIME", default_value_t = Self::DEFAULT.max_future)]
    pub max_future: Span,
    /// Samples that wait for one slow reader of the feed; what comes on top is skipped and reported
    #[arg(long, env = "HEALTH_SUBSCRIBER_QUEUE", value_name = "SAMPLES", value_parser = at_least_one::<usize>, default_value_t = Self::DEFAULT.subscriber_queue)]
    pub subscriber_queue: usize,
    /// Memory for samples that wait for slow readers of the feed, all together; where it is spent, the slowest skip theirs
    #[arg(long, env = "HEALTH_SUBSCRIBER_MEMORY", value_name = "BYTES", default_value_t = Self::DEFAULT.subscriber_memory)]
    pub subscriber_memory: ByteSize,
    /// How long the feed can be resumed from a cursor
    #[arg(long, env = "HEALTH_REPLAY_WINDOW", value_name = "TIME", default_value_t = Self::DEFAULT.replay_window)]
    pub replay_window: Span,
    /// How old samples have to be before they are summarised
    #[arg(long, env = "HEALTH_SETTLE", value_name = "TIME", default_value_t = Self::DEFAULT.settle)]
    pub settle: Span,
}

/// A number of bytes, written `65536`, `64KiB` or `16MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(usize);

/// A length of time, written `250ms`, `30s`, `5m`, `24h` or `1d`; a bare number is seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

/// Why a text is no [`ByteSize`] or [`Span`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableLimit(&'static str);

impl Limits {
    const DEFAULT: Self = Self {
        max_connections: 1024,
        max_feed_connections: 16_384,
        idle_grace: Span::seconds(2),
        header_timeout: Span::seconds(30),
        max_header: ByteSize(32 << 10),
        body_timeout: Span::seconds(30),
        write_timeout: Span::seconds(60),
        max_body: ByteSize::mib(16),
        max_line: ByteSize(64 << 10),
        body_memory: ByteSize::mib(24),
        queue_rows: 100_000,
        batch_rows: 20_000,
        writers: 2,
        readers: 8,
        ingest_deadline: Span::seconds(10),
        statement_timeout: Span::seconds(30),
        connection_wait: Span::seconds(3),
        drain_timeout: Span::seconds(30),
        max_future: Span::seconds(5 * 60),
        subscriber_queue: 32_768,
        subscriber_memory: ByteSize::mib(64),
        replay_window: Span::seconds(24 * 60 * 60),
        settle: Span::seconds(5 * 60),
    };

    /// The part of the limits that the core keeps.
    pub fn core(&self) -> health_core::Limits {
        health_core::Limits {
            queue_rows: self.queue_rows,
            batch_rows: self.batch_rows,
            writers: self.writers,
            reader_connections: self.readers,
            ingest_deadline: self.ingest_deadline.get(),
            statement_timeout: self.statement_timeout.get(),
            connection_wait: self.connection_wait.get(),
            drain_deadline: self.drain_timeout.get(),
            max_future: self.max_future(),
            subscriber_queue: self.subscriber_queue,
            subscriber_memory: self.subscriber_memory.get(),
            replay_window: self.replay_window.get(),
            settle: self.settle.get(),
        }
    }

    /// [`Limits::max_future`] as the records' reader takes it.
    pub(crate) fn max_future(&self) -> TimeDelta {
        TimeDelta::from_std(self.max_future.get()).unwrap_or(TimeDelta::MAX)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl ByteSize {
    /// So many bytes.
    pub const fn bytes(bytes: usize) -> Self {
        Self(bytes)
    }

    /// So many times 1024 * 1024 bytes.
    pub const fn mib(mib: usize) -> Self {
        Self(mib << 20)
    }

    /// The number of bytes.
    pub const fn get(self) -> usize {
        self.0
    }
}

impl Span {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The length.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = UnreadableLimit;

    fn from_str(text: &str) -> Result<Self, UnreadableLimit> {
        let unreadable = UnreadableLimit("a number of bytes is written like 65536, 64KiB or 16MiB");
        let (number, unit) = split_unit(text, &unreadable)?;
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            _ => return Err(unreadable),
        };
        let bytes = number.checked_mul(1 << shift).ok_or(unreadable.clone())?;
        usize::try_from(bytes)
            .ok()
            .filter(|bytes| *bytes > 0)
            .map(Self)
            .ok_or(unreadable)
    }
}

impl FromStr for Span {
    type Err = UnreadableLimit;

    fn from_str(text: &str) -> Result<Self, UnreadableLimit> {
        let unreadable = UnreadableLimit("a time is written like 250ms, 30s, 5m, 24h or 1d");
        let (number, unit) = split_unit(text, &unreadable)?;
        let seconds_a_unit = match unit {
            "ms" => return Ok(Self::millis(number)),
            "" | "s" => 1,
            "m" => 60,
            "h" => 60 * 60,
            "d" => 24 * 60 * 60,
            _ => return Err(unreadable),
        };
        // A hundred years is for ever, and sums of times stay far from their end.
        let longest = 100 * 366 * 24 * 60 * 60;
        let seconds = number.checked_mul(seconds_a_unit).filter(|seconds| *seconds <= longest);
        seconds.map(Self::seconds).ok_or(unreadable)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes % (1 << 20) == 0 => write!(f, "{}MiB", bytes >> 20),
            bytes if bytes % (1 << 10) == 0 => write!(f, "{}KiB", bytes >> 10),
            bytes => write!(f, "{bytes}"),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.subsec_millis() > 0 {
            return write!(f, "{}ms", self.0.as_millis());
        }
        match self.0.as_secs() {
            seconds if seconds > 0 && seconds % 3600 == 0 => write!(f, "{}h", seconds / 3600),
            seconds if seconds > 0 && seconds % 60 == 0 => write!(f, "{}m", seconds / 60),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

impl fmt::Display for UnreadableLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for UnreadableLimit {}

/// Reads a number of things of which there has to be one.
fn at_least_one<N: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<N, UnreadableLimit> {
    let number = text.parse().ok().filter(|number| *number >= N::from(1));
    number.ok_or(UnreadableLimit("it has to be a number, and 1 at least"))
}

fn split_unit<'a>(text: &'a str, unreadable: &UnreadableLimit) -> Result<(u64, &'a str), UnreadableLimit> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    match text[..end].parse() {
        Ok(number) => Ok((number, &text[end..])),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Err(UnreadableLimit("the number is too large")),
        Err(_) => Err(unreadable.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_back_as_they_are_written() {
        for (text, bytes) in [
            ("1", 1),
            ("64KiB", 65_536),
            ("64k", 65_536),
            ("16MiB", 16 << 20),
            ("1000000", 1_000_000),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.get(), bytes, "{text}");
            assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size);
        }
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("30", 30_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
            ("1d", 86_400_000),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.get(), Duration::from_millis(millis), "{text}");
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
        for text in [
            "",
            "0",
            "-1",
            "1.5m",
            "MiB",
            "99999999999999999999",
            "18446744073709551615k",
            "1TiB",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        for text in ["", "-1", "1w", "s", "99999999999999999999s", "18446744073709551615d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_cores_defaults_are_ours() {
        let (ours, core) = (Limits::default().core(), health_core::Limits::default());
        assert_eq!(format!("{ours:?}"), format!("{core:?}"));
    }
}
