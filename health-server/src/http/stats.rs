//! `GET /metrics` and what lies below it: one user over one range.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use health_core::{Bucket, Error, PercentilesResponse, RangeStats, SeriesResponse, StatsResponse};
use hyper::StatusCode;

use crate::{
    app::App,
    http::{
        problem::{Refusal, Reply, json},
        query::{Query, quote},
    },
};

/// Percentiles of one request.
const MOST_PERCENTILES: usize = 1001;

/// `GET /metrics`
pub(crate) async fn stats(app: &App, query: Option<&str>) -> Result<Reply, Refusal> {
    let mut query = Query::parse(query, &["user_id", "start", "end"]);
    let found = query.user_and_range();
    let (user_id, range) = query.finish(found)?;
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

/// `GET /metrics/series`
pub(crate) async fn series(app: &App, query: Option<&str>) -> Result<Reply, Refusal> {
    let mut query = Query::parse(query, &["user_id", "start", "end", "bucket", "tz"]);
    let found = query.user_and_range();
    let bucket = query.required("bucket", |text| {
        text.parse::<Bucket>().map_err(|error| error.to_string())
    });
    let zone = query.optional_or("tz", Tz::UTC, zone);
    let ((user_id, range), bucket, zone) = query.finish(
        found
            .zip(bucket)
            .zip(zone)
            .map(|((found, bucket), zone)| (found, bucket, zone)),
    )?;
    let buckets = match app.health.series(user_id, range, bucket, zone).await {
        Err(Error::TooManyBuckets(error)) => {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, format!("bucket: {error}.")));
        }
        outcome => outcome?,
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

/// `GET /metrics/percentiles`
pub(crate) async fn percentiles(app: &App, query: Option<&str>) -> Result<Reply, Refusal> {
    let mut query = Query::parse(query, &["user_id", "start", "end", "p"]);
    let found = query.user_and_range();
    let asked = query.optional_or("p", usual_percentiles(), percents);
    let ((user_id, range), asked) = query.finish(found.zip(asked))?;
    let (names, percents): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
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
    text.parse()
        .map_err(|_| format!("{} is not an IANA time zone such as Europe/Berlin", quote(text)))
}

fn usual_percentiles() -> Vec<(String, f64)> {
    [50.0, 95.0, 99.0]
        .map(|percent: f64| (percent.to_string(), percent))
        .to_vec()
}

/// Each percentile with its name, which is how it was written.
fn percents(text: &str) -> Result<Vec<(String, f64)>, String> {
    let percent = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let percent = text
            .parse()
            .ok()
            .filter(|percent| plain && (0.0..=100.0).contains(percent));
        percent
            .map(|percent| (text.to_owned(), percent))
            .ok_or_else(|| format!("{} is not a number between 0 and 100", quote(text)))
    };
    let percents = text.split(',').map(percent).collect::<Result<Vec<_>, _>>()?;
    if percents.len() > MOST_PERCENTILES {
        return Err(format!(
            "asks for {} percentiles, at most {MOST_PERCENTILES} are answered",
            percents.len()
        ));
    }
    Ok(percents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_keep_the_names_they_were_asked_by() {
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
    }

    #[test]
    fn zones_are_those_of_iana() {
        for text in ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu"] {
            assert_eq!(zone(text).unwrap().name(), text);
        }
        for text in ["", "Berlin", "+01:00", "CEST"] {
            assert!(zone(text).is_err(), "{text}");
        }
    }
}
