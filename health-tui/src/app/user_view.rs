//! The view of one user: a movable time window, and what the server says about it.

use chrono::{DateTime, TimeDelta, Utc};
use health_core::{Bucket, Erasure, Sample, StatsResponse};

use crate::{
    app::{
        chart_point::{ChartPoint, Reading},
        heart_rate_zones::HeartRateZones,
        query::{ChartData, Query, WindowResponse, narrowest_bucket},
    },
    store::User,
};

/// The lengths of the window in minutes: from five minutes to two years.
const WINDOW_MINUTES: [i64; 16] = [
    5, 15, 30, 60, 120, 240, 480, 720, 1_440, 2_880, 5_760, 10_080, 20_160, 43_200, 129_600, 1_051_200,
];

/// The longest window whose chart is drawn from single samples: 7 200 samples if a device sends one each second.
const SAMPLES_WINDOW_MINUTES_MAX: i64 = 120;

/// The largest number of buckets in a query: more than twice the columns of a wide terminal.
const BUCKETS_MAX: i32 = 1_000;

/// The largest number of samples that a live window keeps: two hours, and the margin, of one sample each second.
const READINGS_MAX: usize = 20_000;

/// The pause before a failed query is repeated. It equals the longest backoff of the feed.
const RETRY_SECONDS: i64 = 10;

/// The contract refuses samples before this time: 2000-01-01.
const OLDEST_UNIX_SECONDS: i64 = 946_684_800;

/// A half-open time range.
type Window = (DateTime<Utc>, DateTime<Utc>);

/// The view of one user.
#[derive(Clone, Debug)]
pub(crate) struct UserView {
    pub(crate) id: i64,
    /// The end of the window. `None` follows the present.
    end: Option<DateTime<Utc>>,
    /// An index into [`WINDOW_MINUTES`].
    zoom: usize,
    /// The time under the chart cursor.
    pub(crate) cursor: Option<DateTime<Utc>>,
    /// The samples that `points` are made of, by time and source. Empty if the chart shows buckets.
    readings: Vec<Reading>,
    pub(crate) points: Vec<ChartPoint>,
    stats: Option<Box<WindowStats>>,
    /// The visible window of the newest query.
    queried_window: Option<Window>,
    loaded: Option<LoadedRange>,
    pending: Option<PendingQuery>,
    pub(crate) error: Option<String>,
    /// When the query of a live or failed window is repeated.
    refresh_at: Option<DateTime<Utc>>,
}

/// What the server says about a window.
#[derive(Clone, Debug)]
pub(crate) struct WindowStats {
    /// The answer of `GET /metrics`.
    pub(crate) response: StatsResponse,
    /// Computed from the answer of `GET /metrics/percentiles`.
    pub(crate) zones: Option<HeartRateZones>,
}

/// The range that the chart covers, and the width of its buckets (`None`: single samples).
#[derive(Clone, Copy, Debug, PartialEq)]
struct LoadedRange {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    bucket: Option<Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct PendingQuery {
    id: u64,
    range: LoadedRange,
}

impl UserView {
    /// Opens a live window. Until the server answers, it shows the samples that the live table remembers.
    pub(crate) fn new(id: i64, user: Option<&User>) -> Self {
        let readings = user.map(Reading::remembered).unwrap_or_default();
        Self {
            id,
            end: None,
            zoom: 1,
            cursor: None,
            points: ChartPoint::from_readings(&readings),
            readings,
            stats: None,
            queried_window: None,
            loaded: None,
            pending: None,
            error: None,
            refresh_at: None,
        }
    }

    /// Opens the same window of another user.
    pub(crate) fn with_same_window(&self, id: i64, user: Option<&User>) -> Self {
        Self {
            id,
            end: self.end,
            zoom: self.zoom,
            cursor: self.cursor,
            ..Self::new(id, user)
        }
    }

    /// Returns the length of the window.
    pub(crate) fn length(&self) -> TimeDelta {
        TimeDelta::minutes(WINDOW_MINUTES[self.zoom])
    }

    pub(crate) fn is_live(&self) -> bool {
        self.end.is_none()
    }

    /// Returns the visible window.
    pub(crate) fn window(&self, now: DateTime<Utc>) -> Window {
        let end = self.end.unwrap_or(now);
        (end - self.length(), end)
    }

    /// Returns the width of the chart's buckets. `None` means single samples.
    pub(crate) fn bucket(&self) -> Option<Bucket> {
        (self.length() > TimeDelta::minutes(SAMPLES_WINDOW_MINUTES_MAX))
            .then(|| narrowest_bucket(self.length() * 2, BUCKETS_MAX))
    }

    /// Zooms around the chart cursor, or around the end of the window.
    pub(crate) fn zoom(&mut self, closer: bool, now: DateTime<Utc>) {
        let zoom = if closer {
            self.zoom.saturating_sub(1)
        } else {
            (self.zoom + 1).min(WINDOW_MINUTES.len() - 1)
        };
        if zoom == self.zoom {
            return;
        }
        let (start, end) = self.window(now);
        let old_length = self.length();
        self.zoom = zoom;
        if let Some(cursor) = self.cursor.filter(|cursor| start <= *cursor && *cursor < end) {
            // The time under the cursor stays on its column.
            let share = (end - cursor).as_seconds_f64() / old_length.as_seconds_f64();
            self.set_end(cursor + seconds(share * self.length().as_seconds_f64()), now);
        }
    }

    /// Moves the window by a share of its length: -0.5 is half a window into the past.
    pub(crate) fn pan(&mut self, share: f64, now: DateTime<Utc>) {
        let (_, end) = self.window(now);
        self.set_end(end + seconds(self.length().as_seconds_f64() * share), now);
    }

    /// Moves the end of the window to `end`. A window that would reach into the future becomes live.
    pub(crate) fn set_end(&mut self, end: DateTime<Utc>, now: DateTime<Utc>) {
        let oldest = DateTime::from_timestamp(OLDEST_UNIX_SECONDS, 0).unwrap_or_default();
        self.end = (end < now).then(|| end.max(oldest + self.length()));
    }

    pub(crate) fn go_live(&mut self) {
        self.end = None;
        self.cursor = None;
    }

    /// Moves the cursor by columns of a chart that is `width` columns wide. At an edge the window moves too.
    pub(crate) fn move_cursor(&mut self, columns: i32, width: u16, now: DateTime<Utc>) {
        let (start, end) = self.window(now);
        let column = self.length() / i32::from(width.max(1));
        let from = self
            .cursor
            .filter(|cursor| start <= *cursor && *cursor < end)
            .unwrap_or(end - column / 2);
        let to = from + column * columns;
        if to < start {
            self.pan(-0.25, now);
        } else if to >= end {
            if self.is_live() {
                self.cursor = None;
                return;
            }
            self.pan(0.25, now);
        }
        let (start, end) = self.window(now);
        self.cursor = Some(to.clamp(start, end - TimeDelta::milliseconds(1)));
    }

    /// Puts the cursor on a column.
    pub(crate) fn set_cursor_column(&mut self, column: u16, width: u16, now: DateTime<Utc>) {
        let (start, _) = self.window(now);
        let share = (f64::from(column) + 0.5) / f64::from(width.max(1));
        self.cursor = Some(start + seconds(self.length().as_seconds_f64() * share));
    }

    /// Adds samples from the feed to a chart of single samples. Buckets wait for the next response of the server.
    pub(crate) fn add_samples<'a>(&mut self, samples: impl Iterator<Item = &'a Sample>) {
        let is_live = self.is_live();
        let Some(loaded) = self.loaded.as_mut().filter(|loaded| loaded.bucket.is_none()) else {
            return;
        };
        let mut has_changed = false;
        for sample in samples {
            // A window in the past may end long before this sample: the samples between them are not loaded.
            if is_live {
                loaded.end = loaded.end.max(sample.timestamp());
            }
            insert_reading(&mut self.readings, Reading::from(sample));
            has_changed = true;
        }
        if has_changed {
            let excess = self.readings.len().saturating_sub(READINGS_MAX);
            self.readings.drain(..excess);
            self.points = ChartPoint::from_readings(&self.readings);
        }
    }

    /// Drops what was erased, and what may contain it: statistics and buckets. Then everything is asked for again.
    pub(crate) fn forget(&mut self, erasure: &Erasure) {
        self.readings
            .retain(|reading| !erasure.covers_reading(reading.at, &reading.source));
        // Without readings, these are buckets.
        self.points = ChartPoint::from_readings(&self.readings);
        self.stats = None;
        self.loaded = None;
        self.reload();
    }

    /// Returns the id of the pending query.
    pub(crate) fn pending_query(&self) -> Option<u64> {
        self.pending.map(|pending| pending.id)
    }

    /// Returns whether the chart waits for the server.
    pub(crate) fn is_loading(&self, now: DateTime<Utc>) -> bool {
        self.pending.is_some() && !self.covers_window(self.loaded, now)
    }

    /// Returns whether a range covers the whole window with the right buckets.
    fn covers_window(&self, range: Option<LoadedRange>, now: DateTime<Utc>) -> bool {
        let (start, end) = self.window(now);
        let bucket = self.bucket();
        range
            .is_some_and(|range| range.bucket == bucket && range.start <= start && (range.end >= end || self.is_live()))
    }

    /// Returns the query that the window needs, if any.
    ///
    /// The chart asks for half a window more on each side, so that the next pan finds its samples already there.
    pub(crate) fn next_query(&self, now: DateTime<Utc>) -> Option<Query> {
        let visible = self.window(now);
        let is_same_window = self
            .queried_window
            .is_some_and(|queried| self.is_near(queried, visible));
        let is_outdated = self.is_live() && self.refresh_at.is_some_and(|at| at <= now);
        let is_answered = match self.pending {
            Some(pending) => self.covers_window(Some(pending.range), now),
            None => self.covers_window(self.loaded, now) && !is_outdated,
        };
        if is_same_window && is_answered {
            return None;
        }
        let margin = self.length() / 2;
        Some(Query::Window {
            user: self.id,
            start: visible.0 - margin,
            end: (visible.1 + margin).min(now + TimeDelta::seconds(1)),
            bucket: self.bucket(),
            visible,
        })
    }

    /// Notes that `query` was sent with the id `id`. Returns the id of the query that it replaces.
    pub(crate) fn query_sent(&mut self, id: u64, query: &Query) -> Option<u64> {
        let Query::Window {
            start,
            end,
            bucket,
            visible,
            ..
        } = query
        else {
            return None;
        };
        self.queried_window = Some(*visible);
        self.refresh_at = None;
        let range = LoadedRange {
            start: *start,
            end: *end,
            bucket: *bucket,
        };
        self.pending.replace(PendingQuery { id, range }).map(|old| old.id)
    }

    /// Returns the server's statistics of the visible window. `None` while they belong to another window.
    ///
    /// The statistics of a live window end at the time of the query: the server cannot know later samples.
    pub(crate) fn stats(&self, now: DateTime<Utc>) -> Option<&WindowStats> {
        self.stats.as_deref().filter(|stats| {
            let range = (stats.response.start, stats.response.end);
            self.is_near(range, self.window(now))
        })
    }

    /// Returns whether two windows are the same, apart from the movement of a live window since its query.
    fn is_near(&self, one: Window, other: Window) -> bool {
        let tolerance = self.length() / if self.is_live() { 12 } else { 1_000 };
        (one.0 - other.0).abs() <= tolerance && (one.1 - other.1).abs() <= tolerance
    }

    /// Takes over the response to the pending query.
    pub(crate) fn response_received(&mut self, response: WindowResponse, heart_rate_max: f64, now: DateTime<Utc>) {
        let loaded = self.pending.take().map(|pending| pending.range);
        let is_live = self.is_live();
        match response.chart {
            ChartData::Samples(samples) => {
                let mut readings: Vec<Reading> = samples.iter().map(Reading::from).collect();
                if is_live {
                    // Samples may have arrived on the feed while the server answered.
                    let newest = readings.last().map(|reading| reading.at);
                    let known = self.readings.drain(..);
                    readings.extend(known.filter(|reading| newest.is_none_or(|newest| reading.at > newest)));
                }
                self.points = ChartPoint::from_readings(&readings);
                self.readings = readings;
            }
            ChartData::Buckets(buckets) => {
                self.points = buckets.iter().map(ChartPoint::from_bucket).collect();
                self.readings.clear();
            }
        }
        self.stats = Some(Box::new(WindowStats {
            zones: HeartRateZones::from_percentiles(&response.percentiles, heart_rate_max),
            response: response.stats,
        }));
        self.loaded = loaded;
        self.error = None;
        self.refresh_at = Some(now + self.refresh_interval());
    }

    /// Notes that the pending query failed.
    pub(crate) fn query_failed(&mut self, reason: String, now: DateTime<Utc>) {
        // The range counts as loaded, so that the query is not repeated at once.
        self.loaded = self.pending.take().map(|pending| pending.range);
        self.stats = None;
        self.error = Some(reason);
        self.refresh_at = Some(now + TimeDelta::seconds(RETRY_SECONDS));
    }

    /// Returns when the view changes by time alone.
    pub(crate) fn next_change(&self, width: u16, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if !self.is_live() {
            return self.error.as_ref().and(self.refresh_at);
        }
        // A live chart moves by one dot at a time. A column has two dots.
        let dot = (self.length() / (2 * i32::from(width.max(1)))).max(TimeDelta::milliseconds(500));
        let refresh_at = self.refresh_at.filter(|_| self.pending.is_none());
        [Some(now + dot), refresh_at].into_iter().flatten().min()
    }

    /// Forgets a failure, so that the query is repeated at once.
    pub(crate) fn retry(&mut self) {
        if self.error.take().is_some() {
            self.loaded = None;
        }
    }

    /// Moves the repetition of the query with a clock that was set back.
    pub(crate) fn clock_set_back(&mut self, back: TimeDelta) {
        self.refresh_at = self.refresh_at.map(|at| at - back);
    }

    /// Repeats the query, because samples may be missing. What is shown stays until the response arrives.
    pub(crate) fn reload(&mut self) {
        self.queried_window = None;
    }

    /// Returns how long the statistics of a live window stay on the screen: the window moves by a thirtieth.
    fn refresh_interval(&self) -> TimeDelta {
        (self.length() / 30).clamp(TimeDelta::seconds(15), TimeDelta::minutes(5))
    }
}

/// Inserts a reading by time and source. A reading with the same identity is replaced: the feed sends merged samples,
/// and after a reconnect it may repeat samples.
fn insert_reading(readings: &mut Vec<Reading>, reading: Reading) {
    let key = |reading: &Reading| (reading.at, reading.source.clone());
    let index = readings.partition_point(|other| key(other) < key(&reading));
    match readings.get_mut(index) {
        Some(same) if key(same) == key(&reading) => *same = reading,
        _ => readings.insert(index, reading),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a window is at most a few years long: far fewer than 2^63 milliseconds"
)]
fn seconds(seconds: f64) -> TimeDelta {
    TimeDelta::milliseconds((seconds * 1_000.0) as i64)
}

#[cfg(test)]
mod tests {
    use health_core::{PercentilesResponse, Stats, UserId};

    use super::*;

    fn t(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_740_938_400 + seconds, 0).unwrap()
    }

    /// The response to `query`, without samples.
    fn empty_response(query: &Query) -> WindowResponse {
        let Query::Window { visible, .. } = query else {
            panic!("{query:?}");
        };
        WindowResponse {
            chart: ChartData::Samples(Vec::new()),
            stats: StatsResponse {
                user_id: UserId::new(1).unwrap(),
                start: visible.0,
                end: visible.1,
                stats: Stats::default(),
                sources: Vec::new(),
                message: None,
            },
            percentiles: PercentilesResponse {
                percentiles: [].into(),
                samples: 0,
            },
        }
    }

    #[test]
    fn a_query_is_sent_only_for_what_is_not_loaded() {
        let mut view = UserView::new(1, None);
        let first = view.next_query(t(0)).unwrap();
        assert_eq!(view.query_sent(1, &first), None);
        assert_eq!(view.next_query(t(0)), None, "the query is pending");
        view.response_received(empty_response(&first), 190.0, t(0));
        assert_eq!(view.next_query(t(1)), None);
        view.pan(-0.5, t(1));
        let past = view.next_query(t(1)).unwrap();
        assert_eq!(view.query_sent(2, &past), None);
        assert_eq!(view.next_query(t(1)), None);
        view.go_live();
        let live = view.next_query(t(1)).unwrap();
        assert_eq!(
            view.query_sent(3, &live),
            Some(2),
            "the new query replaces the pending one"
        );
        view.response_received(empty_response(&live), 190.0, t(1));
        assert_eq!(view.next_query(t(1)), None);
        assert!(
            view.next_query(t(40)).is_some(),
            "the statistics of a live window are refreshed"
        );
    }

    #[test]
    fn statistics_belong_to_the_window_they_were_asked_for() {
        let mut view = UserView::new(1, None);
        let query = view.next_query(t(0)).unwrap();
        view.query_sent(1, &query);
        view.response_received(empty_response(&query), 190.0, t(0));
        assert!(view.stats(t(1)).is_some());
        view.pan(-0.5, t(1));
        assert!(view.stats(t(1)).is_none(), "the window shows another range");
    }

    #[test]
    fn zoom_keeps_the_time_under_the_cursor() {
        let mut view = UserView::new(1, None);
        view.set_cursor_column(25, 100, t(0));
        let cursor = view.cursor.unwrap();
        view.zoom(true, t(0));
        let (start, end) = view.window(t(0));
        let share = (cursor - start).as_seconds_f64() / (end - start).as_seconds_f64();
        assert!((share - 0.255).abs() < 0.001, "{share}");
        assert!(!view.is_live());
    }

    #[test]
    fn no_window_shows_the_future_or_the_time_before_2000() {
        let mut view = UserView::new(1, None);
        view.pan(3.0, t(0));
        assert!(view.is_live());
        for _ in 0..40 {
            view.zoom(false, t(0));
            view.pan(-1.0, t(0));
        }
        assert!(view.window(t(0)).0 >= DateTime::from_timestamp(OLDEST_UNIX_SECONDS, 0).unwrap());
    }
}
