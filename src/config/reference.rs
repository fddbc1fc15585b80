//! The reference file, `configs/latrod.toml`: every setting with its description and its default.

use serde::Serialize;

use super::{Config, Sections, Visit};
use crate::settings::{Field, Kind, Rule, Settings, paragraphs};

const HEAD: &str = "\
# The reference: every setting of `latrod run` with its default. Lines that begin with #name = are settings;
# remove the # to change one. Only `model` must be given.
#
#   latrod validate --config latrod.toml     reports everything that is wrong with a file
#
# Paths are absolute. Units are part of the names: _s seconds, _mib mebibytes, _kib kibibytes, _celsius,
# _percent. There are files for a Jetson Orin, a Raspberry Pi 5, a server and a Mac as well: in configs/ of the
# sources, and in /usr/share/doc/latrod/examples of the Debian package (without the Mac).

# The GGUF model to adapt.
model = \"/var/lib/latrod/models/model.gguf\"

# Everything that the daemon keeps: tasks, checkpoints, adapters, its ledger.
#state_dir = \"/var/lib/latrod\"
";

/// Columns of a line, at most.
const WIDTH: usize = 110;

/// The text of the reference file, made from the settings' tables.
#[must_use]
pub fn reference() -> String {
    of::<Config>(HEAD)
}

/// The reference of a configuration, behind a head.
pub(super) fn of<C: Sections>(head: &str) -> String {
    let mut reference = Reference { text: head.into() };
    C::default().visit(&mut reference);
    reference.text
}

struct Reference {
    text: String,
}

impl Reference {
    /// Adds `# `, a prefix and the words of a paragraph on as many lines as it takes.
    fn comment(&mut self, first: &str, rest: &str, paragraph: &str) {
        let mut line = format!("# {first}");
        let mut is_empty = true;
        for word in paragraph.split_whitespace() {
            if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.text += &format!("{line}\n");
                line = format!("# {rest}");
                is_empty = true;
            }
            line += if is_empty { "" } else { " " };
            line += word;
            is_empty = false;
        }
        self.text += &format!("{line}\n");
    }

    fn field<S>(&mut self, field: &Field<S>, default: Option<&toml::Value>) {
        self.text.push('\n');
        for paragraph in paragraphs(field.doc) {
            self.comment("", "", &paragraph);
        }
        if let Kind::Choice(words) = field.kind {
            for (word, meaning) in words {
                let meaning = paragraphs(&[meaning]).concat();
                self.comment(&format!("  {word}: "), "    ", &meaning);
            }
        }
        if let Some(allowed) = field.rule.wanted().filter(|_| is_of_interest(&field.rule)) {
            self.comment("", "", &format!("Use {allowed}."));
        }
        let name = field.name;
        self.text += &match (default, field.rule) {
            (Some(default), _) => format!("#{name} = {}\n", shown(default)),
            (None, Rule::Example(example)) => format!("#{name} = {example:?}  # no default\n"),
            (None, _) => String::new(),
        };
    }
}

/// Whether people want to know the rule before they break it.
fn is_of_interest(rule: &Rule) -> bool {
    !matches!(rule, Rule::Positive | Rule::NotNegative | Rule::Entries(_))
}

fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::Float(x) if *x != 0.0 && x.abs() < 1e-3 => format!("{x:e}"),
        value => value.to_string(),
    }
}

impl Visit for Reference {
    fn section<S: Settings + Serialize>(&mut self, name: &'static str, settings: &S) {
        let defaults = toml::Table::try_from(settings).unwrap_or_default();
        self.text.push('\n');
        for paragraph in paragraphs(S::ABOUT) {
            self.comment("", "", &paragraph);
        }
        self.text += &format!("[{name}]\n");
        for field in S::FIELDS {
            self.field(field, defaults.get(field.name));
        }
    }
}
