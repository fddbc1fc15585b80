//! Every key that a configuration may have, by section.

use super::{Sections, Visit};
use crate::settings::Settings;

/// The keys of a configuration.
#[derive(Debug)]
pub struct Keys {
    top: &'static [&'static str],
    sections: Vec<(&'static str, Vec<&'static str>)>,
}

impl Keys {
    /// Those of a configuration.
    pub fn of<C: Sections>() -> Self {
        let mut keys = Self { top: C::TOP, sections: Vec::new() };
        C::default().visit(&mut keys);
        keys
    }

    /// Another section than `section` that has the key `word`.
    pub fn section_of(&self, word: &str, section: &str) -> Option<&'static str> {
        let others = self.sections.iter().filter(|(name, _)| *name != section);
        let mut with_key = others.filter(|(_, keys)| keys.contains(&word));
        with_key.next().map(|(name, _)| *name)
    }

    /// Whether `word` stands before all sections.
    pub fn is_at_the_top(&self, word: &str) -> bool {
        self.top.contains(&word)
    }
}

impl Visit for Keys {
    fn section<S: Settings>(&mut self, name: &'static str, _: &S) {
        self.sections.push((name, S::FIELDS.iter().map(|field| field.name).collect()));
    }
}
