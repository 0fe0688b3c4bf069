//! The simulation with a real server, and with fake ones that fail.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use examples::{Client, ClientError, Population, Simulation};
use health_core::{Config, Health, UserId, client::Credentials};
use health_server::{Listeners, ServerLimits, run};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, header::RETRY_AFTER, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use test_support::TestDatabase;
use tokio::{net::TcpListener, time::timeout};

/// Longer than any step of a test takes.
const TIMEOUT: Duration = Duration::from_secs(90);

fn hour() -> (DateTime<Utc>, DateTime<Utc>) {
    let start = DateTime::from_timestamp(1_740_787_200, 0).unwrap();
    (start, start + TimeDelta::hours(1))
}

fn population() -> Population {
    Population::new(1, 3, "8s".parse().unwrap())
}

#[tokio::test]
async fn filling_a_range_stores_its_samples_and_filling_it_again_changes_nothing() {
    let database = TestDatabase::new().await;
    let health = Health::open(Config::from_url(database.url()).unwrap()).await.unwrap();
    let listeners = Listeners::bind("127.0.0.1:0", "127.0.0.1:0").await.unwrap();
    let client = client(listeners.http_address().port());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(run(listeners, health, ServerLimits::default(), async {
        let _ = stopped.await;
    }));
    let (start, end) = hour();
    let expected = u64::try_from(population().samples(start, end).count()).unwrap();

    let mut simulation = Simulation::new(population(), client.clone(), |line| panic!("{line}"));
    simulation.fill(start, end, |_| ()).await.unwrap();
    assert_eq!(simulation.totals().counts.inserted, expected);
    simulation.fill(start, end, |_| ()).await.unwrap();
    assert_eq!(simulation.totals().counts.unchanged, expected);
    let stored = client.metrics(UserId::new(101).unwrap(), start, end).await.unwrap();
    assert_eq!(u64::try_from(stored.stats.samples).unwrap(), {
        let of_101 = population()
            .samples(start, end)
            .filter(|sample| sample.user_id().get() == 101);
        u64::try_from(of_101.count()).unwrap()
    });

    drop(simulation);
    drop(client);
    drop(stop);
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_overloaded_server_is_retried_with_one_message_at_each_change() {
    let calls = Arc::new(AtomicU32::new(0));
    let port = fake_server({
        let calls = Arc::clone(&calls);
        move |_| match calls.fetch_add(1, Ordering::SeqCst) {
            0..3 => (
                503,
                r#"{"type":"about:blank","title":"","status":503,"detail":"the database is away"}"#,
            ),
            _ => (200, r#"{"accepted":1,"inserted":1,"updated":0,"unchanged":0}"#),
        }
    })
    .await;
    let messages = Arc::new(Mutex::new(Vec::new()));
    let mut simulation = Simulation::new(population(), client(port), {
        let messages = Arc::clone(&messages);
        move |message| messages.lock().unwrap().push(message.to_owned())
    });
    let (start, end) = hour();
    timeout(TIMEOUT, simulation.fill(start, end, |_| ()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(simulation.totals().retries, 3);
    assert_eq!(simulation.check_complete(), Ok(()));
    assert_eq!(simulation.totals().counts.accepted, 1);
    let messages = messages.lock().unwrap();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(
        messages[0].starts_with("the database is away") && messages[1].contains("again"),
        "{messages:?}"
    );
}

/// The program `simulate` ends with this error as its last sentence, and with status 1.
#[tokio::test]
async fn a_simulation_that_the_server_did_not_take_is_incomplete() {
    let port = fake_server(|_| {
        (
            503,
            r#"{"type":"about:blank","title":"","status":503,"detail":"the database is away"}"#,
        )
    })
    .await;
    let (failed, mut failures) = tokio::sync::mpsc::unbounded_channel();
    let mut simulation = Simulation::new(population(), client(port), move |message| {
        failed.send(message.to_owned()).unwrap();
    });
    let (start, end) = hour();
    tokio::select! {
        result = simulation.fill(start, end, |_| ()) => panic!("{result:?}"),
        message = failures.recv() => assert_eq!(message.unwrap(), "the database is away (retrying)"),
    }
    let error = simulation.check_complete().unwrap_err().to_string();
    assert_eq!(error, "the server does not have the last samples: the database is away");
    assert!(
        simulation
            .totals()
            .summary(Duration::from_secs(1))
            .starts_with("posted 0 samples (")
    );

    let port = fake_server(|_| {
        (
            422,
            r#"{"type":"about:blank","title":"","status":422,"detail":"","accepted":1,"inserted":1,"updated":0,"unchanged":0,"rejected":2,"errors":[]}"#,
        )
    })
    .await;
    let mut simulation = Simulation::new(population(), client(port), |_| ());
    simulation
        .fill(start, start + TimeDelta::minutes(1), |_| ())
        .await
        .unwrap();
    let error = simulation.check_complete().unwrap_err().to_string();
    assert!(error.starts_with("the server refused 2 samples and stored "), "{error}");
}

#[tokio::test]
async fn a_refused_request_is_not_repeated() {
    let port = fake_server(|_| {
        (
            401,
            r#"{"type":"about:blank","title":"","status":401,"detail":"a token is needed"}"#,
        )
    })
    .await;
    let mut simulation = Simulation::new(population(), client(port), |line| panic!("{line}"));
    let (start, end) = hour();
    let refused = simulation.fill(start, end, |_| ()).await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused { status: 401, .. }));
    assert!(
        refused
            .to_string()
            .ends_with("responded with 401: a token is needed. Set HEALTH_TOKEN or use --token-file."),
        "{refused}"
    );
}

#[tokio::test]
async fn present_samples_are_posted_when_they_are_due() {
    let (bodies, mut posted) = tokio::sync::mpsc::unbounded_channel();
    let port = fake_server(move |body| {
        let _ = bodies.send(body);
        (200, r#"{"accepted":1,"inserted":1,"updated":0,"unchanged":0}"#)
    })
    .await;
    let population = Population::new(1, 20, "10ms".parse().unwrap());
    let mut simulation = Simulation::new(population, client(port), |line| panic!("{line}"));
    let start = Utc::now();
    let three = async {
        let mut lines = String::new();
        for _ in 0..3 {
            lines += std::str::from_utf8(&posted.recv().await.unwrap()).unwrap();
        }
        lines
    };
    let lines = tokio::select! {
        lines = timeout(TIMEOUT, three) => lines.unwrap(),
        result = simulation.live(start) => panic!("{result:?}"),
    };
    for line in lines.lines() {
        let sample: health_core::Sample = serde_json::from_str(line).unwrap();
        assert!(sample.timestamp() >= start - TimeDelta::milliseconds(1) && sample.timestamp() <= Utc::now());
    }
}

fn client(port: u16) -> Client {
    let server = format!("http://127.0.0.1:{port}").parse().unwrap();
    Client::new(server, &Credentials::default()).unwrap()
}

/// Starts a server that answers each request by a function and allows retries at once. Returns its port.
async fn fake_server(respond: impl Fn(Bytes) -> (u16, &'static str) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let respond = Arc::new(respond);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let respond = Arc::clone(&respond);
            let service = service_fn(move |request: Request<Incoming>| {
                let respond = Arc::clone(&respond);
                async move {
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let (status, text) = respond(body);
                    let response = Response::builder().status(status).header(RETRY_AFTER, "0");
                    Ok::<_, Infallible>(response.body(Full::new(Bytes::from_static(text.as_bytes()))).unwrap())
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    port
}
