//! The checker of histories, checked: for each invariant a history that keeps it and one that doesn't; random good
//! histories pass; each kind of damage is found, under its number.

mod damage;
mod model;
mod scenes;
