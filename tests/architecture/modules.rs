//! The modules of a crate, found as the compiler finds them: by `mod` items, from the root down.

use syn::{Attribute, Expr, Item, Lit, Meta, Token, punctuated::Punctuated};

use crate::files::Files;

/// A file with the module that it holds.
pub struct Module {
    pub file: String,
    /// Names from the crate's root; empty for the root itself.
    pub path: Vec<String>,
    /// Whether it is compiled for tests only.
    pub is_test: bool,
    pub syntax: syn::File,
}

/// All modules that have a file of their own, the root first.
///
/// # Errors
/// What is wrong with the first file that cannot be found or parsed.
pub fn modules(files: &Files, root: &str) -> Result<Vec<Module>, String> {
    let mut found = Vec::new();
    add(files, root.to_owned(), Vec::new(), false, &mut found)?;
    Ok(found)
}

fn add(
    files: &Files,
    file: String,
    path: Vec<String>,
    is_test: bool,
    found: &mut Vec<Module>,
) -> Result<(), String> {
    let text = files.get(&file).ok_or_else(|| format!("{file} is missing"))?;
    let syntax = syn::parse_file(text).map_err(|error| format!("{file}: {error}"))?;
    let mut children = Vec::new();
    let beside = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let within = folder_of_children(&file);
    declared(&syntax.items, &path, [beside, &within], is_test, &mut children);
    found.push(Module { file, path, is_test, syntax });
    for child in children {
        let candidates = match &child.given {
            Some(given) => vec![normal(given)],
            None => vec![format!("{}.rs", child.base), format!("{}/mod.rs", child.base)],
        };
        let file = candidates.iter().find(|file| files.get(file).is_some());
        let file = file.ok_or_else(|| format!("none of {candidates:?} is there"))?;
        add(files, file.clone(), child.path, child.is_test, found)?;
    }
    Ok(())
}

/// A module that is declared, and whose file is to be found.
struct Declared {
    path: Vec<String>,
    /// Its file without `.rs` or `/mod.rs`.
    base: String,
    /// Its file as an attribute `path` gives it.
    given: Option<String>,
    is_test: bool,
}

/// `beside` is where an attribute `path` starts, `within` where files are looked for by name.
fn declared(
    items: &[Item],
    path: &[String],
    [beside, within]: [&str; 2],
    is_test: bool,
    found: &mut Vec<Declared>,
) {
    for item in items {
        let Item::Mod(item) = item else { continue };
        let name = item.ident.to_string();
        let base = format!("{within}/{name}");
        let path = [path, &[name]].concat();
        let is_test = is_test || is_for_tests(&item.attrs);
        match &item.content {
            Some((_, items)) => declared(items, &path, [&base; 2], is_test, found),
            None => {
                let given = path_attribute(&item.attrs).map(|given| format!("{beside}/{given}"));
                found.push(Declared { path, base, given, is_test });
            }
        }
    }
}

fn folder_of_children(file: &str) -> String {
    let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
    match name {
        "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
        _ => file.trim_end_matches(".rs").to_owned(),
    }
}

/// The path without `..`.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// What an attribute `#[path = "…"]` says.
pub fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else { return None };
        let Expr::Lit(literal) = &pair.value else { return None };
        match &literal.lit {
            Lit::Str(text) if pair.path.is_ident("path") => Some(text.value()),
            _ => None,
        }
    })
}

/// Whether attributes say that what they stand on exists in tests alone.
pub fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            list.parse_args::<Meta>().is_ok_and(|meta| implies_test(&meta))
        }
        _ => false,
    })
}

fn implies_test(predicate: &Meta) -> bool {
    let Meta::List(list) = predicate else {
        return predicate.path().is_ident("test");
    };
    let parser = Punctuated::<Meta, Token![,]>::parse_terminated;
    let Ok(parts) = list.parse_args_with(parser) else { return false };
    match list.path.get_ident() {
        Some(name) if name == "all" => parts.iter().any(implies_test),
        Some(name) if name == "any" => !parts.is_empty() && parts.iter().all(implies_test),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<(String, String, bool)> {
        let modules = modules(&Files::of(files), "src/lib.rs").unwrap();
        modules.into_iter().map(|m| (m.file, m.path.join("::"), m.is_test)).collect()
    }

    #[test]
    fn modules_are_found_in_files_in_folders_and_where_an_attribute_says() {
        let files = [
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", ""),
            ("src/b/mod.rs", "mod c; #[path = \"../../tests/shared.rs\"] mod d;"),
            ("src/b/c.rs", "#[path = \"e.rs\"] mod f; mod inner { mod deep; }"),
            ("src/b/e.rs", ""),
            ("src/b/c/inner/deep.rs", ""),
            ("tests/shared.rs", ""),
        ];

        let expected = [
            ("src/lib.rs", ""),
            ("src/a.rs", "a"),
            ("src/b/mod.rs", "b"),
            ("src/b/c.rs", "b::c"),
            ("src/b/e.rs", "b::c::f"),
            ("src/b/c/inner/deep.rs", "b::c::inner::deep"),
            ("tests/shared.rs", "b::d"),
        ];
        assert_eq!(found(&files), expected.map(|(f, p)| (f.to_owned(), p.to_owned(), false)));
    }

    #[test]
    fn a_module_of_a_test_module_is_for_tests() {
        let files = [
            ("src/lib.rs", "#[cfg(all(test, unix))] mod a; #[cfg(any(test, unix))] mod b;"),
            ("src/a/mod.rs", "mod c;"),
            ("src/a/c.rs", ""),
            ("src/b.rs", ""),
        ];

        let tests: Vec<_> = found(&files).into_iter().map(|(_, _, is_test)| is_test).collect();
        assert_eq!(tests, [false, true, true, false]);
    }

    #[test]
    fn a_missing_file_and_one_that_is_no_rust_are_named() {
        let missing = modules(&Files::of(&[("src/lib.rs", "mod gone;")]), "src/lib.rs");
        assert!(missing.err().unwrap().contains("src/gone/mod.rs"));

        let bad = modules(&Files::of(&[("src/lib.rs", "fn (")]), "src/lib.rs");
        assert!(bad.err().unwrap().starts_with("src/lib.rs: "));
    }
}
