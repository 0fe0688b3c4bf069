//! The budgets of the dashboard: frames, bytes to the terminal, memory and the time of a frame.

use std::{io, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use health_core::{Calories, HeartRate, Readings, Sample, Source, Steps, UserId};
use ratatui::{buffer::Buffer, layout::Rect};
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use crate::{
    app::{App, ConnectionEvent, Effect, Input, NetworkEvent, ReceivedSamples},
    config::Settings,
    fixtures::{noon, press, respond_to_window},
    keys::Key,
    run::{self, EffectOutcome, Environment},
    store::Users,
    term::Screen,
    ui,
};

const SIZE: (u16, u16) = (200, 50);

/// Returns a sample that differs from user to user and from second to second.
fn sample(user: i64, at: DateTime<Utc>) -> Sample {
    let n = user * 7 + at.timestamp() * 3;
    let wave = f64::from(i32::try_from(n % 97).unwrap());
    let readings = Readings {
        heart_rate: HeartRate::new(60.0 + wave).ok(),
        steps: Steps::new(n % 23).ok(),
        calories: Calories::new(wave / 50.0).ok(),
    };
    Sample::new(UserId::new(user).unwrap(), at, Source::new("watch").unwrap(), readings).unwrap()
}

/// Returns a dashboard with full rings for `users` users.
fn with_users(users: i64) -> App {
    let settings = Settings {
        mouse: false,
        ..Settings::default()
    };
    let mut app = App::new(settings, "feed", SIZE, noon());
    app.update(
        Input::Network(NetworkEvent::Connection(ConnectionEvent::Connected {
            resumed: None,
            reason: None,
        })),
        noon(),
    );
    for step in 0..50 {
        let at = noon() - TimeDelta::seconds(50 - step);
        let samples = (1..=users).map(|u| sample(u, at)).collect();
        app.update(
            Input::Network(NetworkEvent::Samples(ReceivedSamples { samples, replaced: 0 })),
            at,
        );
    }
    app.update(Input::Tick, noon());
    app
}

/// A terminal that counts writes and bytes.
#[derive(Clone, Default)]
struct Counter {
    writes: std::rc::Rc<std::cell::Cell<(u64, u64)>>,
}

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (writes, sum) = self.writes.get();
        self.writes.set((writes + 1, sum + u64::try_from(bytes.len()).unwrap()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A world without effects, whose clock follows the paused clock of the runtime.
struct TestEnvironment {
    began: Instant,
}

impl Environment for TestEnvironment {
    fn perform(&mut self, effect: Effect) -> io::Result<EffectOutcome> {
        Ok(match effect {
            Effect::Quit { keep_frame } => EffectOutcome::Quit { keep_frame },
            _ => EffectOutcome::Done,
        })
    }

    fn now(&self) -> DateTime<Utc> {
        noon() + TimeDelta::from_std(self.began.elapsed()).unwrap()
    }

    fn may_draw(&self) -> bool {
        true
    }
}

/// Runs the loop for `length` while `feed` sends it input. Returns the writes and the bytes of all frames.
async fn count<F: Future<Output = ()>>(
    app: &mut App,
    length: Duration,
    feed: impl FnOnce(mpsc::Sender<NetworkEvent>, mpsc::Sender<io::Result<Input>>) -> F,
) -> (u64, u64) {
    let counter = Counter::default();
    let mut screen = Screen::new(counter.clone());
    let mut environment = TestEnvironment { began: Instant::now() };
    let (to, net) = mpsc::channel(64);
    let (keys, events) = mpsc::channel(64);
    // These keep both channels open until the test ends.
    let senders = (to.clone(), keys.clone());
    let event_loop = run::run(
        app,
        &mut screen,
        &mut environment,
        events,
        net,
        Duration::from_millis(100),
        sleep(length),
    );
    let writes = counter.writes.clone();
    let both = async { tokio::join!(event_loop, feed(to, keys)).0 };
    both.await.unwrap();
    drop(senders);
    writes.get()
}

#[tokio::test(start_paused = true)]
async fn an_idle_dashboard_draws_nothing() {
    // The samples are hours old, so no age changes within a minute.
    let mut app = App::new(Settings::default(), "feed", SIZE, noon());
    app.update(
        Input::Network(NetworkEvent::Connection(ConnectionEvent::Connected {
            resumed: None,
            reason: None,
        })),
        noon(),
    );
    let samples = (1..=40)
        .map(|u| sample(u, noon() - TimeDelta::minutes(200) - TimeDelta::seconds(30)))
        .collect();
    app.update(
        Input::Network(NetworkEvent::Samples(ReceivedSamples { samples, replaced: 0 })),
        noon() - TimeDelta::minutes(30),
    );
    app.update(Input::Tick, noon());
    let (writes, _) = count(&mut app, Duration::from_mins(1), |_, _| async {}).await;
    assert_eq!(writes, 1, "only the first frame");
}

#[tokio::test(start_paused = true)]
async fn ages_that_change_within_a_second_are_one_frame() {
    let mut app = App::new(Settings::default(), "feed", SIZE, noon());
    // Forty devices that stopped at forty moments of the last minute: each age changes at another time.
    let samples = (1..=40)
        .map(|u| sample(u, noon() - TimeDelta::milliseconds(u * 1_037)))
        .collect();
    app.update(
        Input::Network(NetworkEvent::Samples(ReceivedSamples { samples, replaced: 0 })),
        noon() - TimeDelta::minutes(30),
    );
    app.update(Input::Tick, noon());
    let (writes, _) = count(&mut app, Duration::from_secs(10), |_, _| async {}).await;
    assert!((10..=12).contains(&writes), "{writes} frames in 10 seconds");
}

#[tokio::test(start_paused = true)]
async fn many_samples_draw_no_more_than_the_frame_rate() {
    let mut app = with_users(100);
    let feed = |to: mpsc::Sender<NetworkEvent>, _| async move {
        for i in 0..100_000i64 {
            let received = ReceivedSamples {
                samples: vec![sample(1 + i % 100, noon() + TimeDelta::microseconds(i * 10))],
                replaced: 0,
            };
            to.send(NetworkEvent::Samples(received)).await.unwrap();
            if i % 100 == 99 {
                sleep(Duration::from_millis(1)).await;
            }
        }
    };
    let (writes, _) = count(&mut app, Duration::from_secs(1), feed).await;
    assert!(
        (5..=11).contains(&writes),
        "{writes} frames in a second, but the limit is 10"
    );
}

#[tokio::test(start_paused = true)]
async fn each_key_press_is_drawn_at_once() {
    let mut app = with_users(100);
    let feed = |_, keys: mpsc::Sender<io::Result<Input>>| async move {
        for _ in 0..50 {
            sleep(Duration::from_millis(10)).await;
            let down = Key::parse("down").unwrap();
            keys.send(Ok(Input::Key(down))).await.unwrap();
        }
        sleep(Duration::from_millis(1)).await;
    };
    let (writes, _) = count(&mut app, Duration::from_millis(520), feed).await;
    assert!(writes >= 50, "{writes} frames for 50 key presses");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_users_need_at_most_60_kb_a_second() {
    const SECONDS: u64 = 10;
    let mut app = with_users(10_000);
    let feed = |to: mpsc::Sender<NetworkEvent>, _| async move {
        for tenth in 0..i64::try_from(SECONDS).unwrap() * 10 {
            let at = noon() + TimeDelta::milliseconds(tenth * 100);
            let samples = (1..=1_000)
                .map(|i| sample(1 + (i * 10 + tenth % 10) % 10_000, at))
                .collect();
            to.send(NetworkEvent::Samples(ReceivedSamples { samples, replaced: 0 }))
                .await
                .unwrap();
            sleep(Duration::from_millis(100)).await;
        }
    };
    let (writes, bytes) = count(&mut app, Duration::from_secs(SECONDS), feed).await;
    println!(
        "10 000 users, 10 000 samples/s at 200x50: {writes} writes, {} bytes a second",
        bytes / SECONDS
    );
    assert!(bytes / SECONDS <= 60_000, "{} bytes a second", bytes / SECONDS);
}

#[test]
fn a_user_needs_at_most_one_kilobyte() {
    let users = with_users(1_000).users;
    let each = users.iter().map(|u| u.ring.capacity_bytes()).max().unwrap() + size_of_val(users.at(0).unwrap());
    println!("{each} bytes a user, and 24 to 48 for the index");
    assert!(each + 48 <= 1_024, "{each} bytes");
    assert!(Users::default().len() == 0);
}

/// Returns the CPU time of the fastest of 30 frames of each dashboard at 200x50. CPU time leaves out the other programs
/// of a busy machine. The dashboards take turns, so that a machine that is slower for a while is so for both.
fn frame_times(apps: [&App; 2]) -> [Duration; 2] {
    let mut buf = Buffer::empty(Rect::new(0, 0, SIZE.0, SIZE.1));
    let mut best = [Duration::MAX; 2];
    for _ in 0..30 {
        for (app, best) in apps.into_iter().zip(&mut best) {
            buf.reset();
            let start = cpu_time();
            ui::draw(app, &mut buf);
            *best = cpu_time().saturating_sub(start).min(*best);
        }
    }
    best
}

/// Returns the CPU time that this thread has used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

/// The assertion is loose, because a debug build is many times slower. A release build prints the time:
/// `cargo test --release -p health-tui --lib budgets -- --nocapture`.
#[test]
fn a_frame_takes_the_same_time_for_any_number_of_users() {
    let [few, many] = frame_times([&with_users(100), &with_users(10_000)]);
    println!("a frame of 100 users {few:?}, of 10 000 {many:?}");
    assert!(many < few * 3 + Duration::from_millis(1), "{few:?} and {many:?}");
}

/// The largest chart: a window of two hours with a reading each second, and the readings of two hours before it.
#[test]
fn a_chart_takes_little_more_time_for_many_readings() {
    let user = |seconds: i64| {
        let mut app = with_users(1);
        // Zooms out from 15 minutes to 2 hours.
        let effects = press(&mut app, &["enter", "-", "-", "-"]);
        let samples = (0..4 * 3_600 / seconds)
            .map(|i| sample(1, noon() - TimeDelta::seconds(4 * 3_600 - i * seconds)))
            .collect();
        respond_to_window(&mut app, &effects, samples);
        app
    };
    let [sparse, dense] = frame_times([&user(60), &user(1)]);
    println!("a frame of one user with 120 readings in the window {sparse:?}, with 7 200 {dense:?}");
    assert!(
        dense < sparse * 30 + Duration::from_millis(1),
        "{sparse:?} and {dense:?}"
    );
}
