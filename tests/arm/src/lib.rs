//! The kernels of latrod with as few dependencies as they have, so that their tests are soon built for
//! another processor.

#[path = "../../../src/kernels/mod.rs"]
pub mod kernels;
#[path = "../../../src/model/gguf/types.rs"]
mod types;

/// What the kernels know of models.
pub mod model {
    pub mod gguf {
        pub use crate::types::GgmlType;
    }
}
