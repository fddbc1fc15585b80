//! What a setting's value must be.

use super::Value;

/// What a value must be, beside being of its type. A value that breaks its rule is reported as `is
/// VALUE: use WHAT`.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// Anything.
    Any,
    /// A whole number from the first to the second, both included.
    Whole(u64, u64),
    /// The same, or 0, which the sentence gives a meaning, such as `for no limit`.
    WholeOrZero(u64, u64, &'static str),
    /// A number from the first to the second, both included.
    Number(f64, f64),
    /// A number from 0 to below 1.
    Share,
    /// A finite number above 0.
    Positive,
    /// A finite number of 0 or more.
    NotNegative,
    /// Anything; the setting has no default, and the reference file shows this instead.
    Example(&'static str),
    /// As many entries at most.
    Entries(usize),
    /// A rule of its own: what to use instead, if the value cannot be used.
    Custom(fn(Value<'_>) -> Option<String>),
}

impl Rule {
    /// What is wrong with a value: `is …: use …`.
    #[must_use]
    pub fn problem(&self, value: Value<'_>) -> Option<String> {
        if self.allows(value) {
            return None;
        }
        Some(match (self, value) {
            (Self::Custom(check), _) => check(value)?,
            (_, Value::Entries(entries)) => {
                format!("has {entries} entries: use {}", self.wanted()?)
            }
            _ => format!("is {value}: use {}", self.wanted()?),
        })
    }

    fn allows(&self, value: Value<'_>) -> bool {
        match (*self, value) {
            (Self::Whole(least, most), Value::Whole(n)) => (least..=most).contains(&n),
            (Self::WholeOrZero(least, most, _), Value::Whole(n)) => {
                n == 0 || (least..=most).contains(&n)
            }
            (Self::Number(least, most), Value::Number(x)) => (least..=most).contains(&x),
            (Self::Share, Value::Number(x)) => (0.0..1.0).contains(&x),
            (Self::Positive, Value::Number(x)) => x.is_finite() && x > 0.0,
            (Self::NotNegative, Value::Number(x)) => x.is_finite() && x >= 0.0,
            (Self::Entries(most), Value::Entries(entries)) => entries <= most,
            (Self::Custom(check), value) => check(value).is_none(),
            // A rule of numbers has nothing to say of a value that is absent.
            _ => true,
        }
    }

    /// What is allowed, as in `use …`; `None` where that is clear from the setting's kind.
    #[must_use]
    pub fn wanted(&self) -> Option<String> {
        Some(match self {
            Self::Any | Self::Example(_) | Self::Custom(_) => return None,
            Self::Whole(0, most) => format!("a number of at most {most}"),
            Self::Whole(least, u64::MAX) => format!("at least {least}"),
            Self::Whole(least, most) => format!("a number from {least} to {most}"),
            Self::WholeOrZero(least, u64::MAX, meaning) => {
                format!("at least {least}, or 0 {meaning}")
            }
            Self::WholeOrZero(least, most, meaning) => {
                format!("a number from {least} to {most}, or 0 {meaning}")
            }
            Self::Number(least, most) => format!("a number from {least} to {most}"),
            Self::Share => "a number from 0 to below 1".into(),
            Self::Positive => "a finite number above 0".into(),
            Self::NotNegative => "a finite number, 0 or more".into(),
            Self::Entries(most) => format!("at most {most}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_allowed_and_what_lies_beyond_is_said() {
        let whole = |rule: Rule, n| rule.problem(Value::Whole(n)).unwrap_or_default();
        let number = |rule: Rule, x| rule.problem(Value::Number(x)).unwrap_or_default();

        assert_eq!([1, 9].map(|n| whole(Rule::Whole(1, 9), n)), ["", ""]);
        assert_eq!(whole(Rule::Whole(1, 9), 10), "is 10: use a number from 1 to 9");
        assert_eq!(whole(Rule::Whole(2, u64::MAX), 1), "is 1: use at least 2");
        let rule = Rule::WholeOrZero(64, u64::MAX, "for no limit");
        assert_eq!([0, 64].map(|n| whole(rule, n)), ["", ""]);
        assert_eq!(whole(rule, 5), "is 5: use at least 64, or 0 for no limit");
        assert_eq!(number(Rule::Number(0.0, 100.0), 100.0), "");
        assert_eq!(number(Rule::Share, 1.0), "is 1: use a number from 0 to below 1");
        assert_eq!(number(Rule::Positive, 0.0), "is 0: use a finite number above 0");
        assert_eq!(number(Rule::NotNegative, 0.0), "");
    }

    #[test]
    fn what_is_not_a_number_is_never_allowed() {
        for rule in [Rule::Number(0.0, 1.0), Rule::Share, Rule::Positive, Rule::NotNegative] {
            assert!(rule.problem(Value::Number(f64::NAN)).is_some(), "{rule:?}");
            assert!(rule.problem(Value::Number(f64::INFINITY)).is_some(), "{rule:?}");
        }
    }

    #[test]
    fn lists_have_a_sentence_of_their_own() {
        let wanted = Some("has 3 entries: use at most 2".to_owned());
        assert_eq!(Rule::Entries(2).problem(Value::Entries(3)), wanted);
    }
}
