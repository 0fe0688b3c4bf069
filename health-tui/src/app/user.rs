//! The view of one user: a window on time that can be moved, and what the server knows of it.

use chrono::{DateTime, TimeDelta, Utc};
use health_core::{Sample, StatsResponse};

use crate::{
    app::action::{BucketWidth, Point, Query},
    store::User,
};

/// The widths of the window in minutes, from the narrowest: five minutes to two years.
const SPANS_MINUTES: [i64; 16] = [
    5, 15, 30, 60, 120, 240, 480, 720, 1_440, 2_880, 5_760, 10_080, 20_160, 43_200, 129_600, 1_051_200,
];

/// Windows up to this long are drawn from the samples themselves: two hours at one a second are 7 200.
const RAW_SPAN_MAX_MINUTES: i64 = 120;

/// Buckets asked for at most: more than twice the columns of a wide terminal's chart.
const BUCKETS_MAX: i32 = 1_000;

/// Points kept while a live window is followed: a day of one a second would be too many, two hours are not.
const POINTS_MAX: usize = 20_000;

/// One user's window.
#[derive(Clone, Debug)]
pub(crate) struct UserView {
    pub(crate) id: i64,
    /// The window's end; none follows the present.
    end: Option<DateTime<Utc>>,
    zoom: usize,
    /// The instant under the read-out.
    pub(crate) cursor: Option<DateTime<Utc>>,
    pub(crate) points: Vec<Point>,
    stats: Option<Box<StatsResponse>>,
    /// The window the statistics were asked for.
    stats_of: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// What the points cover, and in which buckets.
    loaded: Option<(DateTime<Utc>, DateTime<Utc>, Option<BucketWidth>)>,
    pub(crate) asked: Option<u64>,
    asked_for: Option<(DateTime<Utc>, DateTime<Utc>, Option<BucketWidth>)>,
    pub(crate) error: Option<String>,
    /// When a followed window of buckets is asked about again.
    refresh_at: Option<DateTime<Utc>>,
}

impl UserView {
    /// Begins with what the table remembers, so that there is something to see while the server is asked.
    pub(crate) fn new(id: i64, known: Option<&User>) -> Self {
        let mut previous = None;
        let remembered = known.into_iter().flat_map(|u| u.ring.entries()).map(|entry| {
            let point = Point::of_entry(entry, previous);
            previous = Some(point.at);
            point
        });
        Self {
            id,
            end: None,
            zoom: 1,
            cursor: None,
            points: remembered.collect(),
            stats: None,
            stats_of: None,
            loaded: None,
            asked: None,
            asked_for: None,
            error: None,
            refresh_at: None,
        }
    }

    /// The same window on somebody else.
    pub(crate) fn of_other(&self, id: i64, known: Option<&User>) -> Self {
        Self {
            id,
            end: self.end,
            zoom: self.zoom,
            cursor: self.cursor,
            ..Self::new(id, known)
        }
    }

    pub(crate) fn span(&self) -> TimeDelta {
        TimeDelta::minutes(SPANS_MINUTES[self.zoom])
    }

    pub(crate) fn is_live(&self) -> bool {
        self.end.is_none()
    }

    /// The window, half-open.
    pub(crate) fn window(&self, now: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
        let end = self.end.unwrap_or(now);
        (end - self.span(), end)
    }

    pub(crate) fn bucket(&self) -> Option<BucketWidth> {
        (self.span() > TimeDelta::minutes(RAW_SPAN_MAX_MINUTES))
            .then(|| BucketWidth::for_span(self.span() * 2, BUCKETS_MAX))
    }

    /// Zooms around the read-out, or around the end.
    pub(crate) fn zoom(&mut self, closer: bool, now: DateTime<Utc>) {
        let zoom = if closer {
            self.zoom.saturating_sub(1)
        } else {
            (self.zoom + 1).min(SPANS_MINUTES.len() - 1)
        };
        if zoom == self.zoom {
            return;
        }
        let (start, end) = self.window(now);
        let before = self.span();
        self.zoom = zoom;
        if let Some(cursor) = self.cursor.filter(|c| start <= *c && *c < end) {
            // The instant under the read-out stays where it is on the screen.
            let behind = (end - cursor).as_seconds_f64() / before.as_seconds_f64() * self.span().as_seconds_f64();
            self.set_end(cursor + seconds(behind), now);
        }
    }

    /// Moves by a share of the window: -0.5 is half a window back.
    pub(crate) fn pan(&mut self, share: f64, now: DateTime<Utc>) {
        let by = seconds(self.span().as_seconds_f64() * share);
        let (_, end) = self.window(now);
        self.set_end(end + by, now);
    }

    /// A window that ends at `end`, or the nearest to it that does not show the future.
    pub(crate) fn set_end(&mut self, end: DateTime<Utc>, now: DateTime<Utc>) {
        let oldest = DateTime::from_timestamp(946_684_800, 0).unwrap_or_default();
        self.end = (end < now).then(|| end.max(oldest + self.span()));
    }

    pub(crate) fn go_live(&mut self) {
        self.end = None;
        self.cursor = None;
    }

    /// Moves the read-out by columns of a chart `width` columns wide; the window follows at its edges.
    pub(crate) fn move_cursor(&mut self, columns: i32, width: u16, now: DateTime<Utc>) {
        let (start, end) = self.window(now);
        let step = self.span() / i32::from(width.max(1));
        let from = self
            .cursor
            .filter(|c| start <= *c && *c < end)
            .unwrap_or(end - step / 2);
        let to = from + step * columns;
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

    /// Puts the read-out on a column.
    pub(crate) fn set_cursor_column(&mut self, column: u16, width: u16, now: DateTime<Utc>) {
        let (start, _) = self.window(now);
        let share = (f64::from(column) + 0.5) / f64::from(width.max(1));
        self.cursor = Some(start + seconds(self.span().as_seconds_f64() * share));
    }

    /// A sample of this user from the feed.
    pub(crate) fn hear(&mut self, sample: &Sample) {
        if self.bucket().is_some() || self.loaded.is_none_or(|l| l.2.is_some()) {
            return;
        }
        let at = self.points.partition_point(|p| p.at <= sample.timestamp());
        let previous = at.checked_sub(1).map(|i| self.points[i].at);
        let point = Point::of_sample(sample, previous);
        // After a reconnect the feed may tell again what it told before.
        let again = |p: &Point| (p.heart_rate, p.steps, p.calories) == (point.heart_rate, point.steps, point.calories);
        if self.points[..at]
            .iter()
            .rev()
            .take_while(|p| p.at == point.at)
            .any(again)
        {
            return;
        }
        self.points.insert(at, point);
        if self.points.len() > POINTS_MAX {
            self.points.remove(0);
        }
        if let Some(loaded) = &mut self.loaded {
            loaded.1 = loaded.1.max(point.at);
        }
    }

    /// Whether the server has been asked for something that is not there yet.
    pub(crate) fn is_loading(&self, now: DateTime<Utc>) -> bool {
        self.asked.is_some() && !self.covers(self.loaded, now)
    }

    /// Whether what was loaded, or asked for, holds the whole window in the right buckets.
    fn covers(&self, have: Option<(DateTime<Utc>, DateTime<Utc>, Option<BucketWidth>)>, now: DateTime<Utc>) -> bool {
        let (start, end) = self.window(now);
        let bucket = self.bucket();
        have.is_some_and(|(a, b, width)| width == bucket && a <= start && (b >= end || self.is_live()))
    }

    /// What has to be asked so that the window can be drawn, if anything: half a window more on each side, so that the
    /// next step of the hand finds it there.
    pub(crate) fn wants(&self, now: DateTime<Utc>) -> Option<Query> {
        let (start, end) = self.window(now);
        let fits = self.stats_of.is_some_and(|of| self.fits(of, (start, end)));
        let stale = self.is_live() && self.refresh_at.is_some_and(|at| at <= now);
        if fits
            && (self.asked.is_some() && self.covers(self.asked_for, now)
                || self.asked.is_none() && self.covers(self.loaded, now) && !stale)
        {
            return None;
        }
        let half = self.span() / 2;
        Some(Query::Window {
            user: self.id,
            start: start - half,
            end: (end + half).min(now + TimeDelta::seconds(1)),
            bucket: self.bucket(),
            seen: (start, end),
        })
    }

    /// Remembers that `query` was sent as `id`. Returns what it makes obsolete.
    pub(crate) fn asking(&mut self, id: u64, query: &Query) -> Option<u64> {
        if let Query::Window {
            start,
            end,
            bucket,
            seen,
            ..
        } = query
        {
            self.asked_for = Some((*start, *end, *bucket));
            self.stats_of = Some(*seen);
        }
        self.refresh_at = None;
        self.asked.replace(id)
    }

    /// What the server says of the window that is seen; none while it says it of another.
    pub(crate) fn stats(&self, now: DateTime<Utc>) -> Option<&StatsResponse> {
        self.stats
            .as_deref()
            .filter(|s| self.fits((s.start, s.end), self.window(now)))
    }

    /// Whether two windows are the same but for what a live one has moved since it was asked about.
    fn fits(&self, one: (DateTime<Utc>, DateTime<Utc>), other: (DateTime<Utc>, DateTime<Utc>)) -> bool {
        let near = self.span() / if self.is_live() { 12 } else { 1_000 };
        (one.0 - other.0).abs() <= near && (one.1 - other.1).abs() <= near
    }

    pub(crate) fn answered(&mut self, points: Vec<Point>, stats: Option<Box<StatsResponse>>, now: DateTime<Utc>) {
        let raw = self.asked_for.is_some_and(|a| a.2.is_none()) && self.loaded.is_none_or(|l| l.2.is_none());
        let mut points = points;
        if raw {
            // The feed went on while the server was looking: what is newer than its answer stays.
            let known = points.last().map(|p| p.at);
            points.extend(self.points.drain(..).filter(|p| known.is_none_or(|known| p.at > known)));
        }
        self.points = points;
        self.stats = stats;
        self.loaded = self.asked_for.take();
        self.asked = None;
        self.error = None;
        self.refresh_at = Some(now + self.refresh_every());
    }

    pub(crate) fn failed(&mut self, why: String, now: DateTime<Utc>) {
        self.asked = None;
        self.error = Some(why);
        // What was asked counts as loaded (with nothing in it), so that the question is not repeated without end.
        self.loaded = self.asked_for.take();
        self.stats = None;
        self.refresh_at = Some(now + TimeDelta::seconds(10));
    }

    /// When [`UserView::wants`] may say something new without anything having happened.
    pub(crate) fn next_change(&self, width: u16, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if !self.is_live() {
            return self.error.as_ref().and(self.refresh_at);
        }
        // The picture moves by one dot when the window has: two dots a column.
        let dot = (self.span() / (2 * i32::from(width.max(1)))).max(TimeDelta::milliseconds(500));
        [Some(now + dot), self.refresh_at.filter(|_| self.asked.is_none())]
            .into_iter()
            .flatten()
            .min()
    }

    /// Forgets a failure, so that the next look asks again.
    pub(crate) fn retry(&mut self) {
        if self.error.take().is_some() {
            self.loaded = None;
        }
    }

    /// The statistics of a live window are asked for again from time to time; the points come by the feed.
    fn refresh_every(&self) -> TimeDelta {
        (self.span() / 30).clamp(TimeDelta::seconds(15), TimeDelta::minutes(5))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "at most a few years of milliseconds: far inside an i64"
)]
fn seconds(s: f64) -> TimeDelta {
    TimeDelta::milliseconds((s * 1_000.0) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(s: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_740_938_400 + s, 0).unwrap()
    }

    #[test]
    fn going_back_asks_for_what_is_missing_and_coming_back_does_not() {
        let mut view = UserView::new(1, None);
        let first = view.wants(t(0)).unwrap();
        assert_eq!(view.asking(1, &first), None);
        assert_eq!(view.wants(t(0)), None, "asked already");
        view.answered(Vec::new(), None, t(0));
        assert_eq!(view.wants(t(1)), None);
        view.pan(-0.5, t(1));
        let back = view.wants(t(1)).unwrap();
        assert_eq!(view.asking(2, &back), None);
        assert_eq!(view.wants(t(1)), None);
        view.go_live();
        let live = view.wants(t(1)).unwrap();
        assert_eq!(view.asking(3, &live), Some(2), "what was asked before is obsolete");
        view.answered(Vec::new(), None, t(1));
        assert_eq!(view.wants(t(1)), None);
        assert!(view.wants(t(40)).is_some(), "the statistics of a live window grow old");
    }

    #[test]
    fn zoom_keeps_the_instant_under_the_read_out() {
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
        assert!(view.window(t(0)).0 >= DateTime::from_timestamp(946_684_800, 0).unwrap());
    }
}
