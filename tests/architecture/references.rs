//! Every path that a module writes, resolved from the crate's root.
//!
//! Paths stand in `use` items, in types, expressions and patterns, in the tokens of macros, and in attributes,
//! where serde takes them as text. Names that an import brought in are not followed: the import itself is a path.

use proc_macro2::{Delimiter, Spacing, Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, UseTree};

use crate::modules::{Module, is_for_tests};

/// A path as it is written somewhere.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    pub target: Target,
    pub line: usize,
    /// Whether it is compiled for tests only.
    pub is_test: bool,
}

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// Something in this crate, by its names from the root. `*` for all of a module.
    Here(Vec<String>),
    /// Anything else, by the path's first name: often that of another crate.
    Elsewhere(String),
}

/// The references of a module in the order in which they stand.
pub fn references(module: &Module) -> Vec<Reference> {
    let mut finder = Finder {
        path: module.path.clone(),
        is_test: module.is_test,
        in_attribute: false,
        found: Vec::new(),
    };
    finder.visit_file(&module.syntax);
    finder.found
}

struct Finder {
    /// The module that is being read, inline modules included.
    path: Vec<String>,
    is_test: bool,
    in_attribute: bool,
    found: Vec<Reference>,
}

impl Finder {
    fn add(&mut self, names: &[String], span: Span) {
        let Some((first, rest)) = names.split_first() else { return };
        let target = match first.as_str() {
            "crate" => Target::Here(rest.to_vec()),
            "self" => Target::Here([&self.path, rest].concat()),
            "super" => {
                let ups = names.iter().take_while(|name| *name == "super").count();
                let kept = self.path.len().saturating_sub(ups);
                Target::Here([&self.path[..kept], &names[ups..]].concat())
            }
            _ => Target::Elsewhere(first.clone()),
        };
        let line = span.start().line;
        self.found.push(Reference { target, line, is_test: self.is_test });
    }

    fn add_tree(&mut self, prefix: &[String], tree: &UseTree) {
        let with = |name: String| [prefix, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.add_tree(&with(path.ident.to_string()), &path.tree),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.add_tree(prefix, tree));
            }
            UseTree::Glob(glob) => self.add(&with("*".to_owned()), glob.span()),
            UseTree::Name(name) => self.add_last(prefix, &name.ident),
            UseTree::Rename(rename) => self.add_last(prefix, &rename.ident),
        }
    }

    /// The last name of an import; `self` there means what stands before it.
    fn add_last(&mut self, prefix: &[String], name: &syn::Ident) {
        if name == "self" && !prefix.is_empty() {
            self.add(prefix, name.span());
        } else {
            self.add(&[prefix, &[name.to_string()]].concat(), name.span());
        }
    }

    /// Finds the paths among tokens. A path begins with a name that two colons follow.
    fn scan(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.scan(group.stream()),
                TokenTree::Literal(literal) if self.in_attribute => {
                    self.scan_text(&literal.to_string(), literal.span());
                }
                TokenTree::Ident(ident) if is_colons(&tokens[at + 1..]) => {
                    at = self.scan_path(&[], ident.to_string(), &tokens, at);
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Reads a path from the name at `at` on. Returns where the tokens after it begin.
    fn scan_path(
        &mut self,
        prefix: &[String],
        first: String,
        tokens: &[TokenTree],
        mut at: usize,
    ) -> usize {
        let span = tokens[at].span();
        let mut names = [prefix, &[first]].concat();
        at += 1;
        while is_colons(&tokens[at..]) {
            match tokens.get(at + 2) {
                Some(TokenTree::Ident(ident)) => names.push(ident.to_string()),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    self.scan_group(&names, group.stream());
                    return at + 3;
                }
                Some(TokenTree::Punct(punct)) if punct.as_char() == '*' => {
                    names.push("*".to_owned());
                }
                _ => break,
            }
            at += 3;
        }
        self.add(&names, span);
        at
    }

    /// The group at the end of an import among tokens.
    fn scan_group(&mut self, prefix: &[String], tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if let TokenTree::Ident(ident) = &tokens[at] {
                at = self.scan_path(prefix, ident.to_string(), &tokens, at);
            } else {
                at += 1;
            }
        }
    }

    /// A path that stands in an attribute as text, such as serde's `default = "crate::a::b"`.
    fn scan_text(&mut self, literal: &str, span: Span) {
        let Ok(text) = syn::parse_str::<syn::LitStr>(literal) else { return };
        let Ok(path) = syn::parse_str::<syn::Path>(&text.value()) else { return };
        let names: Vec<_> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if names.len() > 1 {
            self.add(&names, span);
        }
    }

    fn within_tests(&mut self, is_test: bool, visit: impl FnOnce(&mut Self)) {
        let before = self.is_test;
        self.is_test |= is_test;
        visit(self);
        self.is_test = before;
    }
}

/// Whether the tokens begin with `::`.
fn is_colons(tokens: &[TokenTree]) -> bool {
    let is_colon = |at: usize| match tokens.get(at) {
        Some(TokenTree::Punct(punct)) => punct.as_char() == ':',
        _ => false,
    };
    let joined =
        matches!(tokens.first(), Some(TokenTree::Punct(p)) if p.spacing() == Spacing::Joint);
    joined && is_colon(0) && is_colon(1)
}

impl<'a> Visit<'a> for Finder {
    fn visit_item(&mut self, item: &'a Item) {
        let is_test = is_for_tests(attributes(item));
        self.within_tests(is_test, |finder| visit::visit_item(finder, item));
    }

    fn visit_impl_item(&mut self, item: &'a ImplItem) {
        let is_test = match item {
            ImplItem::Fn(item) => is_for_tests(&item.attrs),
            ImplItem::Const(item) => is_for_tests(&item.attrs),
            _ => false,
        };
        self.within_tests(is_test, |finder| visit::visit_impl_item(finder, item));
    }

    fn visit_field(&mut self, field: &'a syn::Field) {
        let is_test = is_for_tests(&field.attrs);
        self.within_tests(is_test, |finder| visit::visit_field(finder, field));
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        // A module with a file of its own is read by itself.
        if item.content.is_some() {
            self.path.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.path.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        self.add_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        // A name alone is a local one, or the `self` of a method.
        if names.len() > 1 {
            self.add(&names, path.span());
        }
        visit::visit_path(self, path);
    }

    // `pub(crate)` and `pub(in super::a)` use nothing.
    fn visit_vis_restricted(&mut self, _: &'a syn::VisRestricted) {}

    fn visit_attribute(&mut self, attribute: &'a Attribute) {
        if attribute.path().is_ident("doc") {
            return;
        }
        // An attribute by itself, such as clap's `#[arg]`, may be named after a crate.
        if let Some(name) = attribute.path().get_ident() {
            self.add(&[name.to_string()], name.span());
        }
        self.in_attribute = true;
        visit::visit_attribute(self, attribute);
        self.in_attribute = false;
    }

    fn visit_token_stream(&mut self, tokens: &'a TokenStream) {
        self.scan(tokens.clone());
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths in `text`, which is the module `store::disk`: in this crate, and elsewhere.
    fn found(text: &str) -> Vec<String> {
        let path = vec!["store".to_owned(), "disk".to_owned()];
        let syntax = syn::parse_file(text).unwrap();
        let module = Module { file: "f".into(), path, is_test: false, syntax };
        let show = |reference: Reference| {
            let mark = if reference.is_test { " in tests" } else { "" };
            match reference.target {
                Target::Here(names) => Some(names.join("::") + mark),
                Target::Elsewhere(_) => None,
            }
        };
        references(&module).into_iter().filter_map(show).collect()
    }

    fn elsewhere(text: &str) -> Vec<String> {
        let syntax = syn::parse_file(text).unwrap();
        let module = Module { file: "f".into(), path: vec![], is_test: false, syntax };
        let name = |reference: Reference| match reference.target {
            Target::Here(_) => None,
            Target::Elsewhere(name) => Some(name),
        };
        references(&module).into_iter().filter_map(name).collect()
    }

    #[test]
    fn imports_are_read_with_nested_braces_globs_and_new_names() {
        let text = "use crate::{a::{self, b as c, d::*}, e}; pub use super::lock::Lock;";
        assert_eq!(found(text), ["a", "a::b", "a::d::*", "e", "store::lock::Lock"]);
    }

    #[test]
    fn self_and_super_go_by_the_module_they_stand_in() {
        let text = "use self::x; mod inner { use super::super::super::data::Task; use super::y; }";
        assert_eq!(found(text), ["store::disk::x", "data::Task", "store::disk::y"]);
    }

    #[test]
    fn paths_are_read_in_types_expressions_patterns_and_bounds() {
        let text = "fn f<T: crate::a::A>(x: &crate::b::B<crate::c::C>) -> impl crate::d::D {
            match x { crate::e::E::F => crate::g::h(), _ => <crate::i::I as crate::j::J>::k() }
        }";
        let mut folders: Vec<_> = found(text).iter().map(|path| path[..1].to_owned()).collect();
        folders.sort();
        assert_eq!(folders.concat(), "abcdegij");
    }

    #[test]
    fn paths_are_read_in_the_tokens_of_macros() {
        let text = "macro_rules! m { () => { $crate::a::b!(); pub(crate) fn f() {} } }
            fn f() { vec![crate::c::D, { use crate::{e::{f, g}, h}; 1 }]; m!(super::i, x::crate_) }";
        assert_eq!(found(text), ["a::b", "c::D", "e::f", "e::g", "h", "store::i"]);
    }

    #[test]
    fn paths_are_read_in_attributes_but_not_in_documentation() {
        let text = "/// See [`crate::doc::X`].
            #[derive(crate::a::B)] struct S { #[serde(default = \"crate::c::d\", with = \"plain\")] e: u8 }";
        assert_eq!(found(text), ["a::B", "c::d"]);
    }

    #[test]
    fn what_is_for_tests_is_marked() {
        let text = "#[cfg(test)] use crate::a; #[cfg(not(test))] use crate::b;
            #[cfg(test)] mod tests { use crate::c; #[test] fn t() { crate::d::e() } }
            impl S { #[cfg(test)] fn f() { crate::g::h() } }
            struct T { #[cfg(test)] i: crate::j::K }
            #[test] fn t() { crate::l::m() } fn n() { crate::o::p() }";
        let expected = ["a+", "b", "c+", "d::e+", "g::h+", "j::K+", "l::m+", "o::p"];
        assert_eq!(found(text), expected.map(|path| path.replace('+', " in tests")));
    }

    #[test]
    fn restricted_visibility_and_methods_use_nothing() {
        assert_eq!(
            found("pub(crate) struct S; pub(in crate::store) fn f(self) { self.g() }"),
            [""; 0]
        );
    }

    #[test]
    fn other_crates_are_known_by_their_first_names() {
        let text = "use clap::Parser; #[derive(clap::Args)] struct S { #[arg(long)] a: half::f16 }
            fn f() { m!(rustix::fs::open()); let x = local; }";
        assert_eq!(elsewhere(text), ["clap", "derive", "clap", "arg", "half", "rustix"]);
    }
}
