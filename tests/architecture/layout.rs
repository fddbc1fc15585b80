//! Where files lie, how long functions are, and what stands in one folder alone.

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::files::Files;
use crate::modules::{Module, modules, path_attribute};
use crate::references::{Target, references};

/// Files and folders in one folder.
const MAX_SIBLINGS: usize = 12;
/// Lines of a function, from its name to its closing brace.
const MAX_FUNCTION_LINES: usize = 60;
/// Folders with any number of files: the code map lists the first, and the second holds data.
const UNCOUNTED: [&str; 2] = ["src", "tests/fixtures"];
/// Test inputs that modules of `src/` share with the tests in `tests/`.
const SHARED: &str = "tests/common/gguf.rs";
/// What begins every MQTT topic.
const TOPIC_ROOT: &str = "latro/v";

/// Folders with too many files.
pub fn crowded(files: &Files) -> Vec<String> {
    let folders = files.folders().into_iter();
    let counted = folders.filter(|(folder, _)| {
        !UNCOUNTED.iter().any(|free| {
            folder == free || (*free != "src" && folder.starts_with(&format!("{free}/")))
        })
    });
    let crowded = counted.filter(|(_, names)| names.len() > MAX_SIBLINGS);
    crowded
        .map(|(folder, names)| {
            format!(
                "{folder}/ holds {} files and folders, {MAX_SIBLINGS} are allowed: \
                 put those that belong together into a folder whose name explains them",
                names.len()
            )
        })
        .collect()
}

/// Modules whose files lie elsewhere than the convention says, and files that are no module.
///
/// # Errors
/// As [`modules`].
pub fn misplaced(files: &Files) -> Result<Vec<String>, String> {
    let mut found = modules(files, "src/lib.rs")?;
    found.extend(modules(files, "src/main.rs")?);
    let mut problems = Vec::new();
    let folders = files.folders();
    for (path, _) in files.rust() {
        if path.strip_suffix(".rs").is_some_and(|folder| folders.contains_key(folder)) {
            problems.push(format!(
                "{path} lies beside the folder of its parts: move it there, as mod.rs"
            ));
        }
        if path.starts_with("src/") && found.iter().all(|module| module.file != path) {
            problems.push(format!(
                "{path} is not part of the program: declare it with `mod`, or remove it"
            ));
        }
        let at_the_top = path.strip_prefix("src/").is_some_and(|name| !name.contains('/'));
        if at_the_top && !["src/lib.rs", "src/main.rs"].contains(&path) {
            problems.push(format!(
                "{path} lies in no folder: src/ itself holds only lib.rs and main.rs"
            ));
        }
    }
    for module in &found {
        problems.extend(given_paths(module));
    }
    Ok(problems)
}

/// Modules that an attribute `path` finds.
fn given_paths(module: &Module) -> Vec<String> {
    struct Finder(Vec<(usize, String)>);
    impl<'a> Visit<'a> for Finder {
        fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
            if let Some(path) = path_attribute(&item.attrs) {
                self.0.push((item.span().start().line, path));
            }
            visit::visit_item_mod(self, item);
        }
    }
    let mut finder = Finder(Vec::new());
    finder.visit_file(&module.syntax);
    let others = finder.0.iter().filter(|(_, path)| !path.ends_with(SHARED));
    others
        .map(|(line, path)| {
            format!(
                "{}:{line} takes a module from {path}: give it the place that its name says \
                 (only {SHARED} is shared with the tests)",
                module.file
            )
        })
        .collect()
}

/// Functions that fill more than a screen.
///
/// # Errors
/// The first file that cannot be parsed.
pub fn long_functions(files: &Files) -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    for (path, text) in files.rust() {
        let syntax = syn::parse_file(text).map_err(|error| format!("{path}: {error}"))?;
        let mut finder = Functions(Vec::new());
        finder.visit_file(&syntax);
        let long = finder.0.into_iter().filter(|(_, lines)| *lines > MAX_FUNCTION_LINES);
        problems.extend(long.map(|(name, lines)| {
            format!("{path}: {name} has {lines} lines, {MAX_FUNCTION_LINES} are allowed: split it")
        }));
    }
    Ok(problems)
}

/// Names and lines of functions.
struct Functions(Vec<(String, usize)>);

impl Functions {
    fn add(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let first = signature.span().start().line;
        let last = body.brace_token.span.close().end().line;
        self.0.push((signature.ident.to_string(), last - first + 1));
    }
}

impl<'a> Visit<'a> for Functions {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.add(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.add(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.add(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// What stands outside the one folder that is for it: `unsafe`, the command line, MQTT topics.
///
/// # Errors
/// As [`modules`].
pub fn strays(files: &Files) -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    for module in modules(files, "src/lib.rs")? {
        let Module { file, path, is_test, syntax } = &module;
        let folder = path.first().map_or("", String::as_str);
        if folder != "kernels" {
            let text = files.get(file).unwrap_or_default();
            let tokens = text.parse::<TokenStream>().map_err(|error| format!("{file}: {error}"))?;
            problems.extend(unsafe_lines(tokens).into_iter().map(|line| {
                format!("{file}:{line} is unsafe: only src/kernels/ may be, so move it there")
            }));
        }
        if folder != "cli" {
            let found = references(&module).into_iter();
            let clap = found.filter(|found| found.target == Target::Elsewhere("clap".to_owned()));
            problems.extend(clap.map(|found| {
                let line = found.line;
                format!("{file}:{line} uses clap: only src/cli/ knows the command line")
            }));
        }
        if file != "src/contract/topics.rs" && !is_test {
            let mut topics = Topics(Vec::new());
            topics.visit_file(syntax);
            problems.extend(topics.0.into_iter().map(|line| {
                format!("{file}:{line} writes a topic: src/contract/topics.rs has all of them")
            }));
        }
    }
    Ok(problems)
}

/// Lines with the word `unsafe`.
fn unsafe_lines(tokens: TokenStream) -> Vec<usize> {
    let lines = tokens.into_iter().map(|token| match token {
        TokenTree::Group(group) => unsafe_lines(group.stream()),
        TokenTree::Ident(ident) if ident == "unsafe" => vec![ident.span().start().line],
        _ => vec![],
    });
    lines.flatten().collect()
}

/// Lines of code, not of tests, with a text that begins like a topic.
struct Topics(Vec<usize>);

impl<'a> Visit<'a> for Topics {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if !crate::modules::is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_attribute(&mut self, _: &'a syn::Attribute) {}

    fn visit_lit_str(&mut self, text: &'a syn::LitStr) {
        if text.value().starts_with(TOPIC_ROOT) {
            self.0.push(text.span().start().line);
        }
    }

    fn visit_token_stream(&mut self, tokens: &'a TokenStream) {
        for token in tokens.clone() {
            match token {
                TokenTree::Group(group) => self.visit_token_stream(&group.stream()),
                TokenTree::Literal(literal)
                    if literal.to_string().starts_with(&format!("\"{TOPIC_ROOT}")) =>
                {
                    self.0.push(literal.span().start().line);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_may_hold_a_dozen_but_not_more() {
        let names: Vec<_> = (0..13).map(|n| format!("src/a/{n}.rs")).collect();
        let files: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();

        assert_eq!(crowded(&Files::of(&files[..12])), [""; 0]);
        let problems = crowded(&Files::of(&files));
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("src/a/ holds 13 "));
    }

    #[test]
    fn a_folder_counts_once_and_data_does_not_count() {
        let names: Vec<_> = (0..13).map(|n| format!("src/a/b/{}/{n}.rs", n % 2)).collect();
        let data: Vec<_> = (0..13).map(|n| format!("tests/fixtures/a/{n}")).collect();
        let files: Vec<_> = names.iter().chain(&data).map(|name| (name.as_str(), "")).collect();
        assert_eq!(crowded(&Files::of(&files)), [""; 0]);
    }

    #[test]
    fn files_that_break_the_convention_are_named() {
        let files = [
            ("src/lib.rs", "mod a; mod top; #[path = \"../tests/x.rs\"] mod x;"),
            ("src/main.rs", "fn main() {}"),
            ("src/a.rs", "mod b;"),
            ("src/a/b.rs", "#[cfg(test)] mod tests { #[path = \"../../../y.rs\"] mod y; }"), // from src/a/b/tests/
            ("src/a/lost.rs", ""),
            ("src/top.rs", ""),
            ("tests/x.rs", ""),
            ("src/y.rs", ""),
        ];
        let problems = misplaced(&Files::of(&files)).unwrap();
        let expect = |start: &str| {
            assert!(
                problems.iter().any(|problem| problem.starts_with(start)),
                "{start} {problems:#?}"
            );
        };
        expect("src/a.rs lies beside the folder");
        expect("src/a/lost.rs is not part of the program");
        expect("src/top.rs lies in no folder");
        expect("src/lib.rs:1 takes a module from ../tests/x.rs");
        expect("src/a/b.rs:1 takes a module from ../../../y.rs");
    }

    #[test]
    fn the_convention_has_no_problem() {
        let files = [
            ("src/lib.rs", "mod a;"),
            ("src/main.rs", ""),
            ("src/a/mod.rs", "mod b; #[path = \"../../tests/common/gguf.rs\"] mod gguf;"),
            ("src/a/b.rs", ""),
            ("tests/common/gguf.rs", ""),
        ];
        assert_eq!(misplaced(&Files::of(&files)).unwrap(), [""; 0]);
    }

    #[test]
    fn a_function_may_have_sixty_lines_without_its_attributes() {
        let function =
            |lines: usize| format!("/// Text.\n#[inline]\nfn f() {{{}}}\n", "\n".repeat(lines - 1));
        let long = |text: &str| long_functions(&Files::of(&[("src/a.rs", text)])).unwrap();

        assert_eq!(long(&function(60)), [""; 0]);
        assert_eq!(long(&function(61)), ["src/a.rs: f has 61 lines, 60 are allowed: split it"]);
        assert_eq!(long(&format!("impl S {{ {} }}", function(61))).len(), 1);
        assert_eq!(long(&format!("trait T {{ fn g(); {} }}", function(61))).len(), 1);
    }

    #[test]
    fn what_belongs_to_one_folder_is_found_elsewhere() {
        let stray = "use clap::Args; unsafe fn f() {}\nmacro_rules! m { () => { unsafe { g(\"latro/v1/a\") } } }
            const T: &str = \"latro/v2\"; #[cfg(test)] mod tests { const T: &str = \"latro/v1/b\"; }";
        let files = |folder: &str| {
            let lib = format!("mod {folder};");
            let file = format!("src/{folder}/mod.rs");
            strays(&Files::of(&[("src/lib.rs", &lib), (&file, stray)])).unwrap()
        };

        let problems = files("other");
        assert_eq!(problems.len(), 5, "{problems:#?}");
        assert_eq!(problems.iter().filter(|problem| problem.contains("unsafe")).count(), 2);
        assert_eq!(problems.iter().filter(|problem| problem.contains("topic")).count(), 2);
        assert!(files("kernels").iter().all(|problem| !problem.contains("unsafe")));
        assert!(files("cli").iter().all(|problem| !problem.contains("clap")));
    }
}
