//! What SIGHUP does: the certificate and the configuration file are read again.

use std::{
    convert::Infallible,
    ffi::OsString,
    future::pending,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{signal::unix::Signal, task::spawn_blocking};

use crate::{
    config::{self, SECRET_KEYS, Values},
    logging::LogFilter,
    tls::ServerTls,
};

/// The settings that a running server takes over. Everything else is fixed when the server starts.
const APPLIED: [&str; 1] = [LOG];

const LOG: &str = "log";

/// What the server was started with, to compare it with the file.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    pub(crate) argv: Vec<OsString>,
    /// What is in force.
    pub(crate) values: Values,
    pub(crate) log: LogFilter,
    pub(crate) reloads: Arc<FailedReloads>,
}

/// How often the configuration file could not be used when it was read again.
#[derive(Debug, Default)]
pub(crate) struct FailedReloads(AtomicU64);

/// Reads the certificate and the configuration file again at each SIGHUP. Without either, SIGHUP ends the program as it
/// ends any other.
pub(crate) async fn reload_on_hangup(
    hangup: Option<Signal>,
    tls: Option<Arc<ServerTls>>,
    mut config: Option<ConfigFile>,
) -> Infallible {
    if let Some(mut hangup) = hangup {
        while hangup.recv().await.is_some() {
            if let Some(config) = &mut config {
                config.reload();
            }
            if let Some(tls) = tls.clone() {
                // A file may be on a disk that does not answer, and a bug in the reading of one must not end the
                // server.
                if spawn_blocking(move || tls.reload()).await.is_err() {
                    tracing::error!("the old certificate stays in use, because reading the new one panicked");
                }
            }
        }
    }
    pending().await
}

impl FailedReloads {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl ConfigFile {
    /// Reads the file again, applies what can be applied, and says what changed.
    fn reload(&mut self) {
        let file = self.path.display();
        let loaded = match config::load(&self.argv) {
            Ok(loaded) => loaded,
            Err(error) => {
                self.reloads.0.fetch_add(1, Relaxed);
                tracing::error!(%error, "cannot use the configuration file: the settings stay as they were");
                return;
            }
        };
        let changes = changes(&self.values, &loaded.values);
        if changes.is_empty() {
            tracing::info!("read the configuration file {file} again: no setting changed");
        }
        for change in changes {
            let Change { key, before, after } = &change;
            if !APPLIED.contains(&key.as_str()) {
                tracing::warn!(
                    setting = key,
                    before,
                    after,
                    "a setting in {file} changed: restart the server to apply it"
                );
                continue;
            }
            let say = || {
                tracing::info!(
                    setting = key,
                    before,
                    after,
                    "a setting in {file} changed, and was applied"
                );
            };
            // Said under that filter of the two that shows it.
            let is_shown = tracing::enabled!(tracing::Level::INFO);
            if is_shown {
                say();
            }
            self.log.set(&loaded.args.log);
            if !is_shown {
                say();
            }
            if let Some(values) = loaded.values.get(key) {
                self.values.insert(key.clone(), values.clone());
            }
        }
    }
}

/// A setting that has another value than before.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    key: String,
    before: String,
    after: String,
}

fn changes(before: &Values, after: &Values) -> Vec<Change> {
    let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    let change = |key: &String| Change {
        key: key.clone(),
        before: shown(key, before.get(key)),
        after: shown(key, after.get(key)),
    };
    changed.map(change).collect()
}

/// Returns the values of a setting for the log, which has no secrets.
fn shown(key: &str, values: Option<&Vec<OsString>>) -> String {
    match values {
        None => "not set".to_owned(),
        Some(_) if SECRET_KEYS.contains(&key) => "not shown".to_owned(),
        Some(values) => {
            let values: Vec<_> = values.iter().map(|value| value.to_string_lossy()).collect();
            values.join(",")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(list: &[(&str, &[&str])]) -> Values {
        let entry = |(key, values): &(&str, &[&str])| {
            let values = values.iter().map(OsString::from).collect();
            ((*key).to_owned(), values)
        };
        list.iter().map(entry).collect()
    }

    #[test]
    fn changes_are_named_with_both_values_but_never_a_secret() {
        let before = values(&[
            ("http", &["127.0.0.1:1"]),
            ("writers", &["2"]),
            ("database-url", &["postgres://me:hunter2@h"]),
        ]);
        let after = values(&[
            ("http", &["127.0.0.1:1"]),
            ("allow-host", &["a", "b"]),
            ("database-url", &["postgres://me:hunter3@h"]),
        ]);
        let text = format!("{:?}", changes(&before, &after));
        assert!(!text.contains("hunter") && !text.contains("http"), "{text}");
        let expected = |key: &str, before: &str, after: &str| Change {
            key: key.to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
        };
        assert_eq!(
            changes(&before, &after),
            [
                expected("allow-host", "not set", "a,b"),
                expected("database-url", "not shown", "not shown"),
                expected("writers", "2", "not set"),
            ]
        );
    }
}
