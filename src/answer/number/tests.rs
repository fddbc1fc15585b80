use proptest::prelude::*;

use super::*;
use crate::answer::{AnswerKind, Wanted};

fn wanted(answer: &str) -> Wanted {
    let wanted = Wanted::new("How many?", answer, AnswerKind::Auto);
    assert_eq!(wanted.kind(), AnswerKind::Number, "{answer:?}");
    wanted
}

/// Wanted, said, whether it is right. After the behavior of math-verify, lm-evaluation-harness's
/// filters for GSM8K, and what people reported.
const CASES: &[(&str, &str, bool)] = &[
    ("18", "18", true),
    ("18", " 18.", true),
    ("18", " $18.00 per day.", true),
    ("18", ": **18**", true),
    ("18", ":\n\n18 dollars", true),
    ("18", " \\$18", true),
    ("18", " $\\boxed{18}$.", true),
    ("18", "\\(18\\)", true),
    ("18", " 18 eggs, since 16 + 2 = 18.", true),
    ("18", " 19", false),
    ("18", " 180", false),
    ("18", " 1", false),
    ("18", " -18", false),
    ("18", " 18.5", false),
    ("18", " eighteen", true),
    ("8", " eight legs.", true),
    ("40", "Forty.", true),
    ("8", " the eight that are left", false),
    ("4", " 4.0", true),
    ("4.0", " 4", true),
    ("4.50", "$4.5", true),
    ("50", " 50%", true),
    ("50%", " 50", true),
    ("50%", " 50 percent", true),
    ("0.5", " 50 %", true),
    ("50%", " 0.5", true),
    ("50", " 0.5", false),
    ("0.5%", " 0.5 %", true),
    ("1234", " 1,234", true),
    ("1,234", " 1234.", true),
    ("1234567.5", " 1,234,567.5", true),
    ("1234567.5", " 1.234.567,5", true),
    ("1234567", " 1 234 567", true),
    ("1234567", " 1\u{202f}234\u{202f}567", true),
    ("1234567", " 1'234'567", true),
    ("1234567", " 12,34,567", true),
    ("1234567", " 1.234.567", true),
    ("1234", " 1{,}234", true),
    ("1.234", " 1.234", true),
    ("1234", " 1.234", false),
    ("3,5", " 3.5", true),
    ("3,5", " 35", false),
    ("35", " 3,5", false),
    ("0,123", " 0.123", true),
    ("1", " 1/2", false),
    ("0.5", " 1/2", true),
    ("1/2", " 0.50", true),
    ("1/2", "½", true),
    ("1.5", " 1 1/2", true),
    ("1.5", " 1½ cups", true),
    ("-3/4", " -0.75", true),
    ("0.5", " \\frac{1}{2}", true),
    ("0.5", " \\dfrac12", true),
    ("2.5", " 2\\frac{1}{2}", true),
    ("18", " 18 thousand", false),
    ("18000", " 18 thousand", true),
    ("1500000", " 1.5 million", true),
    ("540", " 540 meters (0.54 km)", true),
    ("5.02", " 5.02 (rounded to 2 decimal places)", true),
    ("18", " $18 per day, or $126 per week.", true),
    ("12", " 12 cm^2.", true),
    ("18", "18x", false),
    ("18", "\\sqrt{18}", false),
    ("18", "\\pm 18", false),
    ("2", "2\\sqrt{3}", false),
    ("18", " 18!", true),
    ("5", " not 5.", false),
    ("5", " not 4 but 5.", true),
    ("5", " more than 5.", false),
    ("1/3", " 0.333", false),
    ("3", " 3e5", false),
    ("300000", " 3e5", true),
    ("300000", " 3 × 10^5", true),
    ("300000", " $3 \\times 10^{5}$", true),
    ("0.00003", " 3·10⁻⁵", true),
    ("-7", " −7", true),
    ("-7", " minus 7", true),
    ("-7", " 7", false),
    ("-7", " -$7", true),
    ("-7", " $-7", true),
    ("3.5 kg", " 3.5", true),
    ("3.5 kg", " 3.5 kilograms", true),
    ("3.5 kg", " 3.5 lb", false),
    ("5 km", " 5 miles", false),
    ("5 km", " 5km", true),
    ("5", " 5 miles", true),
    ("$18", " 18 dollars", true),
    ("$18", " 18 euros", false),
    ("$18", " €18", false),
    ("-7 degrees", " -7", true),
    ("18 apples", " 18", true),
    ("293", " 256 + 37 = 293", true),
    ("256", " 256 + 37 = 293", false),
    ("293", " 256 + 37", false),
    ("256", " 256 + 37", false),
    ("5", " x = 5", true),
    ("8", " 5 apples + 3 apples = 8 apples", true),
    ("9", " 18/2 = 9", true),
    ("12", " 3 * 4 is 12", true),
    ("12", " $3 \\times 4 = 12$", true),
    ("3", " 3 or 4", false),
    ("4", " 3 or 4", false),
    ("3", " 3-5", false),
    ("3", " 3 to 5", false),
    ("3", " between 3 and 5", false),
    ("12", " 12:30", false),
    ("1", " 1/2/2024", false),
    ("2024", " 2024-01-02", false),
    ("1.2", " 1.2.3", false),
    ("555", " 555-0123", false),
    ("2", " 2 hours 30 minutes", false),
    ("2", " 2 hours and 30 minutes", false),
    ("5", " 5 feet, 3 inches", false),
    ("18", " 18 dollars for 3 days", true),
    ("3", " 18 dollars for 3 days", false),
    ("4", " H2O and 4", true),
    ("2", " H2O", false),
    ("5", " not known", false),
    ("5", "", false),
    ("5", " no number", false),
    ("5", " as follows.\nWe have 5.", true),
];

#[test]
fn numbers_are_judged_by_value() {
    for (want, said, right) in CASES {
        assert_eq!(wanted(want).is_given_by(said), *right, "{said:?} for {want:?}");
    }
}

#[test]
fn what_is_more_than_a_number_is_none() {
    for answer in [
        "007",
        "No. 7",
        "12:30",
        "555-0123",
        "7 of 9",
        "2024-01-02",
        "1/2/2024",
        "1.2.3",
        "A4",
        "3 or 4",
        "256 + 37",
        "3 Doors Down",
        "DE89 3704",
        "seven",
        "",
        "-",
        "1,2,3",
        "3x4",
        "1e9999",
        "1/0",
    ] {
        let kind = Wanted::new("", answer, AnswerKind::Auto).kind();
        assert_eq!(kind, AnswerKind::Text, "{answer:?}");
    }
}

#[test]
fn the_last_number_that_is_an_answer_counts_where_none_is_announced() {
    let found = |text: &str| {
        let found = wanted("5").find(text)?;
        Some(text[found.value].to_owned())
    };
    for (text, value) in [
        ("She has 3 + 4 = 7 eggs.", Some("7")),
        ("She has 7 eggs. They cost $1,200.50 in all.", Some("1,200.50")),
        ("It is 8.\n\nThat is it.", Some("8")),
        ("First 3, then 4.", Some("4")),
        ("no numbers at all", None),
    ] {
        assert_eq!(found(text).as_deref(), value, "{text:?}");
    }
}

proptest! {
    #[test]
    fn a_number_is_itself_however_it_is_written(n in -9_999_999i64..9_999_999, cents in 0u32..100) {
        let plain = n.to_string();
        let grouped = {
            let digits = n.abs().to_string();
            let mut text = String::new();
            for (i, c) in digits.chars().enumerate() {
                if i > 0 && (digits.len() - i).is_multiple_of(3) { text.push(','); }
                text.push(c);
            }
            if n < 0 { format!("-{text}") } else { text }
        };
        let exact = wanted(&format!("{n}.{cents:02}"));
        prop_assert_eq!(exact.is_given_by(&format!(" {grouped}.{cents:02} units")), true);
        let wanted = wanted(&plain);
        let other = (n + 1).to_string();
        for said in [plain.clone(), grouped.clone(), format!("{plain}.0"), format!("**{plain}**"),
                     format!(" {plain}."), format!("${grouped}"), format!("{plain}%"), format!(": {grouped} in all")] {
            prop_assert!(wanted.is_given_by(&said), "{said:?} for {plain}");
            prop_assert!(!Wanted::new("", &other, AnswerKind::Auto).is_given_by(&said), "{said:?} for {other}");
        }
    }

    #[test]
    fn any_text_can_be_scanned(text in any::<String>()) {
        for amount in scan::amounts(&text) {
            prop_assert!(text.get(amount.range.clone()).is_some());
            prop_assert!(amount.whole.start <= amount.range.start && amount.range.end <= amount.whole.end);
        }
    }

    #[test]
    fn signs_and_digits_can_be_scanned(text in "[-0-9.,/e^*×½${}\\\\ x:%fracboxed]{0,40}") {
        for amount in scan::amounts(&text) {
            prop_assert!(text.get(amount.whole.clone()).is_some());
        }
        let _ = Wanted::new("", &text, AnswerKind::Auto).is_given_by(&text);
    }
}
