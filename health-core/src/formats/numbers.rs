//! Numbers that stand as text in a file.

use super::entry::Fault;
use crate::sample::{Calories, Steps};

/// Reads a number. `name` is the sender's name of the value.
pub(super) fn number(name: &str, text: &str) -> Result<f64, Fault> {
    let text = text.trim();
    // Rust also reads `inf` and `nan`.
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ if text.is_empty() => Err(Fault::new(format!("{name} is missing"))),
        _ => {
            let cut = text.floor_char_boundary(32);
            let reason = format!("{name} {:?} is not a number", &text[..cut]);
            Err(Fault::with_kind(reason, format!("{name} is not a number")))
        }
    }
}

/// Reads a whole number of steps.
pub(super) fn steps(name: &str, text: &str) -> Result<Steps, Fault> {
    let steps = text.trim().parse().map_err(|_| {
        let cut = text.floor_char_boundary(32);
        let reason = format!("{name} {:?} is not an integer", &text[..cut]);
        Fault::with_kind(reason, format!("{name} is not an integer"))
    })?;
    Steps::new(steps).map_err(|fault| Fault::of_value(name, &fault))
}

/// Reads a number of kilocalories.
pub(super) fn kilocalories(name: &str, text: &str) -> Result<Calories, Fault> {
    Calories::new(number(name, text)?).map_err(|fault| Fault::of_value(name, &fault))
}
