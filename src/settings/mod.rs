//! Settings that are declared once. A `settings!` block beside the code that uses
//! them gives each one a name, a type, a default, a rule and a description:
//!
//! ```ignore
//! settings! {
//!     /// How tasks are taken in.
//!     pub struct SpoolSettings {
//!         /// How long a file must not have changed before it is read, in seconds.
//!         ///
//!         /// Writers seldom pause longer.
//!         settle_s: u64 = 2 => Rule::Whole(0, 3600),
//!     }
//! }
//! ```
//!
//! From this table come the struct and its default, the checks and their sentences, the flags and
//! help of `latrod train`, the reference `configs/latrod.toml`, what `latrod validate` suggests, and
//! the manual pages. The first paragraph of a description is what help shows; the others say why the
//! default is what it is. A struct with rules that look at several fields names a function for them
//! behind its braces: `check Self::conflicts`.
//!
//! Knows no setting, no file format and no command line.

mod choice;
mod rule;
mod table;

pub use choice::{Choice, Choices};
pub(crate) use choice::{choices, setting_of_choice};
pub use rule::Rule;
pub(crate) use table::settings;
pub use table::{Field, Kind, Problem, Setting, Settings, Value, paragraphs};
