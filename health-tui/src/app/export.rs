//! Exports what the visible pane shows as CSV, as JSON, or as text for the clipboard.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use health_core::{Stats, format_timestamp};
use serde_json::{Value, json};

use crate::app::{
    chart_point::ChartPoint,
    query::UserRangeStats,
    state::{App, Pane},
    stats_form::RangeQuery,
};

/// The format of an exported file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExportFormat {
    Csv,
    Json,
}

/// Returns the name and the content of the file. Returns `None` if the pane shows no rows.
pub(crate) fn file(app: &App, format: ExportFormat) -> Option<(String, String)> {
    let table = table(app)?;
    let pane = match app.pane {
        Pane::Live => "live",
        Pane::User => "user",
        Pane::Stats => "range",
    };
    let at = app.now.format("%Y%m%dT%H%M%SZ");
    Some(match format {
        ExportFormat::Csv => (format!("health-{pane}-{at}.csv"), table.csv(',')),
        ExportFormat::Json => (format!("health-{pane}-{at}.json"), table.json()),
    })
}

/// Returns the text to copy: the row under the cursor, the point under the chart cursor, or the whole answer.
///
/// The fields are separated by tabs, so that the text pastes into a spreadsheet.
pub(crate) fn clipboard(app: &App) -> Option<String> {
    let mut table = table(app)?;
    if app.pane == Pane::Live {
        let row = app.live.cursor_row(&app.users);
        if row >= table.rows.len() {
            return None;
        }
        table.rows.swap(0, row);
        table.rows.truncate(1);
    } else if app.pane == Pane::User
        && let Some(cursor) = app.user.as_ref().and_then(|u| u.cursor)
    {
        let view = app.user.as_ref()?;
        let nearest = view
            .points
            .iter()
            .enumerate()
            .min_by_key(|(_, p)| (p.at - cursor).abs())?
            .0;
        let (start, end) = view.window(app.now);
        let first = view.points.iter().take_while(|p| p.at < start).count();
        if (start..end).contains(&view.points[nearest].at) {
            table.rows.swap(0, nearest - first);
            table.rows.truncate(1);
        }
    }
    Some(table.csv('\t'))
}

struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    fn csv(&self, separator: char) -> String {
        let mut out = self.header.join(&separator.to_string());
        out.push('\n');
        for row in &self.rows {
            for (i, value) in row.iter().enumerate() {
                if i > 0 {
                    out.push(separator);
                }
                match value {
                    Value::Null => {}
                    Value::String(text) => out.push_str(&quoted(text, separator)),
                    // Writing to a String cannot fail.
                    other => _ = write!(out, "{other}"),
                }
            }
            out.push('\n');
        }
        out
    }

    /// Writes one object per line. Its fields have the order of the header.
    fn json(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            let fields = self.header.iter().zip(row).map(|(k, v)| format!("{}:{v}", json!(k)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        });
        format!("[\n{}\n]\n", rows.collect::<Vec<_>>().join(",\n"))
    }
}

/// Quotes a field as RFC 4180 says. A text that begins like a formula gets a `'`, so that spreadsheets show it as
/// text.
fn quoted(text: &str, separator: char) -> String {
    let text = if text.starts_with(['=', '+', '-', '@']) {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains([separator, '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

fn table(app: &App) -> Option<Table> {
    let table = match app.pane {
        Pane::Live => live(app),
        Pane::User => user(app)?,
        Pane::Stats => range(app)?,
    };
    (!table.rows.is_empty()).then_some(table)
}

/// Converts steps from a chart back to a whole number.
fn whole_number(v: Option<f64>) -> Value {
    json!(v.and_then(|v| format!("{v:.0}").parse::<i64>().ok()))
}

/// Returns the user of a row as the screen shows it: an export of a masked screen is masked too.
fn user_label(app: &App, id: i64) -> Value {
    if app.masked {
        Value::from(app.label(id).into_owned())
    } else {
        Value::from(id)
    }
}

fn live(app: &App) -> Table {
    let (users, _) = app.shown();
    let rows = app.live.order.iter().filter_map(|i| users.at(i)).map(|u| {
        let name = app.settings.names.get(&u.id).filter(|_| !app.masked);
        vec![
            user_label(app, u.id),
            json!(name),
            json!(format_timestamp(u.newest)),
            json!(u.heart_rate),
            whole_number(u.steps),
            json!(u.calories),
        ]
    });
    Table {
        header: vec!["user_id", "name", "newest", "heart_rate", "steps", "calories"],
        rows: rows.collect(),
    }
}

fn user(app: &App) -> Option<Table> {
    let view = app.user.as_ref()?;
    let (start, end) = view.window(app.now);
    let rows = view
        .points
        .iter()
        .filter(|p| start <= p.at && p.at < end)
        .map(|p: &ChartPoint| {
            let rate = p.heart_rate;
            vec![
                user_label(app, view.id),
                json!(format_timestamp(p.start)),
                json!(format_timestamp(p.end)),
                json!(rate.map(|r| r.0)),
                json!(rate.map(|r| r.1)),
                json!(rate.map(|r| r.2)),
                whole_number(p.steps),
                json!(p.calories),
            ]
        });
    Some(Table {
        header: vec![
            "user_id",
            "start",
            "end",
            "min_heart_rate",
            "average_heart_rate",
            "max_heart_rate",
            "steps",
            "calories",
        ],
        rows: rows.collect(),
    })
}

fn range(app: &App) -> Option<Table> {
    let RangeQuery::Done { users, .. } = &app.form.query else {
        return None;
    };
    let mut rows: Vec<_> = users
        .iter()
        .flat_map(|r: &UserRangeStats| {
            let id = r.stats.user_id.get();
            r.buckets
                .iter()
                .map(move |b| stats_row(app, id, (b.start, b.end), &b.stats))
        })
        .collect();
    // The last rows are the whole range of each user.
    rows.extend(users.iter().map(|r| {
        let all = &r.stats;
        let range = (all.start, all.end);
        stats_row(app, all.user_id.get(), range, &all.stats)
    }));
    Some(Table {
        header: vec![
            "user_id",
            "start",
            "end",
            "samples",
            "average_heart_rate",
            "min_heart_rate",
            "max_heart_rate",
            "time_weighted_heart_rate",
            "heart_rate_coverage",
            "total_steps",
            "total_calories",
        ],
        rows,
    })
}

/// Makes a row of the statistics of a bucket or of a whole range.
fn stats_row(app: &App, user: i64, (start, end): (DateTime<Utc>, DateTime<Utc>), s: &Stats) -> Vec<Value> {
    vec![
        user_label(app, user),
        json!(format_timestamp(start)),
        json!(format_timestamp(end)),
        json!(s.samples),
        json!(s.average_heart_rate),
        json!(s.min_heart_rate),
        json!(s.max_heart_rate),
        json!(s.time_weighted_heart_rate),
        json!(s.heart_rate_coverage),
        json!(s.total_steps),
        json!(s.total_calories),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_quotes_fields_and_escapes_formulas() {
        let table = Table {
            header: vec!["user_id", "name", "steps"],
            rows: vec![
                vec![json!(1), json!("Lovelace, \"Ada\""), Value::Null],
                vec![json!(2), json!("=1+1"), json!(3.5)],
            ],
        };
        assert_eq!(
            table.csv(','),
            "user_id,name,steps\n1,\"Lovelace, \"\"Ada\"\"\",\n2,'=1+1,3.5\n"
        );
        assert_eq!(
            table.json(),
            "[\n{\"user_id\":1,\"name\":\"Lovelace, \\\"Ada\\\"\",\"steps\":null},\n{\"user_id\":2,\"name\":\"=1+1\",\"steps\":3.5}\n]\n"
        );
    }
}
