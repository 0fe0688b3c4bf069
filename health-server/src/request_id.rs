//! The id of an HTTP request: it stands in the response, in each log line of the request, and in its audit lines.
//!
//! A task-local variable and not a span holds the current id. A span costs each request about a microsecond, and most
//! requests log nothing. [`crate::logging`] reads the variable when a line is written.

use std::{
    fmt,
    future::Future,
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use smol_str::{SmolStr, format_smolstr};
use tokio::task_local;

/// The id of one request: the one that the client has sent, or a random one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(SmolStr);

/// The header in which a client may send an id, and in which each response has it.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The length of an id that is taken over from a client: it goes into every log line of its request.
const LENGTH_MAX: usize = 128;

task_local! {
    static CURRENT: RequestId;
}

impl RequestId {
    /// Returns the id that a request has sent, if it is sane, and else a random one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(REQUEST_ID).iter();
        match (values.next(), values.next()) {
            (Some(value), None) if is_sane(value.as_bytes()) => {
                value.to_str().map_or_else(|_| Self::random(), |text| Self(text.into()))
            }
            _ => Self::random(),
        }
    }

    /// Returns a random id.
    pub(crate) fn random() -> Self {
        /// Keyed by the operating system's random numbers, so that two servers do not give out the same ids.
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        Self(format_smolstr!(
            "{:016x}",
            HASHER.hash_one(COUNTER.fetch_add(1, Relaxed))
        ))
    }

    /// Returns the id as the value of a header.
    pub(crate) fn header_value(&self) -> HeaderValue {
        // An id has only characters that a header may have.
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }

    /// Runs a future as a part of this request.
    pub(crate) fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }

    /// Calls a function as a part of this request.
    pub(crate) fn scope_sync<T>(&self, function: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), function)
    }

    /// Returns the id of the request that the current task works on, if there is one.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns whether a log and a header can take an id over as it is.
fn is_sane(id: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    (1..=LENGTH_MAX).contains(&id.len()) && id.iter().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_is_taken_over_and_any_other_replaced_by_a_random_one() {
        let longest = "x".repeat(LENGTH_MAX);
        let id_of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(REQUEST_ID, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            RequestId::of(&headers).to_string()
        };
        for id in ["a", "0", "a.B_c-9", longest.as_str()] {
            assert_eq!(id_of(&[id]), id);
        }
        let too_long = format!("{longest}x");
        let mut random = Vec::new();
        for values in [
            &[][..],
            &[""],
            &["a b"],
            &["a\"b"],
            &["a/b"],
            &["a=b"],
            &["ä"],
            &["a", "a"],
            &[&too_long],
        ] {
            let id = id_of(values);
            assert!(!values.contains(&id.as_str()) && is_sane(id.as_bytes()), "{values:?}");
            random.push(id);
        }
        random.sort();
        random.dedup();
        assert_eq!(random.len(), 9, "random ids differ");
    }

    #[tokio::test]
    async fn the_current_id_is_that_of_the_request() {
        assert_eq!(RequestId::current(), None);
        let id = RequestId::random();
        let seen = id.clone().scope(async { RequestId::current() }).await;
        assert_eq!(seen, Some(id.clone()));
        assert_eq!(id.scope_sync(RequestId::current), Some(id));
    }
}
