//! Which tasks are held out, decided by the question alone.
//!
//! A task's side never depends on the other tasks, so new tasks never move an old one to the other
//! side, and two spellings of a question (white space, case) always land on the same side.

use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

use super::Task;

/// Sets this hash apart from others over the same text.
const DOMAIN: &[u8] = b"latrod held-out 1\0";

/// Splits `tasks` into those to train on and those held out, keeping their order.
///
/// `held_out_share` is the expected share of held-out questions, 0 to 1. A greater share keeps all
/// questions that a smaller one holds out.
#[must_use]
pub fn split(tasks: &[Task], held_out_share: f64) -> (Vec<Task>, Vec<Task>) {
    let (held_out, train) =
        tasks.iter().cloned().partition(|task| is_held_out(task, held_out_share));
    (train, held_out)
}

/// Whether the task is held out at this share, see [`split`].
#[must_use]
pub fn is_held_out(task: &Task, held_out_share: f64) -> bool {
    position(&task.question) < held_out_share
}

/// The same number for all spellings (Unicode form, white space, case) of a question, uniform over questions.
#[must_use]
pub fn question_key(question: &str) -> u64 {
    let mut hash = Sha256::new_with_prefix(DOMAIN);
    hash.update(normalized(question).as_bytes());
    u64::from_be_bytes(hash.finalize().first_chunk().copied().unwrap_or_default())
}

/// A question's place in [0, 1), uniform over questions.
fn position(question: &str) -> f64 {
    // 32 bits are exact in an f64 and fine enough for any share.
    (question_key(question) >> 32) as f64 / 4_294_967_296.0
}

fn normalized(question: &str) -> String {
    let composed: String = question.nfc().collect();
    composed.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tasks(questions: &[String]) -> Vec<Task> {
        questions.iter().map(|q| Task::new(q.clone(), "1".into())).collect()
    }

    #[test]
    fn about_the_asked_share_is_held_out() {
        let questions: Vec<_> = (0..4000).map(|n| format!("What is {n} + 1?")).collect();

        let (train, held_out) = split(&tasks(&questions), 0.2);

        assert_eq!(train.len() + held_out.len(), 4000);
        // Four standard deviations of a binomial are 101.
        assert!((700..900).contains(&held_out.len()), "{}", held_out.len());
    }

    #[test]
    fn shares_out_of_bounds_hold_out_nothing_or_all() {
        let tasks = tasks(&["a".into(), "b".into()]);

        assert_eq!(split(&tasks, 0.0).1.len(), 0);
        assert_eq!(split(&tasks, f64::NAN).1.len(), 0);
        assert_eq!(split(&tasks, 1.0).0.len(), 0);
    }

    proptest! {
        #[test]
        fn new_tasks_move_no_old_one(
            old in proptest::collection::vec(".{0,12}", 0..20),
            new in proptest::collection::vec(".{0,12}", 0..20),
            share in 0.0..1.0,
        ) {
            let (train, held_out) = split(&tasks(&old), share);
            let (train_later, held_out_later) = split(&tasks(&[old, new].concat()), share);

            prop_assert_eq!(&train_later[..train.len()], &train[..]);
            prop_assert_eq!(&held_out_later[..held_out.len()], &held_out[..]);
        }

        #[test]
        fn spellings_of_a_question_stay_together(
            words in proptest::collection::vec("[a-zA-Z0-9+]{1,5}", 1..8),
            gap in "[ \t\n]{1,3}",
            share in 0.0..1.0,
        ) {
            let plain = Task::new(words.join(" "), "1".into());
            let other = Task::new(words.join(&gap).to_uppercase(), "2".into());

            prop_assert_eq!(is_held_out(&plain, share), is_held_out(&other, share));
        }

        #[test]
        fn a_greater_share_keeps_what_was_held_out(question in ".{0,20}", a in 0.0..1.0, b in 0.0..1.0) {
            let task = Task::new(question, "1".into());
            let (less, more) = if a < b { (a, b) } else { (b, a) };

            prop_assert!(!is_held_out(&task, less) || is_held_out(&task, more));
        }
    }
}
