//! What every request goes through: who may ask, bodies of bounded size, and answers in JSON.

pub mod access;
pub mod answer;
pub mod body;
