//! What is seen, as text: CSV, JSON, and the line for the clipboard.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use health_core::{Stats, format_timestamp};
use serde_json::{Value, json};

use crate::app::{
    action::{Point, UserRange},
    form::Run,
    state::{App, Pane},
};

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Csv,
    Json,
}

/// The name and the content of the file that holds what is seen; none where nothing is.
pub(crate) fn file(app: &App, form: Form) -> Option<(String, String)> {
    let table = table(app)?;
    let what = match app.pane {
        Pane::Live => "live",
        Pane::User => "user",
        Pane::Stats => "range",
    };
    let at = app.now.format("%Y%m%dT%H%M%SZ");
    Some(match form {
        Form::Csv => (format!("health-{what}-{at}.csv"), table.csv(',')),
        Form::Json => (format!("health-{what}-{at}.json"), table.json()),
    })
}

/// What `copy` copies: the row under the cursor, the read-out, or the answer; fields apart by tabs, so that it pastes into
/// a table.
pub(crate) fn clipboard(app: &App) -> Option<String> {
    let mut table = table(app)?;
    if app.pane == Pane::Live {
        let row = app.live.cursor(&app.users);
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
    head: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    fn csv(&self, between: char) -> String {
        let mut out = self.head.join(&between.to_string());
        out.push('\n');
        for row in &self.rows {
            for (i, value) in row.iter().enumerate() {
                if i > 0 {
                    out.push(between);
                }
                match value {
                    Value::Null => {}
                    Value::String(text) => out.push_str(&quoted(text, between)),
                    // Writing to a String cannot fail.
                    other => _ = write!(out, "{other}"),
                }
            }
            out.push('\n');
        }
        out
    }

    /// A row a line, its fields in the order of the head.
    fn json(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            let fields = self.head.iter().zip(row).map(|(k, v)| format!("{}:{v}", json!(k)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        });
        format!("[\n{}\n]\n", rows.collect::<Vec<_>>().join(",\n"))
    }
}

/// RFC 4180, and no formulas: a name that begins like one is told to a spreadsheet as text.
fn quoted(text: &str, between: char) -> String {
    let text = if text.starts_with(['=', '+', '-', '@']) {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains([between, '"', '\n']) {
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

/// Steps are whole, wherever they were kept as a place on a chart.
fn count(v: Option<f64>) -> Value {
    json!(v.and_then(|v| format!("{v:.0}").parse::<i64>().ok()))
}

/// Who a row is about: what the screen says, so that a masked screen stays masked.
fn who(app: &App, id: i64) -> Value {
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
            who(app, u.id),
            json!(name),
            json!(format_timestamp(u.newest)),
            json!(u.heart_rate),
            count(u.steps),
            json!(u.calories),
        ]
    });
    Table {
        head: vec!["user_id", "name", "newest", "heart_rate", "steps", "calories"],
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
        .map(|p: &Point| {
            let rate = p.heart_rate;
            vec![
                who(app, view.id),
                json!(format_timestamp(p.from)),
                json!(format_timestamp(p.to)),
                json!(rate.map(|r| r.0)),
                json!(rate.map(|r| r.1)),
                json!(rate.map(|r| r.2)),
                count(p.steps),
                json!(p.calories),
            ]
        });
    Some(Table {
        head: vec![
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
    let Run::Done { answer, .. } = &app.form.run else {
        return None;
    };
    let mut rows: Vec<_> = answer
        .iter()
        .flat_map(|r: &UserRange| {
            let id = r.stats.user_id.get();
            r.buckets
                .iter()
                .map(move |b| bucket(app, id, (b.start, b.end), &b.stats))
        })
        .collect();
    // The totals are rows of the same form: the whole range of each user.
    rows.extend(answer.iter().map(|r| {
        let all = &r.stats;
        let range = (all.start, all.end);
        bucket(app, all.user_id.get(), range, &all.stats)
    }));
    Some(Table {
        head: vec![
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

/// A row of statistics: of a bucket, or of the whole range.
fn bucket(app: &App, user: i64, (start, end): (DateTime<Utc>, DateTime<Utc>), s: &Stats) -> Vec<Value> {
    vec![
        who(app, user),
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
    fn csv_quotes_and_defuses() {
        let table = Table {
            head: vec!["user_id", "name", "steps"],
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
