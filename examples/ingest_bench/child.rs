//! The server under measurement.

pub(crate) use examples::child::{Server, serve};
