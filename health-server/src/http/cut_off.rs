//! Cuts a connection off when the access ends with which its response was granted.
//!
//! A body that is streamed notices the end of the access only when hyper asks it for more. hyper does not ask while the
//! client leaves unread what was made before, so such a client would keep its connection, and get the rest later.

use std::sync::Arc;

use health_core::access::{Access, Authenticator};
use tokio::task::AbortHandle;

use crate::request_id::RequestId;

/// The access with which a streamed response was granted, and the authenticator that knows when it ends: an extension
/// of the response.
#[derive(Clone)]
pub(crate) struct GrantedBy {
    pub(crate) authenticator: Authenticator,
    pub(crate) access: Arc<Access>,
}

/// Waits for the end of an access until it is dropped.
#[derive(Debug)]
pub(crate) struct AccessWatch(AbortHandle);

impl GrantedBy {
    /// Calls `cut_off` when the access ends, unless the returned value was dropped before.
    pub(crate) fn watch(self, request: RequestId, cut_off: impl FnOnce() + Send + 'static) -> AccessWatch {
        let watching = async move {
            let reason = self.authenticator.ended(&self.access).await;
            tracing::info!(%reason, "a response was cut off");
            cut_off();
        };
        AccessWatch(tokio::spawn(request.scope(watching)).abort_handle())
    }
}

impl Drop for AccessWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}
