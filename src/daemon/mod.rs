//! `latrod run`: watches tasks and the device, trains while it is idle, promotes what is better and
//! tells the fleet. Policy is pure (`scheduler`, `activity::idle`); the driver alone acts.

pub mod activity;
pub mod check;
pub mod clock;
pub mod cycle;
pub mod device;
pub mod driver;
pub mod faults;
pub mod hook;
pub mod memory;
pub mod plan;
pub mod scheduler;
pub mod socket;
pub mod status;
pub mod storage;
pub mod trouble;
