//! What integration tests share.
#![allow(dead_code, reason = "each test file is a program of its own and uses a part of this")]

pub mod broker;
pub mod gguf;
pub mod observer;
pub mod proxy;
