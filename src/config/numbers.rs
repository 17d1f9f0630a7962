//! Numbers as they are written in settings.

use std::str::FromStr;

/// A whole number.
///
/// # Errors
///
/// A sentence, for clap.
pub fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| {
        format!("`{text}` isn't a whole number, or is too large: write digits alone, such as 100")
    })
}

/// How many bytes. A unit would be read in two ways (is `64MB` 64,000,000 or 67,108,864?), so there is none.
///
/// # Errors
///
/// A sentence, for clap.
pub fn bytes<T: FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| {
        format!("`{text}` isn't a number of bytes: write digits alone, without a unit: 67108864 for 64 MiB")
    })
}
