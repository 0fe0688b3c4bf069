//! The adjustable limits of the server. Those of the core are in [`health_core::Limits`].

use std::{ops::RangeInclusive, time::Duration};

use health_core::{
    LimitOutOfRange,
    flags::{format_byte_size, format_duration, parse_byte_size, parse_count, parse_duration, within},
};

/// Every adjustable limit of HTTP and the feed. Each is also a flag and a `HEALTH_…` variable.
///
/// The comments of the fields are the help texts of the flags. Sizes are in bytes.
///
/// ```
/// use health_server::ServerLimits;
///
/// let limits = ServerLimits { max_body: 1 << 20, ..ServerLimits::default() };
/// assert_eq!(limits.max_line, 64 << 10);
/// ```
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct ServerLimits {
    /// Maximum number of open HTTP connections, if the system allows that many open files; a further one replaces an
    /// idle one or gets a 503.
    #[arg(long, env = "HEALTH_MAX_CONNECTIONS", value_name = "N",
        value_parser = within(parse_count, CONNECTIONS, count), default_value_t = Self::DEFAULT.max_connections)]
    pub max_connections: usize,
    /// Maximum number of open feed connections, over TCP and by GET /feed, if the system allows that many open files; a
    /// further one gets the reason and is closed, or a 503.
    #[arg(long, env = "HEALTH_MAX_FEED_CONNECTIONS", value_name = "N",
        value_parser = within(parse_count, CONNECTIONS, count), default_value_t = Self::DEFAULT.max_feed_connections)]
    pub max_feed_connections: usize,
    /// Maximum number of open connections from one address, of HTTP and of the feed each; a further one is refused;
    /// IPv6 counts by /64.
    #[arg(long, env = "HEALTH_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N",
        value_parser = within(parse_count, CONNECTIONS, count), default_value_t = Self::DEFAULT.max_connections_per_address)]
    pub max_connections_per_address: usize,
    /// Maximum number of HTTP requests and SUBSCRIBE commands a second with one token; a further one gets a 429 or an
    /// error.
    #[arg(long, env = "HEALTH_MAX_TOKEN_RATE", value_name = "N",
        value_parser = within(parse_count, RATE, count), default_value_t = Self::DEFAULT.max_token_rate)]
    pub max_token_rate: usize,
    /// Maximum number of exports that are sent at a time; a further one waits for a moment, then it gets a 503.
    #[arg(long, env = "HEALTH_MAX_EXPORTS", value_name = "N",
        value_parser = within(parse_count, EXPORTS, count), default_value_t = Self::DEFAULT.max_exports)]
    pub max_exports: usize,
    /// How long a feed client that needs a token may take to send AUTH; then its connection is closed.
    #[arg(long, env = "HEALTH_AUTH_TIMEOUT", value_name = "TIME",
        value_parser = within(parse_duration, WAIT, format_duration), default_value = format_duration(Self::DEFAULT.auth_timeout))]
    pub auth_timeout: Duration,
    /// How long an HTTP connection must be idle before a further one replaces it; one that has sent nothing is replaced
    /// at once.
    #[arg(long, env = "HEALTH_IDLE_GRACE", value_name = "TIME",
        value_parser = within(parse_duration, ANY, format_duration), default_value = format_duration(Self::DEFAULT.idle_grace))]
    pub idle_grace: Duration,
    /// How long a client may take to send the head of its next request; then its connection is closed.
    #[arg(long, env = "HEALTH_HEADER_TIMEOUT", value_name = "TIME",
        value_parser = within(parse_duration, WAIT, format_duration), default_value = format_duration(Self::DEFAULT.header_timeout))]
    pub header_timeout: Duration,
    /// Maximum size of the head of a request: its first line and its headers.
    #[arg(long, env = "HEALTH_MAX_HEADER", value_name = "BYTES",
        value_parser = within(parse_byte_size, HEADER_BYTES, format_byte_size), default_value = format_byte_size(Self::DEFAULT.max_header))]
    pub max_header: usize,
    /// How long a client may pause while it sends a request body.
    #[arg(long, env = "HEALTH_BODY_TIMEOUT", value_name = "TIME",
        value_parser = within(parse_duration, WAIT, format_duration), default_value = format_duration(Self::DEFAULT.body_timeout))]
    pub body_timeout: Duration,
    /// How long a client may leave a response unread. Streams of the feed may be left unread.
    #[arg(long, env = "HEALTH_WRITE_TIMEOUT", value_name = "TIME",
        value_parser = within(parse_duration, WAIT, format_duration), default_value = format_duration(Self::DEFAULT.write_timeout))]
    pub write_timeout: Duration,
    /// Maximum size of an application/json body after decompression.
    #[arg(long, env = "HEALTH_MAX_BODY", value_name = "BYTES",
        value_parser = within(parse_byte_size, BODY_BYTES, format_byte_size), default_value = format_byte_size(Self::DEFAULT.max_body))]
    pub max_body: usize,
    /// Maximum size of one NDJSON line after decompression, without its line end.
    #[arg(long, env = "HEALTH_MAX_LINE", value_name = "BYTES",
        value_parser = within(parse_byte_size, BODY_BYTES, format_byte_size), default_value = format_byte_size(Self::DEFAULT.max_line))]
    pub max_line: usize,
    /// Memory for all large application/json bodies together; further bodies wait until some is free.
    #[arg(long, env = "HEALTH_BODY_MEMORY", value_name = "BYTES",
        value_parser = within(parse_byte_size, BODY_MEMORY, format_byte_size), default_value = format_byte_size(Self::DEFAULT.body_memory))]
    pub body_memory: usize,
}

/// Each connection is an open file, and Linux allows about a million of them.
const CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;

/// At the upper end no client meets the limit.
const RATE: RangeInclusive<usize> = 1..=1_000_000;

/// Each export holds a page of samples in memory, about a megabyte.
const EXPORTS: RangeInclusive<usize> = 1..=1_000_000;

/// Any length of time works, also none.
const ANY: RangeInclusive<Duration> = Duration::ZERO..=LONGEST;

/// Within less than the lower end hardly any client answers.
const WAIT: RangeInclusive<Duration> = Duration::from_millis(100)..=LONGEST;

/// A client sends some hundred bytes of headers. The upper end bounds what a stranger can make the server keep.
const HEADER_BYTES: RangeInclusive<usize> = 256..=16 << 20;

/// A body or a line is in memory as a whole.
const BODY_BYTES: RangeInclusive<usize> = 1..=1 << 30;

const BODY_MEMORY: RangeInclusive<usize> = 1..=1 << 40;

/// A hundred years, as for the limits of the core.
const LONGEST: Duration = Duration::from_hours(100 * 366 * 24);

fn count(number: usize) -> String {
    number.to_string()
}

impl ServerLimits {
    /// Checks that each limit is within its range. The flags have the same ranges.
    ///
    /// # Errors
    /// The first limit that is not.
    pub fn check(&self) -> Result<(), LimitOutOfRange> {
        use LimitOutOfRange as Limit;
        Limit::check("max_connections", &self.max_connections, &CONNECTIONS)?;
        Limit::check("max_feed_connections", &self.max_feed_connections, &CONNECTIONS)?;
        Limit::check(
            "max_connections_per_address",
            &self.max_connections_per_address,
            &CONNECTIONS,
        )?;
        Limit::check("max_token_rate", &self.max_token_rate, &RATE)?;
        Limit::check("max_exports", &self.max_exports, &EXPORTS)?;
        Limit::check("auth_timeout", &self.auth_timeout, &WAIT)?;
        Limit::check("idle_grace", &self.idle_grace, &ANY)?;
        Limit::check("header_timeout", &self.header_timeout, &WAIT)?;
        Limit::check("max_header", &self.max_header, &HEADER_BYTES)?;
        Limit::check("body_timeout", &self.body_timeout, &WAIT)?;
        Limit::check("write_timeout", &self.write_timeout, &WAIT)?;
        Limit::check("max_body", &self.max_body, &BODY_BYTES)?;
        Limit::check("max_line", &self.max_line, &BODY_BYTES)?;
        Limit::check("body_memory", &self.body_memory, &BODY_MEMORY)
    }

    const DEFAULT: Self = Self {
        max_connections: 16_384,
        max_feed_connections: 16_384,
        max_connections_per_address: 12_288,
        max_token_rate: 1_000_000,
        max_exports: 100,
        auth_timeout: Duration::from_secs(30),
        idle_grace: Duration::from_secs(2),
        header_timeout: Duration::from_secs(30),
        max_header: 32 << 10,
        body_timeout: Duration::from_secs(30),
        write_timeout: Duration::from_mins(1),
        max_body: 16 << 20,
        max_line: 64 << 10,
        body_memory: 24 << 20,
    };
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
