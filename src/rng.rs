//! Random ids and numbers. A simulation draws them from its seed. Except for ids nothing that must be hard to guess comes from
//! here: secrets are made where they are needed.

use uuid::Uuid;

use crate::simulation::seed;

/// Returns a new random id.
#[must_use]
pub fn uuid() -> Uuid {
    seed::draw().map_or_else(Uuid::new_v4, |bytes| uuid::Builder::from_random_bytes(bytes).into_uuid())
}

/// Returns a number from 0 to 1, to spread what would happen at once.
#[must_use]
pub fn fraction() -> f64 {
    seed::draw().map_or_else(rand::random, |[a, b, c, d, ..]| {
        f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX)
    })
}
