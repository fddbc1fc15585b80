//! Compares a given answer with the expected one, and finds the majority among several.
//!
//! The rules are those of the PyTorch reference, so that accuracies can be compared. Knows nothing
//! of models; the text it is given is what follows the answer phrase.

/// Whether the text after the answer phrase gives the expected answer.
///
/// Both are normalized (see [`normalize`]), the given text after being cut at its first line break
/// and at its first full stop before a space. They match if they are equal, if the first number in
/// the given text is the wanted answer, or if the given text starts with the wanted answer and a
/// space. Digits are ASCII.
#[must_use]
pub fn is_correct(given: &str, wanted: &str) -> bool {
    let (got, want) = (given_answer(given), normalize(wanted));
    got == want
        || first_number(&got) == Some(want.as_str())
        || got.strip_prefix(want.as_str()).is_some_and(|rest| rest.starts_with(' '))
}

/// The answer that most of the texts give, in normal form; the first one where several are equally
/// frequent. Texts without an answer don't vote; `None` if none does.
#[must_use]
pub fn majority(given: &[String]) -> Option<String> {
    let mut votes: Vec<(String, usize)> = Vec::new();
    for answer in given.iter().map(|text| given_answer(text)).filter(|a| !a.is_empty()) {
        match votes.iter_mut().find(|(known, _)| *known == answer) {
            Some((_, count)) => *count += 1,
            None => votes.push((answer, 1)),
        }
    }
    let most = votes.iter().map(|(_, count)| *count).max()?;
    votes.into_iter().find(|(_, count)| *count == most).map(|(answer, _)| answer)
}

/// The normal form of an answer: without space around it, then without full stops around it,
/// without commas, in lower case.
#[must_use]
pub fn normalize(text: &str) -> String {
    text.trim_matches(is_space).trim_matches('.').replace(',', "").to_lowercase()
}

/// The normal form of what a text after the answer phrase says on its first line, up to the end of
/// its first sentence.
fn given_answer(text: &str) -> String {
    let line = text.split('\n').next().unwrap_or_default();
    normalize(line.split(". ").next().unwrap_or_default())
}

/// The first match of `-?\d+(?:\.\d+)?`.
fn first_number(text: &str) -> Option<&str> {
    let digits = |from: usize| {
        let rest = &text.as_bytes()[from..];
        rest.iter().take_while(|b| b.is_ascii_digit()).count()
    };
    let begin = text.bytes().position(|b| b.is_ascii_digit())?;
    let mut end = begin + digits(begin);
    if text[end..].starts_with('.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    let minus = usize::from(text[..begin].ends_with('-'));
    Some(&text[begin - minus..end])
}

/// What Python's `str.strip` takes off: white space and the four ASCII separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Given, wanted, and what the reference's `accuracy` said of them.
    const CASES: &[(&str, &str, bool)] = &[
        (" 42.", "42", true),
        (" 42. That is because", "42", true),
        (" 42\nor 43", "42", true),
        ("\n42", "42", false),
        (" 1,234 dollars", "1234", true),
        ("$1,234.", "1,234", true),
        (" -7 degrees", "-7", true),
        (" 7 degrees", "-7", false),
        (" 3.5", "3", false),
        (" 3.5 kg", "3.5", true),
        (" 3.", "3", true),
        (" 3.x", "3", true),
        (" x=--5", "-5", true),
        (" 12 + 30 = 42", "42", false),
        (" Brother.", "brother", true),
        (" brother of Ann", "Brother", true),
        (" brothers", "brother", false),
        (" the brother", "brother", false),
        (" Yes. No", "no", false),
        ("", "", true),
        (" ", "5", false),
        (" no number", "5", false),
        ("\u{1f}..4..", "4", true),
        (" ÄPFEL", "äpfel", true),
    ];

    #[test]
    fn judges_as_the_reference_does() {
        for (given, wanted, correct) in CASES {
            assert_eq!(is_correct(given, wanted), *correct, "{given:?} for {wanted:?}");
        }
    }

    #[test]
    fn the_most_frequent_answer_wins_and_the_first_of_equals() {
        let texts = |list: &[&str]| list.iter().map(|t| (*t).to_string()).collect::<Vec<_>>();

        assert_eq!(majority(&texts(&[" 4", " 5.", "5", " 4. So"])), Some("4".into()));
        assert_eq!(majority(&texts(&[" 4", " 1,5", "15.\nmore"])), Some("15".into()));
        assert_eq!(majority(&texts(&["", " .", "7"])), Some("7".into()));
        assert_eq!(majority(&texts(&["", " "])), None);
        assert_eq!(majority(&[]), None);
    }

    proptest! {
        #[test]
        fn any_text_can_be_judged(given in any::<String>(), wanted in any::<String>()) {
            let _ = is_correct(&given, &wanted);
            prop_assert!(is_correct(&wanted, &wanted) || wanted.contains(['\n', '.', ' ']));
        }

        #[test]
        fn a_number_is_right_in_a_sentence(n in any::<i32>(), unit in "[a-z]{1,8}") {
            let text = format!(" {n} {unit}.");
            let (right, wrong) = (n.to_string(), (i64::from(n) + 1).to_string());
            prop_assert!(is_correct(&text, &right));
            prop_assert!(!is_correct(&text, &wrong));
        }
    }
}
