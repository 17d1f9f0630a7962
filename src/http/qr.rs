//! QR codes as SVG paths, so that a page needs no library.

use qrcodegen::{DataTooLong, QrCode, QrCodeEcc};
use serde::Serialize;

/// The dark modules in a box of `size` x `size`, which needs a white margin of 4.
#[derive(Debug, Serialize)]
pub(super) struct Qr {
    size: usize,
    path: String,
}

/// Returns the code of a text, in the smallest size that is readable with up to 15 % damaged.
pub(super) fn of(text: &str) -> Result<Qr, DataTooLong> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium)?;
    let mut path = String::new();
    // The dark runs of a row, each a rectangle of height 1.
    for y in 0..code.size() {
        let mut x = 0;
        while x < code.size() {
            let run = (x..code.size()).take_while(|x| code.get_module(*x, y)).count();
            if run > 0 {
                path.push_str(&format!("M{x} {y}h{run}v1h-{run}z"));
            }
            x += i32::try_from(run).unwrap_or_default() + 1;
        }
    }
    Ok(Qr { size: usize::try_from(code.size()).unwrap_or_default(), path })
}

#[cfg(test)]
#[path = "../../tests/unit/http/qr.rs"]
mod tests;
