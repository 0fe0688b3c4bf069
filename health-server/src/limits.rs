//! The adjustable limits of the server. Those of the core are in [`health_core::Limits`].

use std::time::Duration;

use health_core::flags::{format_byte_size, format_duration, parse_byte_size, parse_count, parse_duration};

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
    /// Maximum number of open HTTP connections; a further one replaces an idle one or gets a 503.
    #[arg(long, env = "HEALTH_MAX_CONNECTIONS", value_name = "N",
        value_parser = parse_count::<usize>, default_value_t = Self::DEFAULT.max_connections)]
    pub max_connections: usize,
    /// Maximum number of open feed connections; a further one gets the reason and is closed.
    #[arg(long, env = "HEALTH_MAX_FEED_CONNECTIONS", value_name = "N",
        value_parser = parse_count::<usize>, default_value_t = Self::DEFAULT.max_feed_connections)]
    pub max_feed_connections: usize,
    /// How long an HTTP connection must be idle before a further one replaces it.
    #[arg(long, env = "HEALTH_IDLE_GRACE", value_name = "TIME",
        value_parser = parse_duration, default_value = format_duration(Self::DEFAULT.idle_grace))]
    pub idle_grace: Duration,
    /// How long a client may take to send the head of its next request; then its connection is closed.
    #[arg(long, env = "HEALTH_HEADER_TIMEOUT", value_name = "TIME",
        value_parser = parse_duration, default_value = format_duration(Self::DEFAULT.header_timeout))]
    pub header_timeout: Duration,
    /// Maximum size of the head of a request: its first line and its headers.
    #[arg(long, env = "HEALTH_MAX_HEADER", value_name = "BYTES",
        value_parser = parse_byte_size, default_value = format_byte_size(Self::DEFAULT.max_header))]
    pub max_header: usize,
    /// How long a client may pause while it sends a request body.
    #[arg(long, env = "HEALTH_BODY_TIMEOUT", value_name = "TIME",
        value_parser = parse_duration, default_value = format_duration(Self::DEFAULT.body_timeout))]
    pub body_timeout: Duration,
    /// How long a client may leave a response unread.
    #[arg(long, env = "HEALTH_WRITE_TIMEOUT", value_name = "TIME",
        value_parser = parse_duration, default_value = format_duration(Self::DEFAULT.write_timeout))]
    pub write_timeout: Duration,
    /// Maximum size of an application/json body after decompression.
    #[arg(long, env = "HEALTH_MAX_BODY", value_name = "BYTES",
        value_parser = parse_byte_size, default_value = format_byte_size(Self::DEFAULT.max_body))]
    pub max_body: usize,
    /// Maximum size of one NDJSON line after decompression, without its line end.
    #[arg(long, env = "HEALTH_MAX_LINE", value_name = "BYTES",
        value_parser = parse_byte_size, default_value = format_byte_size(Self::DEFAULT.max_line))]
    pub max_line: usize,
    /// Memory for all large application/json bodies together; further bodies wait until some is free.
    #[arg(long, env = "HEALTH_BODY_MEMORY", value_name = "BYTES",
        value_parser = parse_byte_size, default_value = format_byte_size(Self::DEFAULT.body_memory))]
    pub body_memory: usize,
}

impl ServerLimits {
    const DEFAULT: Self = Self {
        max_connections: 1024,
        max_feed_connections: 16_384,
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
