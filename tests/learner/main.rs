//! The learner as users meet it: the program run on the tiny model of `tests/fixtures`.
//!
//! The environment variables that make it do more, or with another program, are in `support`.

mod disk;
mod interruption;
#[cfg(feature = "debug")]
mod mutants;
#[cfg(feature = "debug")]
mod parity;
#[cfg(feature = "debug")]
mod refusals;
mod support;
mod tasks;
mod training;
mod worker;
mod yielding;
