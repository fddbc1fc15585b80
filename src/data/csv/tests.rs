use super::*;
use crate::data::AnswerKind;

type Rows = Vec<(usize, Result<(String, String), RejectReason>)>;

fn rows_within(text: &[u8], max_bytes: usize) -> Rows {
    let mut rows = CsvRows::new(text, max_bytes);
    let mut all = Vec::new();
    while let Some((line, row)) = rows.next().unwrap() {
        let Some(row) = row else { continue };
        let whole_file = row.as_ref().is_err_and(RejectReason::is_of_file);
        all.push((line, row.map(|task| (task.question, task.answer))));
        if whole_file {
            break;
        }
    }
    all
}

fn rows(text: &str) -> Rows {
    rows_within(text.as_bytes(), 1000)
}

fn good(
    line: usize,
    question: &str,
    answer: &str,
) -> (usize, Result<(String, String), RejectReason>) {
    (line, Ok((question.into(), answer.into())))
}

#[test]
fn columns_are_found_by_name_with_any_of_three_separators() {
    for text in [
        "id,Answer,question\n7,2,1+1?\n",
        "id;answer;QUESTION\r\n7;2;1+1?\r\n",
        "id\t answer\tquestion\n7\t2\t1+1?",
    ] {
        assert_eq!(rows(text), [good(2, "1+1?", "2")], "{text}");
    }
}

#[test]
fn quoted_texts_hold_separators_quotes_and_line_breaks() {
    let text = "question,answer\n\"a, \"\"b\"\"\r\n\nc?\",\"so\n#### 1,000\"\n\nd?,4\n";

    assert_eq!(rows(text), [good(2, "a, \"b\"\r\n\nc?", "1000"), good(7, "d?", "4")]);
}

#[test]
fn an_unclosed_quote_costs_its_line_only() {
    let lines: String = (0..2000).map(|n| format!("q{n},{n}\n")).collect();
    let text = format!("question,answer\n\"open,1\n{lines}a 5\" pipe?,5\n\"open,2\nlast,1");

    let rows = rows_within(text.as_bytes(), 1 << 20);

    assert_eq!(rows.len(), 2004);
    assert_eq!(rows[0], (2, Err(RejectReason::UnclosedQuote)));
    assert_eq!(rows[1], good(3, "q0", "0"));
    assert_eq!(rows[2001], good(2003, "a 5\" pipe?", "5"));
    assert_eq!(rows[2002], (2004, Err(RejectReason::UnclosedQuote)));
    assert_eq!(rows[2003], good(2005, "last", "1"));
}

#[test]
fn a_row_holds_no_more_than_its_limit() {
    let text = format!("question,answer\n\"{}\n{}\",1\nq,2\n", "x".repeat(60), "y".repeat(60));

    let rows = rows_within(text.as_bytes(), 100);

    assert_eq!(rows[0], (2, Err(RejectReason::UnclosedQuote)));
    assert_eq!(rows.last(), Some(&good(4, "q", "2")));
    let long = format!("question,answer\n{},1\nq,2\n", "x".repeat(200));
    let expected = [(2, Err(RejectReason::TooLong { limit: 100 })), good(3, "q", "2")];
    assert_eq!(rows_within(long.as_bytes(), 100), expected);
}

#[test]
fn many_unclosed_quotes_take_no_time() {
    // Each line opens a quote that no later line closes within the limit.
    let text = "question,answer\n".to_owned() + &"\"a,\"\"b\"\"\n".repeat(100_000);
    let begin = std::time::Instant::now();

    let rows = rows_within(text.as_bytes(), 1 << 20);

    assert!(!rows.is_empty());
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

#[test]
fn bad_rows_have_their_reasons() {
    use RejectReason as R;
    let text = b"question,answer\na\nb,1,2\n,3\nc,\n\xff,1\nd,4\n";

    let expected = [
        (2, Err(R::FieldCount { expected: 2, found: 1 })),
        (3, Err(R::FieldCount { expected: 2, found: 3 })),
        (4, Err(R::EmptyField { field: "question" })),
        (5, Err(R::EmptyField { field: "answer" })),
        (6, Err(R::InvalidUtf8)),
        good(7, "d", "4"),
    ];
    assert_eq!(rows_within(text, 1000), expected);
    assert_eq!(rows("1+1?,2\n"), [(1, Err(R::NoHeader))]);
    assert_eq!(rows(""), []);
}

#[test]
fn a_file_that_ends_within_a_row_is_torn() {
    for (text, torn) in [
        ("question,answer\na,1\n", false),
        ("question,answer\na,1", true),
        ("question,answer\n\"a\n", true),
        ("question,answer\n\"a\nb\",1\n", false),
    ] {
        let mut rows = CsvRows::new(text.as_bytes(), 1000);
        while rows.next().unwrap().is_some() {}
        assert_eq!(rows.is_torn(), torn, "{text}");
    }
}

#[test]
fn a_column_may_say_how_answers_are_judged() {
    let text = "question,answer,answer_kind\na,x += 1,exact\nb,2,\nc,3,codes\n";
    let mut rows = CsvRows::new(text.as_bytes(), 100);
    let mut kinds = Vec::new();
    while let Some((_, row)) = rows.next().unwrap() {
        kinds.extend(row.map(|row| row.map(|task| task.answer_kind)));
    }

    let wanted = [Ok(Some(AnswerKind::Exact)), Ok(None), Err(RejectReason::UnknownAnswerKind)];
    assert_eq!(kinds, wanted);
}
