//! The configuration of `latrod dashboard`.

use std::path::Path;

use super::document::Document;
use super::{ConfigErrors, Sections, Visit, reference};
use crate::dashboard::Settings;

const HEAD: &str = "\
# The reference: every setting of `latrod dashboard` with its default. Lines that begin with #name = are settings;
# remove the # to change one. All have defaults.
#
#   latrod dashboard --config dashboard.toml --check     reports everything that is wrong with a file
#
# Paths are absolute. Units are part of the names: _s seconds, _hours, _days, _mib mebibytes.
";

impl Sections for Settings {
    const TOP: &'static [&'static str] = &[];

    fn visit(&self, visitor: &mut impl Visit) {
        visitor.section("page", &self.page);
        visitor.section("history", &self.history);
        visitor.section("mqtt", &self.mqtt);
    }

    fn check_across(&self, _: &mut Document<'_>) {}
}

/// Reads and checks the file at `path`, of at most 1 MiB.
///
/// # Errors
/// Everything that is wrong with it, at once, in the file's order.
pub fn load(path: &Path) -> Result<Settings, ConfigErrors> {
    Settings::of_file(path)
}

/// The text of the reference file, `configs/dashboard.toml`.
#[must_use]
pub fn reference() -> String {
    reference::of::<Settings>(HEAD)
}
