//! Tests of API tokens against a real PostgreSQL: creating, checking and revoking, on several servers.

use std::{future::Future, time::Duration};

use chrono::{TimeDelta, Utc};
use health_core::{
    Config, Error, Health, TimeRange, UserId,
    access::{AccessEnd, Authenticator, NotAuthenticated, TokenAdmin},
    token::{NewToken, Scope, TokenSecret},
};
use test_support::{TestDatabase, patient_limits};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Longer than the contract's limit for a revocation to take effect, which is 10 s: a machine that runs other tests may
/// be slow.
const TIMEOUT: Duration = Duration::from_secs(90);

struct Fixture {
    database: TestDatabase,
    admin: TokenAdmin,
}

impl Fixture {
    async fn new() -> Result<Self, Error> {
        let database = TestDatabase::new().await;
        let admin = TokenAdmin::connect(&Config::from_url(database.url())?).await?;
        Ok(Self { database, admin })
    }

    async fn server(&self) -> Result<(Health, Authenticator), Error> {
        let config = Config::from_url(self.database.url())?;
        let health = Health::open(config.limits(patient_limits())).await?;
        let authenticator = health.authenticator().await?;
        Ok((health, authenticator))
    }

    /// Creates a token that never expires.
    async fn create(&mut self, name: &str, scopes: &str) -> Result<TokenSecret, Box<dyn std::error::Error>> {
        let token = new_token(name, scopes)?;
        Ok(self.admin.create(&token).await?)
    }

    /// Runs a statement of another program.
    async fn execute(&self, statement: &str) -> Result<(), tokio_postgres::Error> {
        self.sql().await?.batch_execute(statement).await
    }

    async fn sql(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(self.database.url(), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

fn new_token(name: &str, scopes: &str) -> Result<NewToken, Box<dyn std::error::Error>> {
    Ok(NewToken {
        name: name.parse()?,
        scopes: scopes.parse()?,
        users: None,
        valid_for: None,
    })
}

async fn in_time<T>(event: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, event).await.expect("the change takes effect")
}

#[tokio::test]
async fn from_the_first_token_on_every_server_asks_for_one_even_after_the_last_was_revoked() -> Outcome {
    let mut fixture = Fixture::new().await?;
    let (_one, first) = fixture.server().await?;
    let (_other, second) = fixture.server().await?;
    let anonymous = first.authenticate(None)?;
    assert!(!first.is_token_needed());
    assert_eq!(anonymous.check_scope(Scope::Erase), Ok(()));
    assert!(
        first.authenticate(Some("anything")).is_ok(),
        "while no token exists, none is looked at"
    );

    let secret = fixture.create("watch", "ingest").await?;
    for authenticator in [&first, &second] {
        assert_eq!(in_time(authenticator.ended(&anonymous)).await, AccessEnd::TokensInForce);
        assert_eq!(authenticator.authenticate(None).unwrap_err(), NotAuthenticated::Missing);
        assert_eq!(
            authenticator.authenticate(Some("anything")).unwrap_err(),
            NotAuthenticated::Unknown
        );
        let access = authenticator.authenticate(Some(secret.as_str()))?;
        assert_eq!(access.name(), "watch");
        assert!(access.check_scope(Scope::Ingest).is_ok() && access.check_scope(Scope::Read).is_err());
    }

    let accesses = [
        first.authenticate(Some(secret.as_str()))?,
        second.authenticate(Some(secret.as_str()))?,
    ];
    fixture.admin.revoke("watch").await?;
    for (authenticator, access) in [&first, &second].into_iter().zip(&accesses) {
        assert_eq!(in_time(authenticator.ended(access)).await, AccessEnd::Changed);
        assert_eq!(
            authenticator.authenticate(Some(secret.as_str())).unwrap_err(),
            NotAuthenticated::Unknown
        );
        assert!(authenticator.is_token_needed());
    }
    let (_late, third) = fixture.server().await?;
    assert_eq!(third.authenticate(None).unwrap_err(), NotAuthenticated::Missing);
    Ok(())
}

#[tokio::test]
async fn another_token_does_not_end_an_access() -> Outcome {
    let mut fixture = Fixture::new().await?;
    let kept = fixture.create("kept", "read").await?;
    let (_health, authenticator) = fixture.server().await?;
    let access = authenticator.authenticate(Some(kept.as_str()))?;
    let other = fixture.create("other", "read").await?;
    let changed = async {
        while authenticator.authenticate(Some(other.as_str())).is_err() {
            tokio::task::yield_now().await;
        }
        let other = authenticator.authenticate(Some(other.as_str())).unwrap();
        fixture.admin.revoke("other").await.unwrap();
        authenticator.ended(&other).await
    };
    tokio::select! {
        end = authenticator.ended(&access) => panic!("{end}"),
        end = in_time(changed) => assert_eq!(end, AccessEnd::Changed),
    }
    assert!(authenticator.authenticate(Some(kept.as_str())).is_ok());
    Ok(())
}

#[tokio::test]
async fn a_token_that_was_narrowed_without_a_notification_ends_what_it_had_opened() -> Outcome {
    let mut fixture = Fixture::new().await?;
    let secret = fixture.create("watch", "ingest,read").await?;
    let (_health, authenticator) = fixture.server().await?;
    let access = authenticator.authenticate(Some(secret.as_str()))?;
    let user = UserId::new(5)?;
    assert!(access.allows_user(user));
    fixture
        .execute("UPDATE health_tokens SET users = '{101}', scopes = '{read}'")
        .await?;
    assert_eq!(in_time(authenticator.ended(&access)).await, AccessEnd::Changed);
    let narrowed = authenticator.authenticate(Some(secret.as_str()))?;
    assert!(narrowed.check_user(user).is_err() && narrowed.check_scope(Scope::Ingest).is_err());
    Ok(())
}

#[tokio::test]
async fn a_token_expires_on_time_without_a_look_at_the_database() -> Outcome {
    let mut fixture = Fixture::new().await?;
    // On a slow machine, the server may know a token only after it has expired.
    let mut seconds = 1;
    let (secret, authenticator, access, _health) = loop {
        let token = NewToken {
            valid_for: Some(Duration::from_secs(seconds)),
            ..new_token(&format!("valid-{seconds}"), "read")?
        };
        let secret = fixture.admin.create(&token).await?;
        let (health, authenticator) = fixture.server().await?;
        match authenticator.authenticate(Some(secret.as_str())) {
            Ok(access) => break (secret, authenticator, access, health),
            Err(NotAuthenticated::Expired) if seconds < 30 => seconds *= 2,
            Err(error) => return Err(error.into()),
        }
    };
    assert_eq!(in_time(authenticator.ended(&access)).await, AccessEnd::Expired);
    assert_eq!(
        authenticator.authenticate(Some(secret.as_str())).unwrap_err(),
        NotAuthenticated::Expired
    );
    Ok(())
}

#[tokio::test]
async fn names_are_unique_among_tokens_that_are_not_revoked() -> Outcome {
    let mut fixture = Fixture::new().await?;
    let first = fixture.create("watch", "ingest").await?;
    let again = fixture.admin.create(&new_token("watch", "read")?).await;
    assert!(matches!(again, Err(Error::TokenExists(name)) if name.as_str() == "watch"));
    fixture.admin.revoke("watch").await?;
    assert!(matches!(
        fixture.admin.revoke("watch").await,
        Err(Error::UnknownToken(_))
    ));
    assert!(matches!(
        fixture.admin.revoke("never").await,
        Err(Error::UnknownToken(_))
    ));
    let second = fixture.create("watch", "read").await?;
    let (_health, authenticator) = fixture.server().await?;
    assert!(authenticator.authenticate(Some(first.as_str())).is_err());
    assert!(authenticator.authenticate(Some(second.as_str())).is_ok());
    Ok(())
}

#[tokio::test]
async fn the_list_shows_everything_but_the_secret() -> Outcome {
    let mut fixture = Fixture::new().await?;
    let limited = NewToken {
        users: Some([101, 202].into_iter().map(UserId::new).collect::<Result<_, _>>()?),
        valid_for: Some(Duration::from_hours(24)),
        ..new_token("b", "read,ingest")?
    };
    let secret = fixture.admin.create(&limited).await?;
    fixture.create("a", "erase").await?;
    let (health, authenticator) = fixture.server().await?;
    let before = Utc::now();
    authenticator.authenticate(Some(secret.as_str()))?;
    let after = Utc::now();
    health.close().await?; // writes the last uses

    let tokens = fixture.admin.list().await?;
    assert_eq!(
        tokens.iter().map(|token| token.name.as_str()).collect::<Vec<_>>(),
        ["a", "b"]
    );
    let (unused, used) = (&tokens[0], &tokens[1]);
    assert_eq!(
        (unused.users.as_ref(), unused.expires_at, unused.last_used_at),
        (None, None, None)
    );
    assert_eq!(used.users, limited.users);
    assert_eq!(used.scopes.to_string(), "ingest,read");
    assert!(used.expires_at.is_some_and(|at| at > after));
    // It is stored in whole seconds.
    assert!(
        used.last_used_at
            .is_some_and(|at| at > before - TimeDelta::seconds(1) && at <= after)
    );
    assert!(!format!("{tokens:?}").contains(secret.as_str()));
    Ok(())
}

#[tokio::test]
async fn the_secret_is_not_in_the_database() -> Outcome {
    let mut fixture = Fixture::new().await?;
    let secret = fixture.create("watch", "ingest").await?;
    let (client, connection) = tokio_postgres::connect(fixture.database.url(), NoTls).await?;
    tokio::spawn(connection);
    let row: String = client
        .query_one("SELECT t::text FROM health_tokens t", &[])
        .await?
        .get(0);
    assert!(!row.contains(secret.as_str()) && !row.contains(&secret.as_str()["health_".len()..]));
    Ok(())
}

#[tokio::test]
async fn a_row_that_another_program_damaged_opens_nothing_more_and_hides_no_revocation() -> Outcome {
    let mut fixture = Fixture::new().await?;
    let damaged = fixture.create("damaged", "read").await?;
    let endless = fixture.create("endless", "read").await?;
    let past = fixture.create("past", "read").await?;
    let doomed = fixture.create("doomed", "read").await?;
    fixture
        .execute(
            "UPDATE health_tokens SET scopes = ARRAY['ingest', NULL, 'admin'], users = ARRAY[101, NULL, -1]::bigint[] \
             WHERE name = 'damaged'; \
             UPDATE health_tokens SET expires_at = 'infinity' WHERE name = 'endless'; \
             UPDATE health_tokens SET expires_at = '-infinity' WHERE name = 'past'",
        )
        .await?;
    let (_health, authenticator) = fixture.server().await?;
    let access = authenticator.authenticate(Some(damaged.as_str()))?;
    assert!(access.check_scope(Scope::Ingest).is_ok() && access.check_scope(Scope::Read).is_err());
    assert_eq!(access.users(), Some(&[UserId::new(101)?].into()));
    assert!(authenticator.authenticate(Some(endless.as_str())).is_ok());
    assert!(authenticator.authenticate(Some(past.as_str())).is_err());

    let doomed = authenticator.authenticate(Some(doomed.as_str()))?;
    fixture.admin.revoke("doomed").await?;
    assert_eq!(in_time(authenticator.ended(&doomed)).await, AccessEnd::Changed);
    Ok(())
}

#[tokio::test]
async fn queries_that_keep_all_readers_busy_do_not_put_off_a_revocation() -> Outcome {
    let mut fixture = Fixture::new().await?;
    let secret = fixture.create("doomed", "read").await?;
    let (health, authenticator) = fixture.server().await?;
    let access = authenticator.authenticate(Some(secret.as_str()))?;
    let lock = fixture.sql().await?;
    lock.batch_execute("BEGIN; LOCK TABLE health_metrics").await?;
    let user = UserId::new(101)?;
    let readers = i64::from(health.limits().readers);
    for _ in 0..3 * readers {
        let health = health.clone();
        let range = TimeRange::new("2025-03-02T00:00:00Z".parse()?, "2025-03-03T00:00:00Z".parse()?)?;
        tokio::spawn(async move { health.samples(user, range).next_page().await.map(|page| page.len()) });
    }
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    // Not in the transaction with the lock, in which the view would not change.
    let observer = fixture.sql().await?;
    while observer.query_one(waiting, &[]).await?.get::<_, i64>(0) < readers {}

    fixture.admin.revoke("doomed").await?;
    assert_eq!(in_time(authenticator.ended(&access)).await, AccessEnd::Changed);
    Ok(())
}
