//! `latrod run`: watches tasks and the device, trains while it is idle, promotes what is better and
//! tells the fleet.
//!
//! Owners decide and the driver acts. Each owner holds a part of the daemon's state, takes plain inputs
//! and answers with [`effect::Effect`]s:
//!
//! | owner | its state |
//! |---|---|
//! | [`activity`] | what is measured of the device, whether it is idle, whether the clock jumped |
//! | [`adapters`] | up to where the active adapter was judged, and its hook |
//! | [`cycle`] | how the last cycle ended, the tasks that are there |
//! | [`faults`] | what is broken, and when to look again |
//! | [`operator`] | what operators have asked for |
//! | [`scheduler`] | what the daemon does next, and since when it has done so |
//! | [`supervisor`] | the worker process and the model that it loads |
//!
//! [`storage`] keeps it all on disk, [`status`] shows it, and [`driver`] has the loop and the channels.

pub mod activity;
pub mod adapters;
pub mod cycle;
pub mod driver;
pub mod effect;
pub mod faults;
pub mod operator;
pub mod scheduler;
pub mod status;
pub mod storage;
pub mod supervisor;
