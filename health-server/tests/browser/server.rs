//! A server in this process, which can be stopped and started again at the same address.

use chrono::{DateTime, TimeDelta, Utc};
use health_core::{Calories, Config, Error, Health, HeartRate, Readings, Sample, Source, Steps, UserId};
use health_server::{Listeners, ServerLimits, run};
use test_support::{ReservedPort, TestDatabase};
use tokio::{sync::oneshot, task::JoinHandle};

/// A server with a database of its own.
pub(crate) struct Server {
    pub(crate) health: Health,
    pub(crate) database: TestDatabase,
    http: ReservedPort,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), Error>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with_database(TestDatabase::new().await).await
    }

    pub(crate) async fn with_database(database: TestDatabase) -> Self {
        Self::start_at(ReservedPort::new(), database).await
    }

    async fn start_at(http: ReservedPort, database: TestDatabase) -> Self {
        let health = Health::open(Config::from_url(database.url()).unwrap()).await.unwrap();
        let address = http.address().to_string();
        let listeners = Listeners::bind(&address, "127.0.0.1:0").await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(run(listeners, health.clone(), ServerLimits::default(), async {
            let _ = stopped.await;
        }));
        Self {
            health,
            database,
            http,
            stop,
            running,
        }
    }

    /// Stops the server. Returns how it starts again at the same address.
    pub(crate) async fn stop(self) -> Stopped {
        self.stop.send(()).unwrap();
        self.running.await.unwrap().unwrap();
        Stopped {
            http: self.http,
            database: self.database,
        }
    }

    /// Returns the address of the page, with a part behind `#`.
    pub(crate) fn page(&self, part: &str) -> String {
        format!("http://{}/#{part}", self.http.address())
    }

    /// Stores samples.
    pub(crate) async fn store(&self, samples: impl IntoIterator<Item = Sample>) {
        self.health.ingest(samples).await.unwrap();
    }
}

/// A server that was stopped.
pub(crate) struct Stopped {
    http: ReservedPort,
    pub(crate) database: TestDatabase,
}

impl Stopped {
    pub(crate) async fn start(self) -> Server {
        Server::start_at(self.http, self.database).await
    }

    /// Starts a server at the same address with another database. It knows no cursor of the first.
    pub(crate) async fn start_with(self, database: TestDatabase) -> Server {
        Server::start_at(self.http, database).await
    }
}

/// Returns a sample of so many seconds ago, from a watch.
pub(crate) fn sample(user: i64, seconds_ago: i64, bpm: f64, steps: i64) -> Sample {
    sample_at(user, Utc::now() - TimeDelta::seconds(seconds_ago), bpm, steps, "watch")
}

/// Returns steps of so many seconds ago, from a phone.
pub(crate) fn steps_of_phone(user: i64, seconds_ago: i64, steps: i64) -> Sample {
    let readings = Readings {
        steps: Some(Steps::new(steps).unwrap()),
        ..Readings::default()
    };
    let at = Utc::now() - TimeDelta::seconds(seconds_ago);
    Sample::new(UserId::new(user).unwrap(), at, Source::new("phone").unwrap(), readings).unwrap()
}

pub(crate) fn sample_at(user: i64, at: DateTime<Utc>, bpm: f64, steps: i64, source: &str) -> Sample {
    let readings = Readings {
        heart_rate: Some(HeartRate::new(bpm).unwrap()),
        steps: Some(Steps::new(steps).unwrap()),
        calories: Some(Calories::new(0.5).unwrap()),
    };
    Sample::new(UserId::new(user).unwrap(), at, Source::new(source).unwrap(), readings).unwrap()
}
