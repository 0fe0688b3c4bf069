//! Many new rows: PostgreSQL's binary COPY.
//!
//! The driver's writer of this format goes through a dynamic call a value, which at this rate is a tenth of the server's work.

use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;

use crate::{
    batch::pieces,
    sample::{Calories, HeartRate, Sample, Steps},
    store::{connection::Session, micros::Micros},
};

const COPY: &str = "COPY health_metrics (user_id, timestamp, heart_rate, steps, calories, source) FROM STDIN BINARY";

/// Rows encoded before they are sent: about 64 KiB, so that PostgreSQL works while the next are encoded.
const COPY_PIECE_ROWS: usize = 1_000;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const COLUMNS: i16 = 6;
const NULL: i32 = -1;

/// Loads rows that are not there yet.
pub(crate) async fn copy(session: &mut Session, samples: &[Sample]) -> Result<(), tokio_postgres::Error> {
    let statement = session.prepare(COPY).await?;
    let mut sink = pin!(session.client().copy_in::<_, Bytes>(&statement).await?);
    let mut buffer = BytesMut::new();
    begin(&mut buffer);
    for piece in pieces(samples.len(), COPY_PIECE_ROWS) {
        for sample in &samples[piece] {
            row(&mut buffer, sample);
        }
        sink.send(buffer.split().freeze()).await?;
    }
    end(&mut buffer);
    sink.send(buffer.freeze()).await?;
    sink.finish().await?;
    Ok(())
}

fn begin(to: &mut BytesMut) {
    to.put_slice(SIGNATURE);
    to.put_i32(0); // no flags
    to.put_i32(0); // no header extension
}

fn row(to: &mut BytesMut, sample: &Sample) {
    to.put_i16(COLUMNS);
    to.put_i32(8);
    to.put_i64(sample.user_id().get());
    to.put_i32(8);
    to.put_i64(Micros(sample.timestamp().timestamp_micros()).to_postgres());
    float(to, sample.heart_rate().map(HeartRate::get));
    match sample.steps().map(Steps::get) {
        Some(steps) => {
            to.put_i32(4);
            to.put_i32(steps);
        }
        None => to.put_i32(NULL),
    }
    float(to, sample.calories().map(Calories::get));
    let source = sample.source().as_str();
    // At most `Source::BYTES_MAX`.
    to.put_i32(i32::try_from(source.len()).unwrap_or(0));
    to.put_slice(source.as_bytes());
}

fn end(to: &mut BytesMut) {
    to.put_i16(-1);
}

fn float(to: &mut BytesMut, value: Option<f64>) {
    match value {
        Some(value) => {
            to.put_i32(8);
            to.put_f64(value);
        }
        None => to.put_i32(NULL),
    }
}
