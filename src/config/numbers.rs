//! Numbers and durations as they are written in settings. The errors are sentences for clap.

use std::{str::FromStr, time::Duration};

/// Sums of a duration and a clock's reading must not overflow.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// Parses a whole number.
///
/// # Errors
/// It isn't one, or doesn't fit.
pub fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| {
        format!("`{text}` isn't a whole number, or is too large: write digits alone, such as 100")
    })
}

/// Parses a whole number that isn't 0.
///
/// # Errors
/// As [`whole`], or it is 0.
pub fn count<T: FromStr + Default + PartialEq>(text: &str) -> Result<T, String> {
    positive(whole(text)?)
}

/// Parses a number of bytes that isn't 0. There is no unit, because `64MB` could be 64,000,000 or 67,108,864.
///
/// # Errors
/// It isn't one, doesn't fit, or is 0.
pub fn size<T: FromStr + Default + PartialEq>(text: &str) -> Result<T, String> {
    positive(bytes(text)?)
}

/// Parses a number of bytes, see [`size`].
///
/// # Errors
/// It isn't one, or doesn't fit.
pub fn bytes<T: FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| {
        format!("`{text}` isn't a number of bytes: write digits alone, without a unit: 67108864 for 64 MiB")
    })
}

fn positive<T: Default + PartialEq>(number: T) -> Result<T, String> {
    if number == T::default() {
        return Err("0 would forbid it altogether: give at least 1".to_owned());
    }
    Ok(number)
}

/// Parses a duration: whole numbers with units, such as `500ms`, `25s`, `1h30m`, `7d`.
///
/// # Errors
/// It isn't one, or is longer than 100 years.
pub fn duration(text: &str) -> Result<Duration, String> {
    sum(text.trim()).filter(|sum| *sum <= LONGEST).ok_or_else(|| {
        format!("`{text}` isn't a duration: write a whole number and a unit (ms, s, m, h, d), such as 25s")
    })
}

/// Parses a duration that isn't 0.
///
/// # Errors
/// As [`duration`], or it is 0.
pub fn period(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() { Err("it must be longer than 0".to_owned()) } else { Ok(duration) }
}

fn sum(text: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (text, None);
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, behind) =
            behind.split_at(behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len()));
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let part = Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?);
        sum = Some(sum.unwrap_or(Duration::ZERO).checked_add(part)?);
        rest = behind;
    }
    sum
}
