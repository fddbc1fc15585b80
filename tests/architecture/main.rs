//! The arrangement of the source, held against ARCHITECTURE.md and CONTRIBUTING.md.
//!
//! The code map of ARCHITECTURE.md says which folder of `src/` may use which; these tests read it, and every path in
//! the source. Each failure says what to do.

mod arrows;
mod files;
mod layout;
mod modules;
mod references;
mod table;

use std::fs;
use std::path::Path;

use files::Files;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn source() -> Files {
    Files::read(root(), &["src", "tests"])
}

/// Fails with all problems.
#[track_caller]
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn folders_use_each_other_as_the_code_map_allows() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = table::read(&text).unwrap();
    assert_none(&arrows::arrows(&source()).unwrap().problems(&table));
}

/// For whoever rewrites the code map: what its last column must say now.
#[test]
#[ignore = "prints the arrows"]
fn arrows_as_they_are() {
    println!("{}", arrows::arrows(&source()).unwrap());
}

#[test]
fn no_folder_is_crowded() {
    assert_none(&layout::crowded(&source()));
}

#[test]
fn modules_lie_where_the_convention_says() {
    assert_none(&layout::misplaced(&source()).unwrap());
}

#[test]
fn functions_fit_a_screen() {
    assert_none(&layout::long_functions(&source()).unwrap());
}

#[test]
fn unsafe_code_the_command_line_and_topics_stay_in_their_folders() {
    assert_none(&layout::strays(&source()).unwrap());
}
