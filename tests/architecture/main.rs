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

/// What is still to be mended: how each problem begins. Nothing may be added, and what is mended must be taken out.
mod known {
    pub const ARROWS: &[&str] = &[];
    pub const CROWDED: &[&str] = &[];
    pub const LONG: &[&str] = &[];
    pub const STRAYS: &[&str] = &[];
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn source() -> Files {
    Files::read(root(), &["src", "tests"])
}

/// Fails with all problems that are not known, and with those known that are none any more.
fn assert_none(problems: &[String], known: &[&str]) {
    let is_known = |problem: &String| known.iter().any(|known| problem.starts_with(known));
    let new: Vec<_> = problems.iter().filter(|problem| !is_known(problem)).collect();
    let stale = known.iter().filter(|known| !problems.iter().any(|p| p.starts_with(*known)));
    let stale: Vec<_> =
        stale.map(|known| format!("mended, so take it out of `known`: {known}")).collect();
    assert!(new.is_empty() && stale.is_empty(), "{new:#?} {stale:#?}");
}

#[test]
fn folders_use_each_other_as_the_code_map_allows() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = table::read(&text).unwrap();
    assert_none(&arrows::arrows(&source()).unwrap().problems(&table), known::ARROWS);
}

/// For whoever rewrites the code map: what its last column must say now.
#[test]
#[ignore = "prints the arrows"]
fn arrows_as_they_are() {
    println!("{}", arrows::arrows(&source()).unwrap());
}

#[test]
fn no_folder_is_crowded() {
    assert_none(&layout::crowded(&source()), known::CROWDED);
}

#[test]
fn modules_lie_where_the_convention_says() {
    assert_none(&layout::misplaced(&source()).unwrap(), &[]);
}

#[test]
fn functions_fit_a_screen() {
    assert_none(&layout::long_functions(&source()).unwrap(), known::LONG);
}

#[test]
fn unsafe_code_the_command_line_and_topics_stay_in_their_folders() {
    assert_none(&layout::strays(&source()).unwrap(), known::STRAYS);
}
