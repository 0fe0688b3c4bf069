//! Writes an export of Apple Health of any size, with its exact totals, to measure `health-server import`.
//!
//! ```text
//! cargo run --release --example apple_export -- --size 3GiB > export.xml
//! ```
//!
//! The export begins in 2015 and has ten records for every five minutes: six heart rates and one count of active energy
//! and of steps by a watch, and the steps that a phone counted meanwhile. A record of resting energy is among them,
//! which an import ignores. The totals are printed on stderr.

use std::{
    fmt::Display,
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser;
use examples::{Result, exit_code};
use health_core::flags::parse_byte_size;

/// Writes an export of Apple Health with known totals
#[derive(Debug, Parser)]
#[command(name = "apple_export", max_term_width = 100)]
struct Args {
    /// The size of the export, such as 20MiB or 3GiB
    #[arg(long, value_name = "BYTES", default_value = "20MiB", value_parser = parse_byte_size)]
    size: usize,
}

/// What the export contains.
#[derive(Debug, Default)]
struct Totals {
    records: u64,
    samples: u64,
    watch_steps: u64,
    phone_steps: u64,
    /// In quarters of a kilocalorie, so that the sum is exact.
    quarter_kcal: u64,
    beats: u64,
    heart_rates: u64,
}

/// The start of the export, 2015-01-01T00:00:00Z.
const START: i64 = 1_420_070_400;

/// The heart rates of five minutes. They are not at the times of the other records.
const HEART_RATES: i64 = 6;

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE HealthData [\n<!ELEMENT HealthData (ExportDate,Me,Record*)>\n]>\n\
    <HealthData locale=\"en_GB\">\n <ExportDate value=\"2025-06-01 08:10:05 +0100\"/>\n";

fn main() -> ExitCode {
    exit_code("apple_export", write_export(&Args::parse()))
}

fn write_export(args: &Args) -> Result<()> {
    let mut out = Counting {
        out: BufWriter::with_capacity(1 << 20, io::stdout().lock()),
        bytes: 0,
    };
    let mut totals = Totals::default();
    out.write_all(HEAD.as_bytes())?;
    let mut five_minutes = 0;
    while out.bytes < args.size {
        write_five_minutes(&mut out, five_minutes, &mut totals)?;
        five_minutes += 1;
    }
    writeln!(out, "</HealthData>")?;
    out.flush()?;
    let kcal = totals.quarter_kcal / 4;
    let hundredths = totals.quarter_kcal % 4 * 25;
    let mut report = io::stderr().lock();
    writeln!(
        report,
        "{} bytes, {} records until {}",
        out.bytes,
        totals.records,
        time(five_minutes, 0)
    )?;
    writeln!(
        report,
        "{} samples: {} steps of the phone, {} steps and {kcal}.{hundredths:02} kcal of the watch, {} heart rates with {} beats",
        totals.samples, totals.phone_steps, totals.watch_steps, totals.heart_rates, totals.beats
    )?;
    Ok(())
}

fn write_five_minutes(out: &mut impl Write, number: i64, totals: &mut Totals) -> Result<()> {
    let (start, end) = (time(number, 0), time(number, 300));
    let watch = ("Ada\u{2019}s Apple\u{a0}Watch", "Watch", number * 16);
    let phone = ("Ada\u{2019}s iPhone", "iPhone", number * 16 + 8);
    for rate in 0..HEART_RATES {
        let at = time(number, 7 + 45 * rate);
        let bpm = 60 + (number * 7 + rate * 3) % 90;
        record(out, "HeartRate", "count/min", watch, (&at, &at), &bpm)?;
        totals.beats += u64::try_from(bpm)?;
        totals.heart_rates += 1;
    }
    let steps = number * 13 % 500;
    record(out, "StepCount", "count", watch, (&start, &end), &steps)?;
    record(out, "StepCount", "count", phone, (&start, &end), &(steps / 2))?;
    let quarters = 1 + number % 40;
    let kcal = format!("{}.{:02}", quarters / 4, quarters % 4 * 25);
    record(out, "ActiveEnergyBurned", "kcal", watch, (&start, &end), &kcal)?;
    record(out, "BasalEnergyBurned", "kcal", watch, (&start, &end), &"6.25")?;
    totals.watch_steps += u64::try_from(steps)?;
    totals.phone_steps += u64::try_from(steps / 2)?;
    totals.quarter_kcal += u64::try_from(quarters)?;
    totals.records += u64::try_from(HEART_RATES + 4)?;
    // The steps and the energy of the watch begin at the same time, so they are one sample.
    totals.samples += u64::try_from(HEART_RATES + 2)?;
    Ok(())
}

/// Writes a record. The address of its device changes with every record, as in real exports.
fn record(
    out: &mut impl Write,
    kind: &str,
    unit: &str,
    (source, device, address): (&str, &str, i64),
    (start, end): (&str, &str),
    value: &dyn Display,
) -> Result<()> {
    writeln!(
        out,
        " <Record type=\"HKQuantityTypeIdentifier{kind}\" sourceName=\"{source}\" sourceVersion=\"10.2\" \
         device=\"&lt;&lt;HKDevice: {address:#011x}&gt;, name:Apple {device}, manufacturer:Apple Inc., model:{device}, \
         hardware:{device}9,1, software:10.2&gt;\" unit=\"{unit}\" creationDate=\"{end}\" startDate=\"{start}\" \
         endDate=\"{end}\" value=\"{value}\"/>"
    )?;
    Ok(())
}

/// Returns a time as Apple writes it.
fn time(five_minutes: i64, second: i64) -> String {
    let start = DateTime::<Utc>::from_timestamp(START, 0).unwrap_or_default();
    let time = start + TimeDelta::minutes(5 * five_minutes) + TimeDelta::seconds(second + 3600);
    time.format("%Y-%m-%d %H:%M:%S +0100").to_string()
}

/// A writer that counts its bytes.
struct Counting<W> {
    out: W,
    bytes: usize,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.out.write(bytes)?;
        self.bytes += length;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
