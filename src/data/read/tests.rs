use proptest::prelude::*;
use serde_json::json;

use super::*;

fn file_of(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tasks.jsonl");
    fs::write(&path, content).unwrap();
    (dir, path)
}

fn read(content: &[u8]) -> Result<TaskSet, DataError> {
    read_tasks(&file_of(content).1, &TaskLimits::default())
}

fn line(question: &str, answer: &str) -> String {
    json!({ "question": question, "answer": answer }).to_string()
}

#[test]
fn good_lines_are_used_and_bad_ones_counted_with_their_reason() {
    let long = format!(r#"{{"question": "{}", "answer": "1"}}"#, "x".repeat(2 << 20));
    let content = [
        b"\xef\xbb\xbf",
        line("1+1?", "2").as_bytes(),
        b"\n\n{\"question\": \"\xff\"}\n",
        long.as_bytes(),
        b"\n{broken\n{\"question\": \"2+2?\", \"answer\": 4}\r\n",
        line("1+1?", "2").as_bytes(),
    ]
    .concat();

    let set = read(&content).unwrap();

    let answers: Vec<_> = set.tasks.iter().map(|task| task.answer.as_str()).collect();
    assert_eq!(answers, ["2", "4"]);
    let reasons: Vec<_> = set.rejected.iter().map(|bad| (bad.line, bad.reason.clone())).collect();
    assert_eq!(
        reasons,
        [
            (3, RejectReason::InvalidUtf8),
            (4, RejectReason::TooLong { limit: 1 << 20 }),
            (5, RejectReason::BrokenJson { column: 2 }),
        ]
    );
    assert_eq!((set.rejected_count, set.duplicates), (3, 1));
    assert_eq!(set.rejected[1].text.len(), 200);
}

#[test]
fn a_file_without_a_good_task_says_why() {
    let error = read(b"\n{}\nnonsense\n").unwrap_err().to_string();

    assert!(error.contains("2 bad lines") && error.contains("line 2"), "{error}");
    assert!(error.contains("\"question\" is missing"), "{error}");
    assert!(matches!(read(b"\n \n"), Err(DataError::Empty { .. })));
}

#[test]
fn limits_hold() {
    let content: String = (0..10).map(|n| line(&format!("q{n}"), "1") + "\n").collect();
    let (_dir, path) = file_of(content.as_bytes());

    let few = TaskLimits { max_tasks: 4, max_rejected: 2, ..TaskLimits::default() };
    let set = read_tasks(&path, &few).unwrap();
    assert_eq!((set.tasks.len(), set.rejected.len(), set.rejected_count), (4, 2, 6));

    let short = TaskLimits { max_text_bytes: 7, ..TaskLimits::default() };
    let set = read_tasks(&path, &short).unwrap();
    assert_eq!(set.tasks.len(), 2);
    assert_eq!(set.rejected[0].reason, RejectReason::TooMuchText { limit: 7 });
}

#[test]
fn a_folder_is_read_in_the_order_of_its_names() {
    let dir = tempfile::tempdir().unwrap();
    for (name, question) in [
        ("b.jsonl", "second"),
        ("a.jsonl", "first"),
        ("c.txt", "no"),
        (".d.jsonl", "no"),
        (REJECTED_FILE, "no"),
    ] {
        fs::write(dir.path().join(name), line(question, "1")).unwrap();
    }

    let set = read_tasks(dir.path(), &TaskLimits::default()).unwrap();

    let questions: Vec<_> = set.tasks.iter().map(|task| task.question.as_str()).collect();
    assert_eq!(questions, ["first", "second"]);
}

#[test]
fn what_is_not_there_or_no_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let limits = TaskLimits::default();

    assert!(matches!(read_tasks(dir.path(), &limits), Err(DataError::NoFiles { .. })));
    let absent = dir.path().join("absent.jsonl");
    let error = read_tasks(&absent, &limits).unwrap_err().to_string();
    assert!(error.contains("absent.jsonl"), "{error}");
    #[cfg(target_os = "linux")]
    assert!(matches!(read_tasks(Path::new("/dev/zero"), &limits), Err(DataError::Read { .. })));
}

proptest! {
    #[test]
    fn random_bytes_among_the_lines_cost_no_good_task(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let content =
            [line("q1", "1").as_bytes(), b"\n", &bytes, b"\n", line("q2", "2").as_bytes()].concat();

        let set = read(&content).unwrap();

        prop_assert_eq!(set.tasks.len(), 2);
        prop_assert_eq!(set.rejected.len(), set.rejected_count);
    }

    #[test]
    fn any_texts_come_back(question in ".{0,40}", answer in ".{0,40}") {
        let result = read(line(&question, &answer).as_bytes());

        if question.trim().is_empty() || answer.trim().is_empty() {
            prop_assert!(result.is_err());
        } else {
            let expected = Task::new(question.trim().into(), answer.trim().into());
            prop_assert_eq!(result.unwrap().tasks, [expected]);
        }
    }
}
