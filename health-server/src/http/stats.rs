//! `GET /metrics`, `/metrics/series` and `/metrics/percentiles`: statistics of one user over one time range.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use health_core::{Bucket, Error, PercentilesResponse, RangeStats, SeriesResponse, StatsResponse};
use hyper::StatusCode;

use crate::{
    app::App,
    http::{
        auth::Caller,
        error::HttpError,
        query::Query,
        response::{HttpResponse, json},
    },
    quote::quote,
};

/// Percentiles that one request may ask for: every tenth of a percent from 0 to 100.
const MAX_PERCENTILES: usize = 1001;

/// `GET /metrics`: totals, averages and extremes.
pub(crate) async fn stats(app: &App, caller: &Caller, query: Option<&str>) -> Result<HttpResponse, HttpError> {
    let is_without_parameters = query.is_none_or(str::is_empty);
    let mut query = Query::parse(query, &["user_id", "start", "end"]);
    let user_and_range = query.user_and_range();
    let (user_id, range) = query.finish(user_and_range).map_err(|errors| {
        let error = HttpError::from(errors);
        // The path is where Prometheus looks for metrics by default.
        if is_without_parameters {
            error.with_hint("The metrics for Prometheus are at /-/metrics.")
        } else {
            error
        }
    })?;
    caller.check_user(user_id)?;
    let RangeStats {
        overall: stats,
        sources,
    } = app.health.stats(user_id, range).await?;
    let message = (stats.samples == 0).then_some("No data found".into());
    let (start, end) = (range.start(), range.end());
    Ok(json(
        StatusCode::OK,
        &StatsResponse {
            user_id,
            start,
            end,
            stats,
            sources,
            message,
        },
    ))
}

/// `GET /metrics/series`: the same for each bucket of the range.
pub(crate) async fn series(app: &App, caller: &Caller, query: Option<&str>) -> Result<HttpResponse, HttpError> {
    let mut query = Query::parse(query, &["user_id", "start", "end", "bucket", "tz"]);
    let user_and_range = query.user_and_range();
    let bucket = query.required("bucket", |text| {
        text.parse::<Bucket>().map_err(|error| error.to_string())
    });
    let zone = query.optional_or("tz", Tz::UTC, zone);
    let (((user_id, range), bucket), zone) = query.finish(user_and_range.zip(bucket).zip(zone))?;
    caller.check_user(user_id)?;
    let buckets = match app.health.series(user_id, range, bucket, zone).await {
        Err(Error::TooManyBuckets(error)) => {
            return Err(HttpError::new(StatusCode::BAD_REQUEST, format!("bucket: {error}.")));
        }
        series => series?,
    };
    Ok(json(
        StatusCode::OK,
        &SeriesResponse {
            user_id,
            bucket: bucket.to_string(),
            tz: zone.name().to_owned(),
            buckets,
        },
    ))
}

/// `GET /metrics/percentiles`: percentiles of the heart rate.
pub(crate) async fn percentiles(app: &App, caller: &Caller, query: Option<&str>) -> Result<HttpResponse, HttpError> {
    let mut query = Query::parse(query, &["user_id", "start", "end", "p"]);
    let user_and_range = query.user_and_range();
    let percents = query.optional_or("p", default_percents(), percents);
    let ((user_id, range), percents) = query.finish(user_and_range.zip(percents))?;
    caller.check_user(user_id)?;
    let (names, percents): (Vec<_>, Vec<_>) = percents.into_iter().unzip();
    let found = app.health.percentiles(user_id, range, &percents).await?;
    let percentiles: BTreeMap<_, _> = names.into_iter().zip(found.values).collect();
    Ok(json(
        StatusCode::OK,
        &PercentilesResponse {
            percentiles,
            samples: found.readings,
        },
    ))
}

fn zone(text: &str) -> Result<Tz, String> {
    text.parse().map_err(|_| {
        format!(
            "{} is not the name of an IANA time zone, such as Europe/Berlin",
            quote(text)
        )
    })
}

fn default_percents() -> Vec<(String, f64)> {
    [50.0, 95.0, 99.0]
        .map(|percent: f64| (percent.to_string(), percent))
        .to_vec()
}

/// The most wrong percentages that a refusal names.
const NAMED_MAX: usize = 10;

/// Reads a list of percentages. Returns each with its text, which becomes its key in the response.
fn percents(text: &str) -> Result<Vec<(String, f64)>, String> {
    let percent = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let percent: f64 = text.parse().ok().filter(|_| plain)?;
        (0.0..=100.0).contains(&percent).then_some(percent)
    };
    let wrong: Vec<_> = text.split(',').filter(|text| percent(text).is_none()).collect();
    match wrong.as_slice() {
        [] => {}
        [one] => return Err(format!("{} is not a number between 0 and 100", quote(one))),
        several => {
            let named: Vec<_> = several.iter().take(NAMED_MAX).map(|text| quote(text)).collect();
            let others = several.len() - named.len();
            let others = (others > 0).then(|| format!(" and {others} others"));
            return Err(format!(
                "{}{} are not numbers between 0 and 100",
                named.join(", "),
                others.unwrap_or_default()
            ));
        }
    }
    let percents: Vec<_> = text
        .split(',')
        .filter_map(|text| Some((text.to_owned(), percent(text)?)))
        .collect();
    if percents.len() > MAX_PERCENTILES {
        return Err(format!(
            "has {} percentiles; the maximum is {MAX_PERCENTILES}",
            percents.len()
        ));
    }
    Ok(percents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_keep_their_text_as_a_name() {
        let names =
            |text| percents(text).map(|percents| percents.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
        assert_eq!(
            names("50,99.9,0,100,095"),
            Ok(["50", "99.9", "0", "100", "095"].map(str::to_owned).to_vec())
        );
        for text in [
            "", "50,", ",", "-1", "100.1", "+5", "1e1", "nan", "inf", "50;95", " 50", ".",
        ] {
            assert!(percents(text).is_err(), "{text}");
        }
        assert!(percents(&"1,".repeat(200)).is_err());
        assert_eq!(
            percents("50,abc,-1,200").unwrap_err(),
            r#""abc", "-1", "200" are not numbers between 0 and 100"#
        );
        assert_eq!(
            percents(&["x"; 12].join(",")).unwrap_err(),
            format!(
                "{} and 2 others are not numbers between 0 and 100",
                [r#""x""#; 10].join(", ")
            )
        );
    }

    #[test]
    fn zones_are_iana_names() {
        for text in ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu"] {
            assert_eq!(zone(text).unwrap().name(), text);
        }
        for text in ["", "Berlin", "+01:00", "CEST"] {
            assert!(zone(text).is_err(), "{text}");
        }
    }
}
