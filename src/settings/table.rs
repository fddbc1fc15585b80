//! The table that `settings!` makes of a struct, and the types that a field of
//! it may have.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use super::{Choices, Rule};

/// A setting by name, and what is wrong with it.
pub type Problem = (&'static str, String);

/// A struct of settings.
pub trait Settings: Sized + 'static {
    /// Lines of its description.
    const ABOUT: &'static [&'static str];
    /// Every setting, in the order of the struct.
    const FIELDS: &'static [Field<Self>];

    /// What cannot be used although each value for itself could.
    fn conflicts(&self) -> Vec<Problem>;

    /// Every value that cannot be used: the setting's name and a sentence that follows it.
    fn problems(&self) -> Vec<Problem> {
        let of_field = |field: &Field<Self>| {
            field.rule.problem((field.value)(self)).map(|sentence| (field.name, sentence))
        };
        let mut problems: Vec<Problem> = Self::FIELDS.iter().filter_map(of_field).collect();
        problems.extend(self.conflicts());
        problems
    }
}

/// A setting of the struct `S`.
pub struct Field<S: 'static> {
    /// Its name, as in files.
    pub name: &'static str,
    /// Lines of its description, each with the space behind the slashes.
    pub doc: &'static [&'static str],
    pub kind: Kind,
    pub rule: Rule,
    /// Its value.
    pub value: fn(&S) -> Value<'_>,
    /// Gives it the value that a text means; otherwise says what it should be.
    pub set: fn(&mut S, &str) -> Result<(), String>,
}

/// What kind of value a setting has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number, 0 or more.
    Whole,
    Number,
    /// True or false.
    Switch,
    Text,
    Path,
    /// Several texts.
    List,
    /// One of some words.
    Choice(Choices),
}

/// A setting's value, for rules and for people.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    Whole(u64),
    Number(f64),
    Switch(bool),
    Text(&'a str),
    /// A list of that many entries.
    Entries(usize),
    /// An optional setting that isn't given.
    Absent,
}

impl Display for Value<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(n) => write!(f, "{n}"),
            Self::Number(x) if *x != 0.0 && x.abs() < 1e-3 => write!(f, "{x:e}"),
            Self::Number(x) => write!(f, "{x}"),
            Self::Switch(on) => write!(f, "{on}"),
            Self::Text(text) => f.write_str(text),
            Self::Entries(n) => write!(f, "{n} entries"),
            Self::Absent => f.write_str("none"),
        }
    }
}

/// A type that a setting can have.
pub trait Setting: Sized {
    const KIND: Kind;

    /// The value as rules see it.
    fn value(&self) -> Value<'_>;

    /// Reads an argument.
    ///
    /// # Errors
    /// What it should be.
    fn parse(text: &str) -> Result<Self, String>;
}

macro_rules! parsed {
    ($($type:ty: $kind:ident($of:ty), $what:literal;)+) => {$(
        impl Setting for $type {
            const KIND: Kind = Kind::$kind;

            fn value(&self) -> Value<'_> {
                Value::$kind(<$of>::from(*self))
            }

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("use {}", $what))
            }
        }
    )+};
}

parsed! {
    u16: Whole(u64), "a whole number";
    u32: Whole(u64), "a whole number";
    u64: Whole(u64), "a whole number";
    f64: Number(f64), "a number";
    bool: Switch(bool), "true or false";
}

impl Setting for f32 {
    const KIND: Kind = Kind::Number;

    /// The number as a person writes it: 0.01 and not the nearest f32, which is less.
    fn value(&self) -> Value<'_> {
        Value::Number(self.to_string().parse().unwrap_or(f64::NAN))
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "use a number".into())
    }
}

impl Setting for usize {
    const KIND: Kind = Kind::Whole;

    fn value(&self) -> Value<'_> {
        Value::Whole(*self as u64)
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "use a whole number".into())
    }
}

impl Setting for String {
    const KIND: Kind = Kind::Text;

    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

impl Setting for PathBuf {
    const KIND: Kind = Kind::Path;

    /// A path that is not UTF-8 cannot come from a file of settings.
    fn value(&self) -> Value<'_> {
        Value::Text(self.to_str().unwrap_or("/"))
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

impl<T: Setting> Setting for Option<T> {
    const KIND: Kind = T::KIND;

    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Absent, T::value)
    }

    fn parse(text: &str) -> Result<Self, String> {
        T::parse(text).map(Some)
    }
}

impl<T: std::str::FromStr> Setting for Vec<T>
where
    T::Err: Display,
{
    const KIND: Kind = Kind::List;

    fn value(&self) -> Value<'_> {
        Value::Entries(self.len())
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(|word| word.parse().map_err(|e: T::Err| e.to_string())).collect()
    }
}

/// The paragraphs of a description, each on one line and without the marks of code.
#[must_use]
pub fn paragraphs(doc: &[&str]) -> Vec<String> {
    let paragraphs = doc.split(|line| line.trim().is_empty());
    let joined = paragraphs.map(|lines| {
        lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").replace('`', "")
    });
    joined.filter(|paragraph| !paragraph.is_empty()).collect()
}

/// Declares a struct of settings; see [`crate::settings`].
///
/// A field is `name: Type = default => rule,`; `name: Type as "module" = …` gives the module of
/// serde's `with`, for types that are written otherwise than they are kept.
macro_rules! settings {
    (
        $(#[doc = $about:literal])+
        $visibility:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident : $type:ty $(as $with:literal)? = $default:expr => $rule:expr,
            )+
        }
        $(check $check:path)?
    ) => {
        $(#[doc = $about])+
        ///
        /// A missing field takes its default, an unknown one is refused.
        #[allow(clippy::doc_markdown, reason = "descriptions are also shown as plain text")]
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        $visibility struct $name {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nDefault: `", stringify!($default), "`.")]
                $(#[serde(with = $with)])?
                pub $field: $type,
            )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $crate::settings::Settings for $name {
            const ABOUT: &'static [&'static str] = &[$($about),+];
            const FIELDS: &'static [$crate::settings::Field<Self>] = &[$(
                $crate::settings::Field {
                    name: stringify!($field),
                    doc: &[$($doc),+],
                    kind: <$type as $crate::settings::Setting>::KIND,
                    rule: $rule,
                    value: |settings| $crate::settings::Setting::value(&settings.$field),
                    set: |settings, text| {
                        settings.$field = $crate::settings::Setting::parse(text)?;
                        Ok(())
                    },
                },
            )+];

            fn conflicts(&self) -> Vec<$crate::settings::Problem> {
                let conflicts: &[fn(&Self) -> Vec<$crate::settings::Problem>] = &[$($check)?];
                conflicts.iter().flat_map(|check| check(self)).collect()
            }
        }
    };
}
pub(crate) use settings;

#[cfg(test)]
mod tests {
    use super::*;

    settings! {
        /// How the tea is made.
        struct Tea {
            /// How long it brews,
            /// in `s`.
            ///
            /// Longer is bitter.
            brew_s: u64 = 180 => Rule::Whole(1, 600),
            /// Sugar, in spoons.
            sugar: f64 = 0.5 => Rule::NotNegative,
            /// Herbs.
            herbs: Vec<String> = vec!["mint".into()] => Rule::Entries(2),
            /// A kettle.
            kettle: Option<PathBuf> = None => Rule::Example("/dev/kettle"),
        }
        check Tea::too_sweet
    }

    impl Tea {
        fn too_sweet(&self) -> Vec<Problem> {
            let is_syrup = self.sugar > 9.0 && self.brew_s > 300;
            is_syrup.then(|| ("sugar", "is too much for so long".into())).into_iter().collect()
        }
    }

    #[test]
    fn a_struct_a_default_and_a_table_come_from_one_declaration() {
        let field = &Tea::FIELDS[0];

        assert_eq!((field.name, field.kind), ("brew_s", Kind::Whole));
        assert!(matches!(field.rule, Rule::Whole(1, 600)));
        assert_eq!(paragraphs(field.doc), ["How long it brews, in s.", "Longer is bitter."]);
        assert_eq!((field.value)(&Tea::default()), Value::Whole(180));
        assert_eq!(paragraphs(Tea::ABOUT), ["How the tea is made."]);
        assert!(Tea::default().problems().is_empty());
    }

    #[test]
    fn arguments_set_fields_by_name() {
        let mut tea = Tea::default();
        let mut set = |name: &str, text: &str| {
            let field = Tea::FIELDS.iter().find(|field| field.name == name).unwrap();
            (field.set)(&mut tea, text)
        };

        assert_eq!(set("brew_s", "soon"), Err("use a whole number".into()));
        set("brew_s", "5").unwrap();
        set("herbs", "mint,sage").unwrap();
        set("kettle", "/k").unwrap();
        assert_eq!((tea.brew_s, tea.herbs.len(), tea.kettle), (5, 2, Some("/k".into())));
    }

    #[test]
    fn problems_name_fields_and_come_all_at_once() {
        let tea = Tea { brew_s: 900, sugar: 10.0, ..Tea::default() };

        let names: Vec<_> = tea.problems().into_iter().map(|(name, _)| name).collect();

        assert_eq!(names, ["brew_s", "sugar"]);
    }

    #[test]
    fn small_numbers_are_written_shortly() {
        let shown = [1e-4, 0.05, 32.0, 0.0].map(|x| Value::Number(x).to_string());

        assert_eq!(shown, ["1e-4", "0.05", "32", "0"]);
    }
}
