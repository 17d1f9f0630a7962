//! Role: terminations of devices. Each has an id and its progress, until nothing of the device is left.

use super::{Result, Store};
use crate::domain::{id::TerminationId, termination::Termination};

impl Store {
    /// Begins a termination: the durable fence. Adds the record to the list of unfinished terminations, sets the
    /// tombstone, then writes the state `terminating` and the next generation. (In this order, a crash in between
    /// leaves work that can be repeated.) Returns the record in force: the earlier one if the device has one already.
    /// Returns none if the user has no such device.
    pub async fn begin_termination(&self, new: &Termination) -> Result<Option<Termination>> {
        each!(self.begin_termination(new))
    }

    /// Returns a termination by its id.
    pub async fn termination(&self, id: TerminationId) -> Result<Option<Termination>> {
        each!(self.termination(id))
    }

    /// Saves a termination's progress, forward only: never over a record that is further, nor over one that has removed
    /// more. A `done` termination leaves the list of unfinished ones and is kept for 30 days.
    pub async fn save_termination(&self, termination: &Termination) -> Result<()> {
        each!(self.save_termination(termination))
    }

    /// Returns all terminations that aren't `done`.
    pub async fn unfinished_terminations(&self) -> Result<Vec<TerminationId>> {
        each!(self.unfinished_terminations())
    }
}
