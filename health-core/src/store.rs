//! Everything that speaks SQL. Each statement is a named constant with the reason for its shape.

pub(crate) mod append;
pub(crate) mod awaited_users;
pub(crate) mod batch_key;
pub(crate) mod capacity;
pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod cluster_check;
pub(crate) mod columns;
pub(crate) mod commit_log;
pub(crate) mod connect;
pub(crate) mod connect_refusal;
pub(crate) mod connection;
pub(crate) mod copy;
pub(crate) mod ctid;
pub(crate) mod database;
pub(crate) mod dirty_slices;
pub(crate) mod distribute;
pub(crate) mod doorbell;
pub(crate) mod dry_run;
pub(crate) mod erase;
pub(crate) mod error;
pub(crate) mod export;
pub(crate) mod feed_rows;
#[cfg(test)]
mod feed_rows_tests;
pub(crate) mod grants;
pub(crate) mod lock_wait;
pub(crate) mod look_up;
pub(crate) mod micros;
pub(crate) mod migrate;
pub(crate) mod newest_timestamps;
pub(crate) mod pooler;
pub(crate) mod prepared;
pub(crate) mod read;
pub(crate) mod readers;
pub(crate) mod ready;
pub(crate) mod refusal;
pub(crate) mod required_version;
pub(crate) mod retention;
pub(crate) mod rollup;
pub(crate) mod rows;
pub(crate) mod schema_version;
pub(crate) mod sealing_lag;
pub(crate) mod shards;
pub(crate) mod summarise;
pub(crate) mod tables;
pub(crate) mod threshold;
pub(crate) mod threshold_lock;
pub(crate) mod tokens;
#[cfg(feature = "embedded")]
pub(crate) mod totals;
pub(crate) mod transaction;
pub(crate) mod update;
pub(crate) mod users;
pub(crate) mod write;
pub(crate) mod write_error;

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod commit_log_model_tests;
#[cfg(test)]
mod commit_log_tests;
#[cfg(test)]
mod distribute_tests;
#[cfg(test)]
mod erase_tests;
#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod prepared_tests;
#[cfg(test)]
mod required_version_tests;
#[cfg(test)]
mod retention_tests;
#[cfg(test)]
mod sealing_tests;
#[cfg(test)]
mod shape_rule_tests;
#[cfg(test)]
mod shape_rules;
#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod tls_tests;
#[cfg(test)]
mod upgrade_tests;
