//! The network, in tasks of its own. The loop never awaits any of it: it sends questions and takes what comes back.

mod backoff;
mod feed;
mod http;
mod lines;
mod query;

pub use self::http::BaseError;
pub(crate) use self::{
    feed::{Feed, FeedOptions},
    http::{Base, Client},
    query::Queries,
};
