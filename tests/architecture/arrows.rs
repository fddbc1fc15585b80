//! Which folder of `src/` uses which, held against the code map.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};

use crate::files::Files;
use crate::modules::{Module, modules};
use crate::references::{Target, references};
use crate::table::Row;

/// From one folder to another.
pub type Arrow = (String, String);

/// The arrows of a crate.
#[derive(Debug, Default)]
pub struct Arrows {
    pub folders: BTreeSet<String>,
    /// The places, as file and line, that make an arrow in code and in tests.
    code: BTreeMap<Arrow, Vec<String>>,
    tests: BTreeMap<Arrow, Vec<String>>,
    /// Paths that lead to no folder.
    problems: Vec<String>,
}

/// Reads all modules below `src/lib.rs`.
///
/// # Errors
/// What is wrong with the first file that cannot be found or parsed.
pub fn arrows(files: &Files) -> Result<Arrows, String> {
    let modules = modules(files, "src/lib.rs")?;
    let mut arrows = Arrows::default();
    arrows.folders.extend(modules.iter().filter_map(|module| module.path.first().cloned()));
    modules.iter().for_each(|module| arrows.add(module));
    Ok(arrows)
}

impl Arrows {
    fn add(&mut self, module: &Module) {
        for reference in references(module) {
            let Target::Here(names) = reference.target else { continue };
            let place = format!("{}:{}", module.file, reference.line);
            let (Some(from), Some(to)) = (module.path.first(), names.first()) else {
                self.problems.push(format!("{place} uses the crate as a whole; name a folder"));
                continue;
            };
            if !self.folders.contains(to) {
                self.problems
                    .push(format!("{place} uses crate::{to}, which is not a folder of src/"));
            } else if from != to {
                let arrows = if reference.is_test { &mut self.tests } else { &mut self.code };
                arrows.entry((from.clone(), to.clone())).or_default().push(place);
            }
        }
    }

    /// Everything in which the crate and the code map differ, a sentence each.
    pub fn problems(&self, table: &[Row]) -> Vec<String> {
        let mut problems = self.problems.clone();
        problems.extend(self.rows_and_folders(table));
        problems.extend(self.not_allowed(table));
        problems.extend(self.not_used(table));
        problems.extend(upwards(table));
        let allowed = table.iter().flat_map(|row| row.uses.iter().map(|to| (&row.folder, to)));
        let used = self.code.keys().map(|(from, to)| (from, to));
        problems.extend(cycles(&allowed.chain(used).collect()));
        problems
    }

    fn rows_and_folders(&self, table: &[Row]) -> Vec<String> {
        let rows: BTreeSet<_> = table.iter().map(|row| &row.folder).collect();
        let named = table.iter().flat_map(|row| row.uses.iter().chain(&row.tests_use));
        let without_folder = rows.iter().copied().chain(named).collect::<BTreeSet<_>>();
        let missing = self.folders.iter().filter(|folder| !rows.contains(folder)).map(|folder| {
            format!(
                "src/{folder}/ has no row in the code map of ARCHITECTURE.md: \
                 add one that says what it owns, doesn't know and may use"
            )
        });
        let stale = without_folder.into_iter().filter(|name| !self.folders.contains(*name));
        let stale = stale.map(|name| {
            format!("the code map of ARCHITECTURE.md names `{name}`, which is not a folder of src/")
        });
        let repeated = (table.len() > rows.len())
            .then(|| "the code map of ARCHITECTURE.md has two rows for one folder".to_owned());
        missing.chain(stale).chain(repeated).collect()
    }

    fn not_allowed(&self, table: &[Row]) -> Vec<String> {
        let allows = |arrow: &Arrow, in_tests: bool| {
            table.iter().filter(|row| row.folder == arrow.0).any(|row| {
                row.uses.contains(&arrow.1) || (in_tests && row.tests_use.contains(&arrow.1))
            })
        };
        let code = self.code.iter().filter(|(arrow, _)| !allows(arrow, false)).map(
            |((from, to), places)| {
                format!(
                    "{from} uses {to}, which the code map of ARCHITECTURE.md doesn't allow ({}): have the \
                     caller hand in what {from} needs, or move it to a folder that both may use; if {to} \
                     belongs below {from}, add it to {from}'s row",
                    some(places)
                )
            },
        );
        let tests = self.tests.iter().filter(|(arrow, _)| !allows(arrow, true)).map(
            |((from, to), places)| {
                format!(
                    "the tests of {from} use {to}, which the code map of ARCHITECTURE.md doesn't allow \
                     ({}): move the test up, or add {to} after `tests:` in {from}'s row",
                    some(places)
                )
            },
        );
        code.chain(tests).collect()
    }

    fn not_used(&self, table: &[Row]) -> Vec<String> {
        let mut problems = Vec::new();
        for row in table {
            let arrow = |to: &String| (row.folder.clone(), to.clone());
            let unused = row.uses.iter().filter(|to| !self.code.contains_key(&arrow(to)));
            problems.extend(unused.map(|to| {
                format!(
                    "the code map of ARCHITECTURE.md lets {} use {to}, but it doesn't: \
                     take {to} out of its row",
                    row.folder
                )
            }));
            let unused = row.tests_use.iter();
            let unused =
                unused.filter(|to| !self.tests.contains_key(&arrow(to)) || row.uses.contains(*to));
            problems.extend(unused.map(|to| {
                format!(
                    "the code map of ARCHITECTURE.md lets the tests of {} use {to}, but they don't, or the \
                     code may as well: take {to} out of the part after `tests:`",
                    row.folder
                )
            }));
        }
        problems
    }
}

/// A line for each folder, written as in the code map.
impl Display for Arrows {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let from = |arrows: &BTreeMap<Arrow, Vec<String>>, folder: &String| -> Vec<String> {
            let own = arrows.keys().filter(|(from, _)| from == folder);
            own.map(|(_, to)| format!("`{to}`")).collect()
        };
        for folder in &self.folders {
            let code = from(&self.code, folder);
            let mut tests = from(&self.tests, folder);
            tests.retain(|to| !code.contains(to));
            let code = if code.is_empty() { "nothing".to_owned() } else { code.join(", ") };
            let tests = if tests.is_empty() {
                String::new()
            } else {
                format!("; tests: {}", tests.join(", "))
            };
            writeln!(f, "| `{folder}/` | {code}{tests} |")?;
        }
        Ok(())
    }
}

/// The first few places.
fn some(places: &[String]) -> String {
    let more = places.len().saturating_sub(3);
    let first = places[..places.len() - more].join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}

/// Rows that use one above them: the table is in layers, so that every arrow points down.
fn upwards(table: &[Row]) -> Vec<String> {
    let place = |name: &String| table.iter().position(|row| row.folder == *name);
    let mut problems = Vec::new();
    for (at, row) in table.iter().enumerate() {
        let above = row.uses.iter().filter(|to| place(to).is_some_and(|other| other <= at));
        problems.extend(above.map(|to| {
            format!(
                "the code map of ARCHITECTURE.md lets {} use {to}, whose row is not below its own: \
                 order the rows so that each uses only those below it",
                row.folder
            )
        }));
    }
    problems
}

/// Every circle of folders, each once.
fn cycles(arrows: &BTreeSet<(&String, &String)>) -> Vec<String> {
    let folders: BTreeSet<_> = arrows.iter().map(|(from, _)| *from).collect();
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for start in folders {
        let Some(cycle) = way_back(arrows, start) else { continue };
        if cycle.iter().all(|folder| seen.insert(*folder)) {
            let names: Vec<_> =
                cycle.iter().chain(cycle.first()).map(|name| name.as_str()).collect();
            problems
                .push(format!("these folders use each other in a circle: {}", names.join(" → ")));
        }
    }
    problems
}

/// The shortest way from a folder back to itself.
fn way_back<'a>(
    arrows: &BTreeSet<(&'a String, &'a String)>,
    start: &'a String,
) -> Option<Vec<&'a String>> {
    let mut ways = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let end = *way.last()?;
            for (_, to) in arrows.iter().filter(|(from, _)| *from == end) {
                if *to == start {
                    return Some(way);
                }
                if seen.insert(*to) {
                    longer.push([way.clone(), vec![*to]].concat());
                }
            }
        }
        ways = longer;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIB: (&str, &str) = ("src/lib.rs", "mod a; mod b; mod c;");

    fn row(folder: &str, uses: &[&str], tests_use: &[&str]) -> Row {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Row { folder: folder.into(), uses: names(uses), tests_use: names(tests_use) }
    }

    /// What is wrong with three modules and their table.
    fn problems(a: &str, b: &str, c: &str, table: &[Row]) -> Vec<String> {
        let files = [LIB, ("src/a/mod.rs", a), ("src/b/mod.rs", b), ("src/c/mod.rs", c)];
        arrows(&Files::of(&files)).unwrap().problems(table)
    }

    fn only(problems: &[String]) -> &str {
        assert_eq!(problems.len(), 1, "{problems:#?}");
        &problems[0]
    }

    #[test]
    fn a_crate_that_keeps_to_its_table_has_no_problem() {
        let test = "use crate::b::B; #[cfg(test)] mod tests { use crate::b::B; use crate::c::C; }";
        let table = [row("a", &["b"], &["c"]), row("b", &["c"], &[]), row("c", &[], &[])];
        assert_eq!(problems(test, "use super::c::C;", "", &table), [""; 0]);
    }

    #[test]
    fn an_arrow_that_is_not_in_the_table_is_named_with_its_places() {
        let table = [row("a", &[], &[]), row("b", &[], &[]), row("c", &[], &[])];

        let text = "use crate::b::B;\nfn f() { crate::b::g(); crate::b::h(); crate::b::i() }";
        let code = problems(text, "", "", &table);
        assert!(only(&code).starts_with("a uses b, "), "{code:?}");
        assert!(code[0].contains("src/a/mod.rs:1, src/a/mod.rs:2, src/a/mod.rs:2 and 1 more"));

        let tests = problems("#[cfg(test)] mod tests { use crate::b::B; }", "", "", &table);
        assert!(only(&tests).starts_with("the tests of a use b, "), "{tests:?}");
    }

    #[test]
    fn code_may_not_use_what_its_tests_may() {
        let table = [row("a", &[], &["b"]), row("b", &[], &[]), row("c", &[], &[])];
        let found = problems("use crate::b::B;", "", "", &table);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].starts_with("a uses b, "));
        assert!(found[1].contains("the tests of a use b, but they don't"));
    }

    #[test]
    fn an_allowed_arrow_that_nobody_uses_is_named() {
        let table = [row("a", &["b", "c"], &[]), row("b", &[], &[]), row("c", &[], &[])];
        let found = problems("use crate::b::B;", "", "", &table);
        assert!(only(&found).contains("lets a use c, but it doesn't"), "{found:?}");
    }

    #[test]
    fn a_folder_without_a_row_a_row_without_a_folder_and_a_second_row_are_named() {
        let table = [row("a", &["d"], &[]), row("a", &[], &[]), row("c", &[], &[])];
        let found = problems("", "", "", &table);
        assert!(found.iter().any(|problem| problem.starts_with("src/b/ has no row")), "{found:#?}");
        assert!(found.iter().any(|problem| problem.contains("names `d`, which is not a folder")));
        assert!(found.iter().any(|problem| problem.contains("two rows for one folder")));
    }

    #[test]
    fn a_row_may_only_use_rows_below_it() {
        let table = [row("b", &[], &[]), row("a", &["b"], &[]), row("c", &[], &[])];
        let found = problems("use crate::b::B;", "", "", &table);
        assert!(only(&found).contains("lets a use b, whose row is not below"), "{found:?}");
    }

    #[test]
    fn a_circle_is_named_once_by_all_its_folders() {
        let table = [row("a", &["b"], &[]), row("b", &["c"], &[]), row("c", &["a"], &[])];
        let found = problems("use crate::b::X;", "use crate::c::X;", "use crate::a::X;", &table);
        let circles: Vec<_> = found.iter().filter(|problem| problem.contains("circle")).collect();
        assert_eq!(circles.len(), 1, "{found:#?}");
        assert!(circles[0].ends_with("a → b → c → a"));
    }

    #[test]
    fn paths_that_lead_to_no_folder_are_named() {
        let table = [row("a", &[], &[]), row("b", &[], &[]), row("c", &[], &[])];
        let found = problems("use crate::Thing; use super as all;", "", "", &table);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].contains("crate::Thing, which is not a folder"));
        assert!(found[1].contains("the crate as a whole"));
    }
}
