//! Dashboards with made-up users, for snapshots, budgets and the pictures of the documentation.
//!
//! The samples are the same on every run and every machine, so a snapshot changes only if the dashboard changes.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use health_core::{
    Calories, HeartRate, PercentilesResponse, Readings, Sample, SeriesBucket, Source, SourceTotals, Stats,
    StatsResponse, Steps, UserId,
};

use crate::{
    app::{
        App, ChartData, ConnectionEvent, Effect, Input, NetworkEvent, Query, QueryResponse, ReceivedSamples,
        UserRangeStats, WindowResponse,
    },
    config::Settings,
    keys::Key,
    theme::ThemeName,
};

/// Returns the time of all fixtures.
pub(crate) fn noon() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 2, 11, 24, 16)
        .single()
        .expect("a time in UTC is unique")
}

const NAMES: [&str; 24] = [
    "Ada Lovelace",
    "Alan Turing",
    "Barbara Liskov",
    "Claude Shannon",
    "Donald Knuth",
    "Edsger Dijkstra",
    "Frances Allen",
    "Grace Hopper",
    "Hedy Lamarr",
    "Ida Rhodes",
    "Jean Bartik",
    "Katherine Johnson",
    "Leslie Lamport",
    "Margaret Hamilton",
    "Niklaus Wirth",
    "Ole-Johan Dahl",
    "Peter Naur",
    "Radia Perlman",
    "Sophie Wilson",
    "Tony Hoare",
    "Ursula Martin",
    "Vint Cerf",
    "Whitfield Diffie",
    "Yann LeCun",
];

/// A made-up user.
struct Person {
    id: i64,
    /// The heart rate at rest, in beats per minute.
    resting_rate: f64,
    /// The effort at a time in seconds, from 0 (at rest) to 1.
    effort: fn(f64) -> f64,
    /// Seconds since the newest sample.
    silent_seconds: i64,
}

fn people() -> Vec<Person> {
    let efforts: [fn(f64) -> f64; 6] = [
        |_| 0.02,
        |t| (0.45 + 0.25 * (t / 70.0).sin()).max(0.0),
        |t| if (t / 300.0).sin() > 0.2 { 0.4 } else { 0.03 },
        |_| 0.0,
        |t| 0.75 + 0.2 * (t / 110.0).cos(),
        |t| 0.12 * (t / 45.0).sin().abs(),
    ];
    (0i64..)
        .zip(NAMES)
        .map(|(i, _)| Person {
            id: 101 + i * 3,
            resting_rate: 52.0 + f64::from(u32::try_from(i * 7 % 23).unwrap_or(0)),
            effort: efforts[usize::try_from(i * 5 % 6).unwrap_or(0)],
            silent_seconds: match i {
                9 => 26 * 60,
                17 => 190,
                _ => i * 3 % 8,
            },
        })
        .collect()
}

impl Person {
    fn sample(&self, at: DateTime<Utc>) -> Option<Sample> {
        let t = f64::from(i32::try_from(at.timestamp() - 1_772_400_000).unwrap_or(0)) + 37.0 * self.resting_rate;
        // Pseudo-random, from the time alone.
        let noise = ((t * 12.9898 + self.resting_rate).sin() * 43_758.545_3).fract();
        let effort = (self.effort)(t).clamp(0.0, 1.0);
        let heart_rate = (self.resting_rate + effort * 105.0 + noise * 2.5).round();
        let steps = if effort > 0.2 { effort * 21.0 + noise * 2.0 } else { 0.0 };
        let readings = Readings {
            heart_rate: HeartRate::new(heart_rate).ok(),
            steps: Steps::new(whole(steps)).ok(),
            calories: Calories::new(((0.16 + effort * 1.7) * 100.0).round() / 100.0).ok(),
        };
        Sample::new(UserId::new(self.id).ok()?, at, Source::new("watch").ok()?, readings).ok()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "at most a few thousand steps")]
fn whole(v: f64) -> i64 {
    v.max(0.0) as i64
}

/// Returns a dashboard that has received samples for eight minutes.
pub(crate) fn live(theme: ThemeName, size: (u16, u16)) -> App {
    let names: HashMap<i64, String> = people().iter().zip(NAMES).map(|(p, n)| (p.id, n.to_owned())).collect();
    let settings = Settings {
        theme,
        names,
        tz: Tz::Europe__Berlin,
        ..Settings::default()
    };
    let mut app = App::new(settings, "127.0.0.1:8001", size, noon());
    let connected = ConnectionEvent::Connected {
        resumed: None,
        reason: None,
    };
    app.update(
        Input::Network(NetworkEvent::Connection(connected)),
        noon() - TimeDelta::minutes(10),
    );
    for person in people().iter().filter(|p| p.silent_seconds > 600) {
        let samples =
            (0..30).filter_map(|i| person.sample(noon() - TimeDelta::seconds(person.silent_seconds + (30 - i) * 8)));
        let received = ReceivedSamples {
            samples: samples.collect(),
            replaced: 0,
        };
        app.update(
            Input::Network(NetworkEvent::Samples(received)),
            noon() - TimeDelta::minutes(9),
        );
    }
    for step in (0..60).rev() {
        let now = noon() - TimeDelta::seconds(step * 8);
        let samples = people()
            .iter()
            .filter(|p| p.silent_seconds < 60 || step * 8 > p.silent_seconds)
            .filter_map(|p| {
                p.sample(now - TimeDelta::seconds(if p.silent_seconds < 60 { p.silent_seconds } else { 0 }))
            })
            // The watch of user 122 was off for a while.
            .filter(|s| !(s.user_id().get() == 122 && (18..30).contains(&step)))
            .collect();
        app.update(
            Input::Network(NetworkEvent::Samples(ReceivedSamples { samples, replaced: 0 })),
            now,
        );
    }
    app.update(Input::Tick, noon());
    press(&mut app, &["down", "down"]);
    app
}

/// Returns a dashboard that shows one user.
pub(crate) fn user(theme: ThemeName, size: (u16, u16)) -> App {
    let mut app = live(theme, size);
    let effects = press(&mut app, &["down", "down", "down", "enter", "-", "-"]);
    let Some((id, user, start, end)) = effects.into_iter().rev().find_map(|e| match e {
        Effect::SendQuery {
            id,
            query: Query::Window { user, start, end, .. },
        } => Some((id, user, start, end)),
        _ => None,
    }) else {
        return app;
    };
    let people = people();
    let Some(person) = people.iter().find(|p| p.id == user) else {
        return app;
    };
    let mut samples = Vec::new();
    let mut at = start;
    while at < end.min(noon()) {
        // The watch was on its charger.
        let is_off = (noon() - TimeDelta::minutes(47)..noon() - TimeDelta::minutes(38)).contains(&at);
        samples.extend(person.sample(at).filter(|_| !is_off));
        at += TimeDelta::seconds(8);
    }
    if let Some(response) = window_response(person, samples, noon() - TimeDelta::hours(1), noon()) {
        let result = Ok(QueryResponse::Window(Box::new(response)));
        app.update(Input::Network(NetworkEvent::Response { id, result }), noon());
    }
    press(&mut app, &["left"; 30]);
    app
}

/// Returns the server's response for these samples. The coverage is made up.
fn window_response(
    person: &Person,
    samples: Vec<Sample>,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Option<WindowResponse> {
    let mut response = stats(person, start, end)?;
    let visible: Vec<&Sample> = samples.iter().filter(|s| s.timestamp() >= start).collect();
    let mut heart_rates: Vec<f64> = visible
        .iter()
        .filter_map(|s| s.heart_rate().map(HeartRate::get))
        .collect();
    heart_rates.sort_by(f64::total_cmp);
    let count = u32::try_from(heart_rates.len()).ok()?;
    let stats = &mut response.stats;
    stats.samples = i64::try_from(visible.len()).ok()?;
    stats.average_heart_rate = Some(heart_rates.iter().sum::<f64>() / f64::from(count));
    stats.min_heart_rate = heart_rates.first().copied();
    stats.max_heart_rate = heart_rates.last().copied();
    stats.heart_rate_coverage = 0.85;
    stats.total_steps = visible
        .iter()
        .filter_map(|s| s.steps())
        .map(|v| i64::from(v.get()))
        .sum();
    stats.total_calories = visible.iter().filter_map(|s| s.calories()).map(Calories::get).sum();
    for source in &mut response.sources {
        source.samples = response.stats.samples;
    }
    let percentile = |p: usize| {
        let rank = (p * heart_rates.len()).div_ceil(100);
        (p.to_string(), heart_rates.get(rank - 1).copied())
    };
    Some(WindowResponse {
        percentiles: PercentilesResponse {
            percentiles: (1..=100).map(percentile).collect(),
            samples: response.stats.samples,
        },
        stats: response,
        chart: ChartData::Samples(samples),
    })
}

/// Answers the newest query of the user view with these samples and with empty statistics.
pub(crate) fn respond_to_window(app: &mut App, effects: &[Effect], samples: Vec<Sample>) {
    let query = effects.iter().rev().find_map(|e| match e {
        Effect::SendQuery {
            id,
            query: Query::Window { user, visible, .. },
        } => Some((*id, *user, *visible)),
        _ => None,
    });
    let (id, user, (start, end)) = query.unwrap();
    let response = WindowResponse {
        chart: ChartData::Samples(samples),
        stats: StatsResponse {
            user_id: UserId::new(user).unwrap(),
            start,
            end,
            stats: Stats::default(),
            sources: Vec::new(),
            message: None,
        },
        percentiles: PercentilesResponse {
            percentiles: [].into(),
            samples: 0,
        },
    };
    let result = Ok(QueryResponse::Window(Box::new(response)));
    app.update(Input::Network(NetworkEvent::Response { id, result }), app.now);
}

/// Returns a dashboard with the statistics of three users.
pub(crate) fn range(theme: ThemeName, size: (u16, u16)) -> App {
    let mut app = live(theme, size);
    press(&mut app, &["2", "backtab"]);
    app.update(Input::Paste(", 113, 131".to_owned()), noon());
    let effects = press(&mut app, &["tab", "right", "enter"]);
    if let Some(Effect::SendQuery {
        id,
        query: Query::Range { users, start, end, .. },
    }) = effects.into_iter().next_back()
    {
        let people = people();
        let answer = users
            .iter()
            .filter_map(|id| people.iter().find(|p| p.id == *id))
            .filter_map(|person| {
                let mut buckets = Vec::new();
                let mut at = start;
                while at < end {
                    let next = at + TimeDelta::minutes(15);
                    buckets.push(SeriesBucket {
                        start: at,
                        end: next.min(end),
                        stats: stats(person, at, next)?.stats,
                    });
                    at = next;
                }
                Some(UserRangeStats {
                    stats: stats(person, start, end)?,
                    buckets,
                    percentiles: PercentilesResponse {
                        percentiles: [("50", 1.06), ("95", 1.5), ("99", 1.7)]
                            .map(|(p, of)| (p.to_owned(), Some((person.resting_rate * of).round())))
                            .into(),
                        samples: 10_421,
                    },
                })
            })
            .collect();
        app.update(
            Input::Network(NetworkEvent::Response {
                id,
                result: Ok(QueryResponse::Range(answer)),
            }),
            noon(),
        );
    }
    app
}

/// Returns the statistics that a server would send: a day with sleep, a coffee and a run.
fn stats(person: &Person, start: DateTime<Utc>, end: DateTime<Utc>) -> Option<StatsResponse> {
    let mut stats = Stats::default();
    let (mut sum, mut low, mut high, mut n) = (0.0, f64::INFINITY, f64::NEG_INFINITY, 0.0);
    let mut at = start;
    let step = TimeDelta::seconds(((end - start).num_seconds() / 200).max(8));
    while at < end {
        let hour = f64::from(u32::try_from(at.timestamp().rem_euclid(86_400)).unwrap_or(0)) / 3_600.0;
        // A run at seven in the evening, coffee at nine.
        let busy = 32.0 * (-((hour - 18.2) / 0.7).powi(2)).exp() + 9.0 * (-((hour - 8.5) / 1.5).powi(2)).exp();
        let awake = (hour - 2.0).clamp(0.0, 20.0) / 20.0;
        let day = (awake * std::f64::consts::PI).sin();
        let Some(sample) = person.sample(at) else { break };
        let rate = sample.heart_rate().map_or(person.resting_rate, HeartRate::get);
        let rate = person.resting_rate * 0.88
            + (rate - person.resting_rate * 0.88) * (0.04 + 0.12 * day)
            + 8.0 * day
            + busy * (person.resting_rate / 60.0);
        (sum, low, high, n) = (sum + rate, low.min(rate), high.max(rate), n + 1.0);
        let weight = step.as_seconds_f64() / 8.0 * day * 0.2;
        stats.total_steps += whole(sample.steps().map_or(0.0, |v| f64::from(v.get())) * weight);
        stats.total_calories += sample.calories().map_or(0.0, Calories::get) * weight.max(0.3);
        at += step;
    }
    stats.samples = (end - start).num_seconds() / 8;
    stats.average_heart_rate = Some(sum / n);
    stats.time_weighted_heart_rate = Some(sum / n - 0.3);
    stats.min_heart_rate = Some(low);
    stats.max_heart_rate = Some(high);
    stats.heart_rate_coverage = 0.97;
    let sources = vec![SourceTotals {
        source: "watch".to_owned(),
        samples: stats.samples,
        steps: stats.total_steps,
        calories: stats.total_calories,
    }];
    Some(StatsResponse {
        user_id: UserId::new(person.id).ok()?,
        start,
        end,
        stats,
        sources,
        message: None,
    })
}

/// Returns a sample with only a heart rate.
pub(crate) fn sample(user: i64, at: DateTime<Utc>, bpm: f64) -> Sample {
    let readings = Readings {
        heart_rate: HeartRate::new(bpm).ok(),
        ..Readings::default()
    };
    Sample::new(UserId::new(user).unwrap(), at, Source::default(), readings).unwrap()
}

/// Presses keys. Returns the effects of all of them.
pub(crate) fn press(app: &mut App, keys: &[&str]) -> Vec<Effect> {
    let mut effects = Vec::new();
    for key in keys.iter().filter_map(|k| Key::parse(k)) {
        effects.extend(app.update(Input::Key(key), app.now));
    }
    effects
}
