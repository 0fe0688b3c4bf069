//! The causes of errors.

use std::{error::Error, sync::Arc};

/// The cause of an [`Error`](crate::Error), for the log.
pub type Cause = Arc<dyn Error + Send + Sync + 'static>;
