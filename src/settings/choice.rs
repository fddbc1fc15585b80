//! Settings that are one of a few words.

/// The words of a setting, each with what it means.
pub type Choices = &'static [(&'static str, &'static str)];

/// An enumeration whose variants are written as words, in files and in arguments.
pub trait Choice: Copy + PartialEq + Send + Sync + 'static {
    /// Every variant, in the order of [`Self::WORDS`].
    const ALL: &'static [Self];
    /// The word of each variant and what it means.
    const WORDS: Choices;

    /// The variant's word.
    fn word(self) -> &'static str {
        let at = Self::ALL.iter().position(|other| *other == self);
        at.and_then(|at| Self::WORDS.get(at)).map_or("", |(word, _)| word)
    }

    /// The variant with this word.
    fn of_word(word: &str) -> Option<Self> {
        let at = Self::WORDS.iter().position(|(known, _)| *known == word)?;
        Self::ALL.get(at).copied()
    }
}

/// Declares an enumeration whose variants are words in files and in arguments; the first variant is
/// not a default. See [`Choice`].
macro_rules! choices {
    (
        $(#[doc = $about:literal])+
        $visibility:vis enum $name:ident {
            $( $(#[doc = $doc:literal])+ $variant:ident = $word:literal, )+
        }
    ) => {
        $(#[doc = $about])+
        #[allow(clippy::doc_markdown, reason = "descriptions are also shown as plain text")]
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
        )]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        $visibility enum $name {
            $( $(#[doc = $doc])+ #[serde(rename = $word)] $variant, )+
        }

        impl $crate::settings::Choice for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];
            const WORDS: $crate::settings::Choices = &[$(($word, concat!($($doc),+))),+];
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                use $crate::settings::Choice;
                Self::of_word(word).ok_or_else(|| {
                    let words: Vec<_> = Self::WORDS.iter().map(|(word, _)| *word).collect();
                    format!("use {}", words.join(", "))
                })
            }
        }

        $crate::settings::setting_of_choice!($name);
    };
}
pub(crate) use choices;

/// Makes a [`Choice`] the type of a setting.
macro_rules! setting_of_choice {
    ($name:ty) => {
        impl $crate::settings::Setting for $name {
            const KIND: $crate::settings::Kind =
                $crate::settings::Kind::Choice(<$name as $crate::settings::Choice>::WORDS);

            fn value(&self) -> $crate::settings::Value<'_> {
                $crate::settings::Value::Text($crate::settings::Choice::word(*self))
            }

            fn parse(text: &str) -> Result<Self, String> {
                $crate::settings::Choice::of_word(text).ok_or_else(|| {
                    let words = <$name as $crate::settings::Choice>::WORDS.iter();
                    format!("use one of {}", words.map(|w| w.0).collect::<Vec<_>>().join(", "))
                })
            }
        }
    };
}
pub(crate) use setting_of_choice;

#[cfg(test)]
mod tests {
    use super::*;

    choices! {
        /// A size.
        enum Size {
            /// Small.
            Small = "small",
            /// As large as
            /// a house.
            AsAHouse = "house",
        }
    }

    #[test]
    fn words_lead_to_variants_and_back() {
        assert_eq!(Size::AsAHouse.word(), "house");
        assert_eq!(Size::of_word("small"), Some(Size::Small));
        assert_eq!(Size::of_word("Small"), None);
        assert_eq!(Size::WORDS[1], ("house", " As large as a house."));
        assert_eq!(serde_json::to_string(&Size::AsAHouse).unwrap(), "\"house\"");
        let error = <Size as crate::settings::Setting>::parse("tiny").unwrap_err();
        assert_eq!(error, "use one of small, house");
    }
}
