//! Tests of subscriptions: which samples they receive, in which order, and from which cursor.

#![cfg(test)]

mod gaps;
mod replays;
mod subscriptions;
mod support;
