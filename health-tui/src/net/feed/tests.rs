use health_core::{HeartRate, Readings, Source, UserId};

use super::*;

fn sample(user: i64, seconds: i64, bpm: f64) -> Sample {
    let readings = Readings {
        heart_rate: HeartRate::new(bpm).ok(),
        ..Readings::default()
    };
    let at = chrono::DateTime::from_timestamp(1_740_938_400 + seconds, 0).unwrap();
    Sample::new(UserId::new(user).unwrap(), at, Source::default(), readings).unwrap()
}

#[test]
fn coalescing_keeps_the_newest_sample_of_each_user() {
    let mut newest = NewestSamples::default();
    let received = |samples| ReceivedSamples { samples, replaced: 0 };
    newest.add(received(vec![
        sample(1, 0, 60.0),
        sample(2, 0, 70.0),
        sample(1, 8, 61.0),
    ]));
    newest.add(received(vec![sample(1, 4, 99.0)]));
    let mut taken = newest.take();
    taken.samples.sort_by_key(|sample| sample.user_id().get());
    assert_eq!(taken.samples, [sample(1, 8, 61.0), sample(2, 0, 70.0)]);
    assert_eq!(taken.replaced, 2);
    assert!(newest.is_empty());
}

#[tokio::test]
async fn a_busy_event_loop_gets_the_newest_sample_of_each_user_and_the_number_of_replaced_samples() {
    let (to, mut events) = mpsc::channel(2);
    let mut task = FeedTask::new(feed_options(&Options::default()).unwrap(), to, Arc::new(Notify::new()));
    for round in 0..50 {
        for user in 1..=4 {
            let samples = vec![sample(user, round, 60.0 + f64::from(u32::try_from(round).unwrap()))];
            task.pass_on(FeedUpdate::Samples(samples)).await.unwrap();
        }
    }
    let (mut latest, mut count, mut replaced) = (HashMap::new(), 0, 0);
    let mut apply = |received: ReceivedSamples| {
        count += u64::try_from(received.samples.len()).unwrap();
        replaced += received.replaced;
        for sample in received.samples {
            latest.insert(sample.user_id().get(), sample.heart_rate().unwrap().get());
        }
    };
    while let Ok(NetworkEvent::Samples(received)) = events.try_recv() {
        apply(received);
    }
    apply(task.waiting.take());
    assert!(replaced > 0, "the event loop was never busy");
    assert_eq!(count + replaced, 200);
    assert!(
        (1..=4).all(|user| (latest[&user] - 109.0_f64).abs() < 1e-9),
        "{latest:?}"
    );
}

#[tokio::test]
async fn the_task_ends_with_the_dashboard() {
    let (to, events) = mpsc::channel(2);
    let task = FeedTask::new(feed_options(&Options::default()).unwrap(), to, Arc::new(Notify::new()));
    drop(events);
    task.run().await;
}
