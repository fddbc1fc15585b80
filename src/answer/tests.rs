//! Choices, texts, exact answers, and where they are announced.

use std::time::Instant;

use proptest::prelude::*;

use super::*;

const METALS: &str =
    "Which is a metal?\n\nA. iron\nB. a piece of wood\nC. iron oxide and wood\nD. Apple";
const MARKS: [Mark; 4] = [Mark::AnswerIs, Mark::Boxed, Mark::Hashes, Mark::Tag];

/// Wanted label, said, right.
const CHOICES: &[(&str, &str, bool)] = &[
    ("A", "A", true),
    ("A", " A.", true),
    ("A", " (A)", true),
    ("A", " **A**", true),
    ("A", " A: iron", true),
    ("A", " A. iron.", true),
    ("A", " A) iron", true),
    ("A", ": (A) iron", true),
    ("A", " option A.", true),
    ("A", " choice (A), iron", true),
    ("A", " `A`", true),
    ("A", "\\text{A}", true),
    ("A", " a", true),
    ("A", " (a)", true),
    ("A", " iron.", true),
    ("A", " Iron", true),
    ("A", " **iron**", true),
    ("A", " the iron", true),
    ("A", " A iron", true),
    ("A", " A because it conducts", true),
    ("A", " A. Because it conducts", true),
    ("A", ":\nA", true),
    ("B", " B is correct", true),
    ("B", " B, since it burns", true),
    ("B", " a piece of wood", true),
    ("C", " iron oxide and wood.", true),
    ("A", " iron oxide and wood.", false),
    ("A", " a piece of wood", false),
    ("A", " A piece of wood", false),
    ("A", " A and B", false),
    ("A", " A or B", false),
    ("B", " A and B", false),
    ("A", " A, B", false),
    ("A", " Apple", false),
    ("D", " Apple", true),
    ("A", " not A", false),
    ("A", " A: a piece of wood", false),
    ("A", " B", false),
    ("A", " E", false),
    ("A", "", false),
    ("A", " none of these", false),
];

#[test]
fn choices_are_judged_by_label_or_text() {
    for (want, said, right) in CHOICES {
        let wanted = Wanted::new(METALS, want, AnswerKind::Auto);
        assert_eq!(wanted.kind(), AnswerKind::Choice);
        assert_eq!(wanted.is_given_by(said), *right, "{said:?} for {want:?}");
    }
}

#[test]
fn an_options_text_is_the_option() {
    let wanted = Wanted::new(METALS, "Iron", AnswerKind::Auto);
    assert_eq!(wanted.kind(), AnswerKind::Choice);
    assert!(wanted.is_given_by(" (A)") && wanted.is_given_by("iron"));
    assert_eq!(wanted.in_form_of("B", "Iron"), "A");
    assert_eq!(wanted.in_form_of("Apple", "A"), "iron");
}

#[test]
fn a_letter_without_options_is_a_choice_and_a_number_among_statements_a_choice_too() {
    let letter = Wanted::new("Which?", "C", AnswerKind::Auto);
    assert_eq!(letter.kind(), AnswerKind::Choice);
    assert!(letter.is_given_by(" (C) something") && !letter.is_given_by(" D"));

    let counted =
        Wanted::new("1. All cats sleep.\n2. No dog sleeps.\nWhich follows?", "2", AnswerKind::Auto);
    assert_eq!(counted.kind(), AnswerKind::Choice);
    assert!(
        counted.is_given_by(" 2.")
            && counted.is_given_by(" statement 2")
            && !counted.is_given_by(" 1")
    );

    let logic = Wanted::new(
        "1. All cats sleep.\n2. Tom is a cat.\nDoes Tom sleep?",
        "Yes",
        AnswerKind::Auto,
    );
    assert_eq!(logic.kind(), AnswerKind::Text);
}

#[test]
fn a_choice_is_found_in_a_response() {
    let wanted = Wanted::new(METALS, "A", AnswerKind::Auto);
    for (response, right) in [
        ("A", true),
        ("A. iron\n\nWood is no metal, so B. is wrong.", true),
        ("Wood is no metal. The correct answer is A.", true),
        ("The answer is (B). No, the correct answer is:\n\n**A. iron**", true),
        ("Iron conducts; so option A is right.", true),
        ("Let's see.\n\n(A)", true),
        ("Therefore it must be **iron**", true),
        ("B", false),
        ("I cannot say.", false),
        ("It is either (A) or (B)", false),
        ("The correct option is A.", true),
        ("So it must be A.", true),
        ("I would choose B.", false),
        ("A. iron – yes.\n\nB. a piece of wood – no.\n\nTherefore, A is the best choice.", true),
        ("A. iron – no.\n\nB. a piece of wood – yes.\n\nTherefore, B is the best choice.", false),
        ("A is incorrect. B is correct.", false),
        ("The answer is most likely A.", true),
    ] {
        let found = wanted.find(response);
        let judged = found.is_some_and(|found| wanted.is_given_by(&response[found.said]));
        assert_eq!(judged, right, "{response:?}");
    }
}

/// Wanted, said, right.
const TEXTS: &[(&str, &str, bool)] = &[
    ("Rome", ": Rome", true),
    ("Rome", ":\nRome", true),
    ("Rome", " rome.", true),
    ("Rome", " **Rome**", true),
    ("Rome", " \"Rome\"", true),
    ("Rome", " Rome, which is in Italy", true),
    ("Rome", " Rome (Italy)", true),
    ("Rome", " Rome – the capital", true),
    ("Rome", "\\text{Rome}", true),
    ("Rome", " Romeo", false),
    ("Rome", " not Rome", false),
    ("Rome", " ancient Rome", false),
    ("no", " No, because it rains", true),
    ("no", " No. Yes", true),
    ("no", " no idea", false),
    ("yes", " Yes, all cats sleep.", true),
    ("yes", " yes it does", true),
    ("Paris", " Paris because it is the capital", true),
    ("No", " Yes. No", false),
    ("brother", " the brother", true),
    ("brother", " Brother.", true),
    ("brother", " brothers", false),
    ("a dog", " dog", true),
    ("Battle of the Bulge", " the Battle of Bulge", true),
    ("vitamin A", " Vitamin A.", true),
    ("vitamin A", " vitamin", false),
    ("St. Louis", " St. Louis", true),
    ("St. Louis", " St. Louis. It lies on a river.", true),
    ("St. Louis", " St.", false),
    ("No. 7", " No. 7", true),
    ("No. 7", " No. 8", false),
    ("red, blue", " red, blue", true),
    ("red, blue", " red and blue", false),
    ("red, blue", " red, blue, green", false),
    ("10 Downing St., London", " 10 Downing St., London.", true),
    ("C++", " C++", true),
    ("C++", " C", false),
    ("C#", " C#.", true),
    ("x = 5", " x = 5", true),
    ("-5 or 5", " -5 or 5", true),
    ("-5 or 5", " 5 or 5", false),
    ("a@b.de", " A@b.de.", true),
    ("5' 6\"", " 5' 6\"", true),
    ("5' 6\"", " 5 6", false),
    ("DE89 3704 0044 0532 0130 00", " DE89370400440532013000.", true),
    ("DE89 3704 0044 0532 0130 00", " DE89 3704 0044 0532 0130 01", false),
    ("2024-01-02 03:04:05", " 2024-01-02 03:04:05.", true),
    ("2024-01-02 03:04:05", " 2024-01-02 03:04:06.", false),
    ("first line\nsecond line", " first line\nsecond line", true),
    ("first line\nsecond line", " first line\nthird line", false),
    ("é", " e\u{301}", true),
    ("ＡＢＣ", " abc", true),
    ("don’t", " don't", true),
    ("7 of 9", " 7 of 9", true),
    ("?!", " ?!", true),
    ("Paris.", " Paris", true),
    ("東京", " 東京。", true),
];

#[test]
fn texts_are_judged_word_by_word() {
    for (want, said, right) in TEXTS {
        let wanted = Wanted::new("", want, AnswerKind::Auto);
        assert_eq!(wanted.kind(), AnswerKind::Text, "{want:?}");
        assert_eq!(wanted.is_given_by(said), *right, "{said:?} for {want:?}");
    }
}

#[test]
fn exact_answers_are_judged_by_every_character() {
    for (want, said, right) in [
        ("x += 1", " x += 1", true),
        ("x += 1", " `x += 1`", true),
        ("x += 1", " x += 1.", true),
        ("x += 1", "\nx += 1\nThat is it.", true),
        ("x += 1", " X += 1", false),
        ("x += 1", " x+= 1", false),
        ("{\"a\": 1}", " {\"a\": 1}", true),
        ("{\"a\": 1}", " {\"a\": 2}", false),
        ("a\nb", " a\r\nb", true),
        ("a\nb", " a\nc", false),
        ("\"a\"", " \"a\"", true),
        ("Hunter2", " \"Hunter2\"", true),
        ("Hunter2", " hunter2", false),
    ] {
        let wanted = Wanted::new("", want, AnswerKind::Exact);
        assert_eq!(wanted.is_given_by(said), right, "{said:?} for {want:?}");
    }
}

/// Wanted, response, what is read, by which mark.
const RESPONSES: &[(&str, &str, &str, Option<Mark>)] = &[
    ("18", "She has 16. The answer is 18.", "18", Some(Mark::AnswerIs)),
    (
        "18",
        "The answer is 17. No: the final answer is $18.00 per day.",
        "18.00",
        Some(Mark::AnswerIs),
    ),
    ("18", "The answer to the question is: **18**", "18", Some(Mark::AnswerIs)),
    ("18", "**Answer:** 18 eggs", "18", Some(Mark::AnswerIs)),
    ("18", "Answer: \\(18\\)", "18", Some(Mark::AnswerIs)),
    ("18", "so \\boxed{18}. Check: 9 * 2 = 18, 7 is odd", "18", Some(Mark::Boxed)),
    ("18", "so $\\boxed{\\$18}$ in all", "18", Some(Mark::Boxed)),
    ("18", "The answer is $\\boxed{18}$.", "18", Some(Mark::Boxed)),
    ("0.5", "\\boxed{\\frac{1}{2}}", "\\frac{1}{2}", Some(Mark::Boxed)),
    ("18", "9 * 2 = <<9*2=18>>18.\n#### 18", "18", Some(Mark::Hashes)),
    ("18", "### Result\n16 and 2 make 18", "18", None),
    ("18", "To see whether the answer is right, we add: 9 + 9 = 18.", "18", Some(Mark::AnswerIs)),
    ("18", "\\boxed{18", "18", Some(Mark::Boxed)),
    ("Rome", "The answer is: Rome", "Rome", Some(Mark::AnswerIs)),
    (
        "Rome",
        "It is old. The answer is **Rome**, which lies in Italy.",
        "Rome",
        Some(Mark::AnswerIs),
    ),
    ("Rome", "\\boxed{\\text{Rome}}", "Rome", Some(Mark::Boxed)),
    ("Rome", "Rome", "Rome", None),
    ("Rome", "Let me think.\n\nRome.", "Rome", None),
    ("St. Louis", "The answer is St. Louis. It is big.", "St. Louis", Some(Mark::AnswerIs)),
    ("Paris", "The capital of France is **Paris**.", "Paris", None),
    ("brother", "Let me see.\nHe is her brother.", "brother", None),
    ("positive", "Sentiment: Positive", "Positive", None),
    ("540", "#### 540\n\n#### Explanation\nHe does 3 sprints.", "540", Some(Mark::Hashes)),
    ("18", "<think>16 + 2</think>\n<answer>18</answer>", "18", Some(Mark::Tag)),
    ("18", "The answer is <answer> 18 eggs </answer>, since 7 hatched.", "18", Some(Mark::Tag)),
    ("Rome", "<Answer>\nRome\n</Answer>", "Rome", Some(Mark::Tag)),
    ("Rome", "so <answer>Rome", "Rome", Some(Mark::Tag)),
    ("18", "Die Antwort lautet 18 Eier.", "18", Some(Mark::AnswerIs)),
    ("北京", "答案是北京。", "北京", Some(Mark::AnswerIs)),
];

#[test]
fn answers_are_found_in_responses() {
    for (want, response, value, mark) in RESPONSES {
        let wanted = Wanted::new("", want, AnswerKind::Auto);
        let found = wanted.find(response).unwrap_or_else(|| panic!("{response:?}"));
        assert_eq!((&response[found.value], found.mark), (*value, *mark), "{response:?}");
        assert!(wanted.is_given_by(&response[found.said]), "{response:?}");
    }
    assert_eq!(Wanted::new("", "18", AnswerKind::Auto).find("I don't know."), None);
    assert_eq!(Wanted::new("", "Rome", AnswerKind::Auto).find(" \n"), None);
}

/// Wanted, text, what is announced; "|" stands where it is settled.
const GROWING: &[(&str, &str, Option<&str>)] = &[
    ("18", "The answer is 18 eggs.\n| More", Some("18")),
    ("18", "The answer is 18. |So", Some("18")),
    ("18", "The answer is 256 + 37 = 293.\n|", Some("293")),
    ("18", "so \\boxed{18}|", Some("18")),
    ("18", "the answer is \\boxed{18}|.\n", Some("18")),
    ("18", "#### 18\n|", Some("18")),
    ("18", "<answer>18</answer>|.", Some("18")),
    ("18", "The answer is <answer>18</answer>| or so", Some("18")),
    ("18", "<answer>18</answer", None),
    ("18", "The answer is:\n\n**18**\n|", Some("18")),
    ("18", "To see whether the answer is right, add.\nSo\n\\boxed{7}|", Some("7")),
    ("18", "The answer is unclear.\nWe add.\nAnd add.\n#### 4\n|", Some("4")),
    ("18", "9 + 9 = 18.\n", None),
    ("18", "The answer is 18", None),
    ("18", "The answer is 18.", None),
    ("18", "so \\boxed{18", None),
    ("Rome", "The answer is Rome.\n|", Some("Rome")),
    ("Rome", "The answer is Paris. |It", Some("Paris")),
    ("St. Louis", "The answer is St. Louis. |It", Some("St. Louis")),
    ("St. Louis", "The answer is St. ", None),
];

#[test]
fn an_announcement_is_seen_as_soon_as_it_is_settled() {
    for (want, text, value) in GROWING {
        let wanted = Wanted::new("", want, AnswerKind::Auto);
        let (before, after) = text.split_once('|').unwrap_or((text, ""));
        let whole = [before, after].concat();
        let read = |text: &str| {
            let found = wanted.announced(text, &MARKS, false)?;
            Some(text[found.value].to_owned())
        };
        assert_eq!(read(before).as_deref(), *value, "{text:?}");
        assert_eq!(read(&whole), read(before), "{text:?}");
        if value.is_some() {
            let mut early = before.to_owned();
            early.pop();
            assert_eq!(read(&early), None, "{early:?} is too early");
        }
    }
    let wanted = Wanted::new("", "18", AnswerKind::Auto);
    let ended = wanted.announced("The answer is 18.", &MARKS, true).unwrap();
    assert_eq!((ended.mark, ended.value), (Mark::AnswerIs, 14..16));
    assert_eq!(wanted.announced("#### 18\n", &[Mark::Boxed], true), None);
}

#[test]
fn a_choice_is_announced_with_its_label() {
    let wanted = Wanted::new(METALS, "A", AnswerKind::Auto);
    let text = "Wood burns. The correct answer is B. a piece of wood.\n\nBecause";
    let found = wanted.announced(text, &MARKS, false).unwrap();
    assert_eq!(&text[found.value], "B");
    let boxed = wanted.announced("so \\boxed{A}", &MARKS, false).unwrap();
    assert_eq!(boxed.mark, Mark::Boxed);
}

#[test]
fn votes_have_a_normal_form() {
    let key = |want: &str, said: &str| Wanted::new(METALS, want, AnswerKind::Auto).key(said);
    assert_eq!(key("18", " $18.00"), key("18", "18 eggs"));
    assert_ne!(key("18", "18"), key("18", "19"));
    assert_eq!(key("Rome", " the Rome."), key("Rome", "rome"));
    assert_eq!(key("A", " (B)"), key("A", " a piece of wood"));
    assert_eq!(key("18", " no number"), None);
    assert_eq!(key("Rome", " "), None);
}

#[test]
fn long_texts_are_judged_quickly() {
    let start = Instant::now();
    let long = 50_000;
    for part in ["1", "1,", "{", "\\boxed{", "answer is ", " ", "#### ", "(A) ", "1/", "- ", "\n"] {
        let text = part.repeat(long / part.len());
        for answer in ["18", "A", "Rome"] {
            let wanted = Wanted::new(METALS, answer, AnswerKind::Auto);
            let _ = (wanted.find(&text), wanted.is_given_by(&text));
            let _ = Wanted::new(&text, &text, AnswerKind::Auto);
        }
    }
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

proptest! {
    #[test]
    fn every_answer_gives_itself(answer in "\\PC{1,30}") {
        prop_assume!(answer.contains(char::is_alphanumeric));
        for kind in [AnswerKind::Auto, AnswerKind::Text, AnswerKind::Exact, AnswerKind::Number] {
            let wanted = Wanted::new("", &answer, kind);
            prop_assert!(wanted.is_given_by(&answer), "{answer:?} {kind:?}");
        }
    }

    #[test]
    fn words_give_themselves_in_sentences(words in prop::collection::vec("[a-zA-Z0-9äéß+#]{1,8}", 1..5)) {
        let answer = words.join(" ");
        prop_assume!(!answer.contains("####"));
        let wanted = Wanted::new("", &answer, AnswerKind::Auto);
        for said in [format!(" {answer}."), format!("**{answer}**"), format!(": {answer}"), format!(" \"{answer}\".")] {
            prop_assert!(wanted.is_given_by(&said), "{said:?}");
        }
        let response = format!("I think so. The answer is {answer}.");
        let found = wanted.find(&response);
        prop_assert!(found.is_some_and(|found| wanted.is_given_by(&response[found.said])), "{response:?}");
    }

    #[test]
    fn other_words_are_wrong(a in "[b-z]{2,8}", b in "[b-z]{2,8}") {
        prop_assume!(a != b);
        prop_assert!(!Wanted::new("", &a, AnswerKind::Auto).is_given_by(&b));
    }

    #[test]
    fn other_labels_are_wrong(a in 0usize..4, b in 0usize..4) {
        let label = |n: usize| "ABCD"[n..=n].to_owned();
        for said in [label(b), format!("({})", label(b)), format!("**{}**.", label(b))] {
            prop_assert_eq!(Wanted::new(METALS, &label(a), AnswerKind::Auto).is_given_by(&said), a == b);
        }
    }

    #[test]
    fn any_text_can_be_judged(question in any::<String>(), answer in any::<String>(), text in any::<String>()) {
        for kind in [AnswerKind::Auto, AnswerKind::Choice, AnswerKind::Exact] {
            let wanted = Wanted::new(&question, &answer, kind);
            let _ = (wanted.is_given_by(&text), wanted.key(&text));
            if let Some(found) = wanted.find(&text) {
                prop_assert!(text.get(found.said.clone()).is_some() && text.get(found.value.clone()).is_some());
            }
        }
    }

    #[test]
    fn announcements_stay(
        parts in prop::collection::vec(
            prop::sample::select(vec!["the answer is ", "\\boxed{", "}", "#### ", "18", ".", " ", "\n", "5", ",",
                "St.", " Louis", "A", "B", " + ", " = ", "wood", "**", "$", "é", "/", "("]), 0..24),
        which in 0usize..4,
    ) {
        let text = parts.concat();
        let wanted = Wanted::new(METALS, ["18", "St. Louis", "A", "wood"][which], AnswerKind::Auto);
        let mut seen: Option<(Mark, Range<usize>)> = None;
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let found = wanted.announced(&text[..end], &MARKS, false).map(|f| (f.mark, f.value));
            if seen.is_some() {
                prop_assert_eq!(&found, &seen, "{:?} at {}", text, end);
            }
            seen = found.or(seen);
        }
    }
}
