//! The checker of histories, checked: for each invariant histories that keep it and histories that don't.

mod scenes;
