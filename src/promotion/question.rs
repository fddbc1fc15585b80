//! Evidence is per question, not per line: lines that ask the same question count once.
//!
//! Asked twice, a question is answered twice alike, so counting both would make every interval too
//! narrow. Lines ask the same if their questions differ in Unicode form, case and spaces at most; where
//! their answers differ, each is a right one.

use std::collections::HashMap;

use super::evaluate::QuestionResult;
use super::gate::{Answered, Pair};
use crate::data::{Task, question_key};

/// The places of tasks that ask the same question, in the order in which questions come first.
#[must_use]
pub fn by_question(tasks: &[Task]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut known: HashMap<u64, usize> = HashMap::new();
    for (i, task) in tasks.iter().enumerate() {
        let group = *known.entry(question_key(&task.question)).or_insert(groups.len());
        match groups.get_mut(group) {
            Some(places) => places.push(i),
            None => groups.push(vec![i]),
        }
    }
    groups
}

/// The results of tasks, one for each question: right if one of its lines is, and with the mean
/// likelihood per token of its answers.
///
/// # Panics
/// If there is not one result for each task.
#[must_use]
pub fn results_by_question(tasks: &[Task], results: &[QuestionResult]) -> Vec<QuestionResult> {
    assert_eq!(tasks.len(), results.len(), "one result a task");
    let merged = |places: Vec<usize>| {
        let all = || places.iter().map(|i| &results[*i]);
        let any = |right: &dyn Fn(&QuestionResult) -> bool| all().any(right);
        let mut first = results[places[0]].clone();
        let (answers, tokens) = (places.len() as f64, first.answer_tokens as f64);
        let mean = |log_p: &dyn Fn(&QuestionResult) -> f64| {
            all().map(|r| log_p(r) / r.answer_tokens as f64).sum::<f64>() / answers * tokens
        };
        first.log_p_answer = mean(&|r| r.log_p_answer);
        first.log_p_direct = mean(&|r| r.log_p_direct);
        first.correct = any(&|r| r.correct);
        let majority = any(&|r| r.majority_correct == Some(true));
        first.majority_correct = first.majority_correct.map(|_| majority);
        let forced = any(&|r| r.forced.as_ref().is_some_and(|forced| forced.correct));
        if let Some(first) = &mut first.forced {
            first.correct = forced;
        }
        first
    };
    by_question(tasks).into_iter().map(merged).collect()
}

/// The pairs of tasks, one for each question, as [`results_by_question`] does it.
///
/// # Panics
/// If there is not one pair for each task.
#[must_use]
pub fn pairs_by_question(tasks: &[Task], pairs: &[Pair]) -> Vec<Pair> {
    assert_eq!(tasks.len(), pairs.len(), "one pair a task");
    let merged = |places: Vec<usize>| {
        let of = |side: fn(&Pair) -> Answered| {
            let all = || places.iter().map(|i| side(&pairs[*i]));
            let first = side(&pairs[places[0]]);
            let per_token = all().map(|a| a.log_p_per_token()).sum::<f64>() / places.len() as f64;
            Answered {
                correct: all().any(|a| a.correct),
                log_p_answer: per_token * first.answer_tokens.max(1) as f64,
                answer_tokens: first.answer_tokens,
            }
        };
        Pair { baseline: of(|pair| pair.baseline), candidate: of(|pair| pair.candidate) }
    };
    by_question(tasks).into_iter().map(merged).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(question: &str, answer: &str) -> Task {
        Task::new(question.into(), answer.into())
    }

    #[test]
    fn spellings_of_a_question_are_one() {
        let tasks = [
            task("Caf\u{e9}  open?", "yes"),
            task("Is it?", "no"),
            task("cafe\u{301} open?", "yes"),
            task("is  IT?", "never"),
        ];

        assert_eq!(by_question(&tasks), [vec![0, 2], vec![1, 3]]);
        assert!(by_question(&[]).is_empty());
    }

    #[test]
    fn a_question_counts_once_however_often_it_is_asked() {
        let answered = |correct, log_p_answer, answer_tokens| Answered {
            correct,
            log_p_answer,
            answer_tokens,
        };
        let pair = |correct, log_p, tokens| Pair {
            baseline: answered(false, -4.0, tokens),
            candidate: answered(correct, log_p, tokens),
        };
        let tasks = [task("q", "a"), task("other", "b"), task("Q", "c")];
        let pairs = [pair(false, -2.0, 2), pair(true, -1.0, 1), pair(true, -12.0, 4)];

        let merged = pairs_by_question(&tasks, &pairs);

        // −1 and −3 a token are −2 on average, of two tokens.
        assert_eq!(merged[0].candidate, answered(true, -4.0, 2));
        assert_eq!(merged[1], pairs[1]);
        assert_eq!(merged.len(), 2);
    }
}
