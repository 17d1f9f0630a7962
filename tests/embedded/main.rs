//! What needs nothing installed: the contracts over the embedded variants.

mod store;
