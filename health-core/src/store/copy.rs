//! Inserts many rows with PostgreSQL's binary `COPY`.
//!
//! This module encodes rows itself: the driver's `BinaryCopyInWriter` makes a dynamic call for each value, which at
//! this rate takes a tenth of the server's CPU time.

use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;

use crate::{
    sample::{Calories, HeartRate, Sample, Steps},
    store::{connection::Session, micros::Micros},
};

/// Names the columns, so that their order in the table does not matter.
const COPY: &str =
    "COPY health_metrics (id, user_id, timestamp, heart_rate, steps, calories, source) FROM STDIN BINARY";

/// Rows in one message: about 64 KiB, so that PostgreSQL works while this task encodes the next rows.
const MESSAGE_ROWS: usize = 1_000;

// The format is described in the PostgreSQL manual, under COPY, "Binary Format".
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const COLUMNS: i16 = 7;
const NULL: i32 = -1;
const TRAILER: i16 = -1;

/// Inserts samples whose identities the table does not contain. Their rows get the ids from `first_id` on.
///
/// # Errors
/// A duplicate key if another server has inserted one of them meanwhile.
pub(crate) async fn copy(
    session: &mut Session,
    first_id: i64,
    samples: &[Sample],
) -> Result<(), tokio_postgres::Error> {
    let statement = session.prepare(COPY).await?;
    let mut sink = pin!(session.client().copy_in::<Bytes>(&statement).await?);
    let mut buffer = BytesMut::new();
    put_header(&mut buffer);
    let mut ids = first_id..;
    for rows in samples.chunks(MESSAGE_ROWS) {
        for (sample, id) in rows.iter().zip(&mut ids) {
            put_row(&mut buffer, id, sample);
        }
        sink.send(buffer.split().freeze()).await?;
    }
    buffer.put_i16(TRAILER);
    sink.send(buffer.freeze()).await?;
    sink.finish().await?;
    Ok(())
}

fn put_header(to: &mut BytesMut) {
    to.put_slice(SIGNATURE);
    to.put_i32(0); // no flags
    to.put_i32(0); // no header extension
}

/// Puts a row: the number of columns, then each value after its length in bytes.
fn put_row(to: &mut BytesMut, id: i64, sample: &Sample) {
    to.put_i16(COLUMNS);
    to.put_i32(8);
    to.put_i64(id);
    to.put_i32(8);
    to.put_i64(sample.user_id().get());
    to.put_i32(8);
    to.put_i64(Micros(sample.timestamp().timestamp_micros()).to_postgres());
    put_float(to, sample.heart_rate().map(HeartRate::get));
    match sample.steps().map(Steps::get) {
        Some(steps) => {
            to.put_i32(4);
            to.put_i32(steps);
        }
        None => to.put_i32(NULL),
    }
    put_float(to, sample.calories().map(Calories::get));
    let source = sample.source().as_str();
    // A source has at most `Source::BYTES_MAX` bytes, so the conversion cannot fail.
    to.put_i32(i32::try_from(source.len()).unwrap_or(0));
    to.put_slice(source.as_bytes());
}

fn put_float(to: &mut BytesMut, value: Option<f64>) {
    match value {
        Some(value) => {
            to.put_i32(8);
            to.put_f64(value);
        }
        None => to.put_i32(NULL),
    }
}
