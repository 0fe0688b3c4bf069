//! Log lines on stderr: their format, what is logged, and what never is.
//!
//! No value of a sample, token, password or database URL may reach the log, at any level. The crates of this project
//! keep to that. Others do not: `tokio-postgres` writes the parameters of each statement at level debug. So other
//! crates log at level info and above only, whatever `HEALTH_LOG` says. Test: `tests/server/secrets.rs`.

use std::{
    fmt,
    io::{self, IsTerminal},
    panic::{self, PanicHookInfo},
};

use clap::ValueEnum;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{ParseError, filter_fn},
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{JsonFields, Writer, format},
        layer,
    },
    layer::SubscriberExt,
    registry,
    registry::{LookupSpan, Registry},
    reload,
    util::SubscriberInitExt,
};

use crate::request_id::RequestId;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A format that adds the id of the current request to each line.
struct WithRequestId<F> {
    format: LogFormat,
    line: F,
}

/// The filter of log lines in force, which can be changed.
#[derive(Debug, Clone)]
pub(crate) struct LogFilter(reload::Handle<EnvFilter, Registry>);

/// The filter of log lines, unless `--log` sets another one.
pub(crate) const DEFAULT_FILTER: &str = "info";

/// The levels of these targets in every filter that does not name them. So audit lines are shown at every level. Lines
/// of the migration library below level warn are not, because the core itself logs each migration.
const ALWAYS: [(&str, &str); 2] = [(AUDIT, "audit=info"), ("refinery_core", "refinery_core=warn")];

/// The targets of the crates of this project. Only their lines are shown below level info.
const OWN_TARGETS: [&str; 3] = ["health_core", "health_server", AUDIT];

/// The target of audit lines.
pub(crate) const AUDIT: &str = "audit";

/// Sends log lines to stderr, also those about panics. Returns the filter, to change it later.
pub(crate) fn init(format: LogFormat, wish: &str) -> LogFilter {
    // `--log` was checked.
    let (filter, handle) = reload::Layer::new(filter(wish).unwrap_or_default());
    let registry = registry().with(filter).with(filter_fn(is_allowed));
    match format {
        LogFormat::Text => registry.with(text()).init(),
        LogFormat::Json => registry.with(json()).init(),
    }
    panic::set_hook(Box::new(log_panic));
    LogFilter(handle)
}

impl LogFilter {
    /// Applies another value of `--log`.
    pub(crate) fn set(&self, wish: &str) {
        // It fails only if the log has ended.
        let _ = filter(wish).map(|filter| self.0.reload(filter));
    }
}

/// Checks the value of `--log`.
pub(crate) fn parse_filter(wish: &str) -> Result<String, String> {
    let checked = filter(wish).map(|_| wish.to_owned());
    checked.map_err(|error| {
        format!("{error}. Write error, warn, info, debug or trace, or a list such as info,health_core=debug")
    })
}

/// Returns the filter that the operator wishes. An empty wish is the default.
fn filter(wish: &str) -> Result<EnvFilter, ParseError> {
    let mut directives = if wish.trim().is_empty() { DEFAULT_FILTER } else { wish }.to_owned();
    for (target, directive) in ALWAYS {
        if !directives.contains(target) {
            directives = format!("{directives},{directive}");
        }
    }
    EnvFilter::builder().parse(directives)
}

/// Returns whether a line may be shown at all.
fn is_allowed(line: &Metadata<'_>) -> bool {
    let crate_name = line.target().split("::").next().unwrap_or_default();
    OWN_TARGETS.contains(&crate_name) || *line.level() <= Level::INFO
}

fn text<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    let is_terminal = io::stderr().is_terminal();
    let line = WithRequestId {
        format: LogFormat::Text,
        line: format().with_ansi(is_terminal),
    };
    layer()
        .with_ansi(is_terminal)
        .event_format(line)
        .with_writer(io::stderr)
}

fn json<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    let line = WithRequestId {
        format: LogFormat::Json,
        line: format().json().flatten_event(true),
    };
    layer()
        .with_ansi(false)
        .fmt_fields(JsonFields::new())
        .event_format(line)
        .with_writer(io::stderr)
}

impl<S, N, F> FormatEvent<S, N> for WithRequestId<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(id) = RequestId::current() else {
            return self.line.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.line.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end_matches('\n');
        match (self.format, line.strip_suffix('}')) {
            (LogFormat::Json, Some(fields)) => writeln!(writer, "{fields},\"request_id\":\"{id}\"}}"),
            _ => writeln!(writer, "{line} request_id={id}"),
        }
    }
}

/// Logs a panic: its place, and its message only if that is fixed. Others may contain values, such as the text at which
/// a string was cut.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let message = panic.payload().downcast_ref::<&str>().copied();
    tracing::error!(place, message, "a bug: the program panicked. Please report it");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(wish: &str) -> String {
        filter(wish).unwrap().to_string()
    }

    #[test]
    fn audit_lines_are_shown_at_every_level_unless_the_filter_names_them() {
        assert!(shown("error").contains("audit=info"));
        assert!(shown("health_core=trace").contains("audit=info"));
        assert!(!shown("info,audit=off").contains("audit=info"));
        assert!(shown("").contains("info") && shown("").contains("refinery_core=warn"));
    }

    #[test]
    fn a_wrong_filter_is_refused_with_an_example() {
        let error = parse_filter("health_core=loud").unwrap_err();
        assert!(error.contains("info,health_core=debug"), "{error}");
        assert_eq!(parse_filter("health_core=trace"), Ok("health_core=trace".to_owned()));
    }
}
