//! The learner as users meet it: the program run on the tiny model of `tests/fixtures`.
//!
//! The environment variables that make it do more, or with another program, are in `support`.

mod disk;
mod interruption;
mod mutants;
mod parity;
mod refusals;
mod support;
mod tasks;
mod training;
mod worker;
mod worker_ends;
mod worker_support;
mod yielding;
