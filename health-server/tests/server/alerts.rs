//! Each alert of `ops/prometheus/alerts.yml` fires at a real fault, and not before it.
//!
//! A Prometheus scrapes real servers and evaluates the rules as they are. Only the time that a fault must last (`for`)
//! is shortened; `ops/prometheus/alerts_test.yml` tests the rules with their real times. Without Prometheus on the
//! machine, the tests say that they were skipped.

mod clients;
mod database;
mod process;
mod prometheus;
mod summaries;

/// The files with the faults.
const FAULTS: [&str; 4] = [
    include_str!("alerts/clients.rs"),
    include_str!("alerts/database.rs"),
    include_str!("alerts/process.rs"),
    include_str!("alerts/summaries.rs"),
];

#[test]
fn every_alert_is_made_to_fire() {
    let alerts = prometheus::names_of_alerts();
    assert!(alerts.len() > 20, "{alerts:?}");
    for alert in alerts {
        let call = format!("fires(\"{alert}\", ");
        assert!(
            FAULTS.iter().any(|file| file.contains(&call)),
            "no test makes {alert} fire"
        );
    }
}
