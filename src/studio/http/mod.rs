//! What every request goes through: who may ask, bounded connections and bodies, and answers in
//! JSON.

pub mod access;
pub mod answer;
pub mod body;
pub mod connections;
