//! Log lines on stderr: their format, what is logged, and what never is.
//!
//! No value of a sample, token, password or database URL may reach the log, at any level. The crates of this project keep
//! to that. Others do not: `tokio-postgres` writes the parameters of each statement at level debug. So other crates log at
//! level info and above only, whatever `HEALTH_LOG` says. Test: `tests/server/secrets.rs`.

use std::{
    env, fmt,
    io::{self, IsTerminal},
    panic::{self, PanicHookInfo},
};

use clap::ValueEnum;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::filter_fn,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{JsonFields, Writer, format},
        layer,
    },
    layer::SubscriberExt,
    registry,
    registry::LookupSpan,
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

/// The filter of log lines, unless `HEALTH_LOG` sets another one. The core itself logs each migration of the schema.
const DEFAULT_FILTER: &str = "info,refinery_core=warn";

/// The variable that sets the filter, such as `debug` or `health_core=trace`.
const FILTER_VARIABLE: &str = "HEALTH_LOG";

/// The targets of the crates of this project. Only their lines are shown below level info.
const OWN_TARGETS: [&str; 3] = ["health_core", "health_server", AUDIT];

/// The target of audit lines.
pub(crate) const AUDIT: &str = "audit";

/// Sends log lines to stderr, also those about panics.
pub(crate) fn init(format: LogFormat) {
    let (filter, error) = filter(env::var(FILTER_VARIABLE).ok());
    let registry = registry().with(filter).with(filter_fn(is_allowed));
    match format {
        LogFormat::Text => registry.with(text()).init(),
        LogFormat::Json => registry.with(json()).init(),
    }
    if let Some(error) = error {
        tracing::warn!(
            error,
            "{FILTER_VARIABLE} is not a filter of log lines: the default is used"
        );
    }
    panic::set_hook(Box::new(log_panic));
}

/// Returns the filter, and why the wish of the operator cannot be used.
fn filter(wish: Option<String>) -> (EnvFilter, Option<String>) {
    let parsed = wish.filter(|wish| !wish.is_empty()).map(|mut wish| {
        // Audit lines are shown whatever the level is, unless the filter speaks of them.
        if !wish.contains(AUDIT) {
            wish.push_str(",audit=info");
        }
        EnvFilter::builder().parse(wish).map_err(|error| error.to_string())
    });
    match parsed {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(DEFAULT_FILTER), Some(error)),
        None => (EnvFilter::new(DEFAULT_FILTER), None),
    }
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

/// Logs a panic: its place, and its message only if that is fixed. Others may contain values, such as the text at which a
/// string was cut.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let message = panic.payload().downcast_ref::<&str>().copied();
    tracing::error!(place, message, "a bug: the program panicked. Please report it");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(wish: &str) -> String {
        let (filter, error) = filter(Some(wish.to_owned()));
        assert_eq!(error, None, "{wish}");
        filter.to_string()
    }

    #[test]
    fn audit_lines_are_shown_at_every_level_unless_the_filter_names_them() {
        assert!(shown("error").contains("audit=info"));
        assert!(shown("health_core=trace").contains("audit=info"));
        assert!(!shown("info,audit=off").contains("audit=info"));
        assert_eq!(filter(None).1, None);
        assert_eq!(filter(Some(String::new())).1, None);
    }

    #[test]
    fn a_wrong_filter_is_named_and_the_default_is_used() {
        let (filter, error) = filter(Some("health_core=loud".to_owned()));
        assert!(error.is_some());
        assert!(filter.to_string().contains("info"));
    }
}
