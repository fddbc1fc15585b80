//! Which tasks a step works on.
//!
//! Only a task that the model sometimes gets right teaches anything: where all rationales earn the
//! same, there is nothing to compare. What a task is expected to teach is the variance of a
//! success, p(1 − p), with p between what was seen of the task and what is usual for questions of its
//! length: where a set is too large to ask everything twice, a long question is more often a hopeless
//! one, and costs more tokens. Tasks are drawn
//! with the square of that (the sampling of tasks by their learning potential as in prioritized level
//! replay, arXiv 2010.03934, and in online difficulty filtering, arXiv 2504.03380). Squared, because
//! the tasks that teach are few where a set is hard, and would be lost among the many others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::latro::sampling::sampler::{stream, uniform};

/// How many rationales of a task what is usual counts for.
const PRIOR: f64 = 2.0;
/// What earlier rationales of a task count when it is asked again: the model has changed.
const FADES: f64 = 0.5;
/// The least weight of a task, as a share of the most there is: what was hopeless may not stay so.
const LEAST: f64 = 0.1;
/// What an earlier task counts in what is usual: it remembers about 100.
const USUAL_FADES: f64 = 0.99;
/// Classes of equally many questions, from the shortest to the longest.
const CLASSES: usize = 8;
/// How many questions of a class what is usual over all lengths counts for.
const CLASS_PRIOR: f64 = 8.0;

/// Rationales seen and what they earned, earlier ones faded.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Success {
    seen: f64,
    earned: f64,
}

impl Success {
    fn add(&mut self, rationales: f64, mean: f64, fades: f64) {
        self.seen = fades * self.seen + rationales;
        self.earned = fades * self.earned + rationales * mean;
    }
}

/// What is known of the tasks of a run, by their places in its list.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Curriculum {
    tasks: BTreeMap<usize, Success>,
    /// Over all tasks.
    usual: Success,
    /// Tasks asked so far, repetitions included.
    asked: u64,
}

impl Curriculum {
    /// Tasks asked so far, repetitions included.
    #[must_use]
    pub const fn asked(&self) -> u64 {
        self.asked
    }

    /// Takes note of what an asked task's rationales have earned on average. Earnings outside 0 to 1
    /// count as the nearest of these; of what is not a number only that it was asked.
    pub fn note(&mut self, task: usize, rationales: usize, mean: f64) {
        self.asked += 1;
        if !mean.is_finite() || rationales == 0 {
            return;
        }
        let mean = mean.clamp(0.0, 1.0);
        self.tasks.entry(task).or_default().add(rationales as f64, mean, FADES);
        self.usual.add(1.0, mean, USUAL_FADES);
    }

    /// What tasks with questions of these lengths are expected to teach: the mean of p(1 − p) where p has
    /// the beta distribution that what is known leaves, and at least a tenth of 1/4. 0 < weight ≤ 1/4.
    #[must_use]
    pub fn weights(&self, lengths: &[usize]) -> Vec<f64> {
        let classes = classes(lengths);
        let usual = self.usual(&classes);
        let weight = |(task, class): (usize, &usize)| {
            let Success { seen, earned } = self.tasks.get(&task).copied().unwrap_or_default();
            let (a, b) =
                (PRIOR * usual[*class] + earned, PRIOR * (1.0 - usual[*class]) + seen - earned);
            let n = a + b;
            (a * b / (n * (n + 1.0))).max(LEAST / 4.0)
        };
        classes.iter().enumerate().map(weight).collect()
    }

    /// What rationales usually earn in each class: the mean over its tasks, drawn towards that over all.
    fn usual(&self, classes: &[usize]) -> [f64; CLASSES] {
        // As if one half had been seen once before the first task.
        let overall = (self.usual.earned + 0.5) / (self.usual.seen + 1.0);
        let mut classed = [(CLASS_PRIOR * overall, CLASS_PRIOR); CLASSES];
        for (task, Success { seen, earned }) in &self.tasks {
            if let Some(class) = classes.get(*task) {
                classed[*class].0 += earned / seen;
                classed[*class].1 += 1.0;
            }
        }
        classed.map(|(earned, tasks)| earned / tasks)
    }

    /// `count` of the tasks with questions of these lengths, each drawn with the square of its weight,
    /// none twice as long as there are others. A function of what is known and its arguments alone, so
    /// that a resumed run goes on with the right ones.
    ///
    /// # Panics
    /// If there are no tasks.
    #[must_use]
    pub fn draw(&self, step: u64, lengths: &[usize], count: usize, seed: u64) -> Vec<usize> {
        assert!(!lengths.is_empty(), "a run has tasks");
        let mut rng = stream(seed, u64::MAX - 3, step, 0);
        // Efraimidis and Spirakis 2006: the largest u^(1/w) are a weighted draw without replacement.
        let mut keys: Vec<(f64, usize)> = (self.weights(lengths).into_iter().enumerate())
            .map(|(task, weight)| (uniform(&mut rng).ln() / weight.powi(2), task))
            .collect();
        keys.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        keys.into_iter().map(|(_, task)| task).cycle().take(count).collect()
    }
}

/// The class of each length: how many are shorter, in eighths of all. Equal ones share a class.
fn classes(lengths: &[usize]) -> Vec<usize> {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    let shorter = |length: &usize| sorted.partition_point(|other| other < length);
    lengths.iter().map(|length| shorter(length) * CLASSES / lengths.len()).collect()
}

/// The next `count` of `tasks` tasks after the first `asked`, where all come up once in random order
/// before any comes up again. A function of its arguments alone.
#[must_use]
pub fn shuffled(asked: u64, tasks: usize, count: usize, seed: u64) -> Vec<usize> {
    let all = tasks as u64;
    let first_pass = asked / all;
    let passes = (asked + count as u64).div_ceil(all).max(first_pass);
    let order = (first_pass..passes).flat_map(|pass| permutation(tasks, seed, pass));
    order.skip((asked % all) as usize).take(count).collect()
}

/// The numbers below `n` in random order (Fisher & Yates).
fn permutation(n: usize, seed: u64, pass: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut rng = stream(seed, u64::MAX - 1, pass, 0);
    for i in (1..n).rev() {
        let j = (uniform(&mut rng) * (i + 1) as f64) as usize;
        order.swap(i, j.min(i));
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_pass_works_on_every_task_once_in_another_order() {
        let order: Vec<usize> = (0..8).flat_map(|step| shuffled(3 * step, 8, 3, 5)).collect();

        for pass in order.chunks(8) {
            let mut sorted = pass.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..8).collect::<Vec<_>>());
        }
        assert_ne!(order[..8], order[8..16]);
    }

    #[test]
    fn what_is_sometimes_right_comes_up_more_often_than_the_hopeless_and_the_solved() {
        let mut curriculum = Curriculum::default();
        for task in 0..90 {
            curriculum.note(task, 8, [0.0, 0.5, 1.0][task % 3]);
        }

        let drawn: Vec<usize> =
            (1..=200).flat_map(|step| curriculum.draw(step, &[1; 90], 12, 7)).collect();

        let count = |kind: usize| drawn.iter().filter(|task| *task % 3 == kind).count();
        assert!(count(1) > 2 * count(0) && count(1) > 2 * count(2), "{:?}", [0, 1, 2].map(count));
        assert!(count(0) > 5 && count(2) > 5, "none is forgotten: {:?}", [0, 1, 2].map(count));
    }

    /// How many groups of 8 are not all alike when tasks with these chances are asked in 80 steps of 12.
    fn teaching(chances: &[f64], next: impl Fn(u64, &Curriculum) -> Vec<usize>) -> usize {
        let (mut curriculum, mut teaching) = (Curriculum::default(), 0);
        let mut rng = stream(1, 2, 3, 4);
        for step in 1..=80 {
            for task in next(step, &curriculum) {
                let right = (0..8).filter(|_| uniform(&mut rng) < chances[task]).count();
                teaching += usize::from((1..8).contains(&right));
                curriculum.note(task, 8, right as f64 / 8.0);
            }
        }
        teaching
    }

    /// A model that gets a fifth of the tasks right half the time and the others never.
    #[test]
    fn more_groups_teach_something() {
        let chances: Vec<f64> =
            (0..300).map(|task| if task % 5 == 0 { 0.5 } else { 0.0 }).collect();

        let before = teaching(&chances, |_, known| shuffled(known.asked(), 300, 12, 9));
        let after = teaching(&chances, |step, known| known.draw(step, &[1; 300], 12, 9));

        assert!(after as f64 > 1.5 * before as f64, "{before} -> {after}");
    }

    /// A model that gets the shortest quarter of the tasks right sometimes, of which most are never asked
    /// twice.
    #[test]
    fn what_is_usual_depends_on_the_length() {
        let lengths: Vec<usize> = (0..4000).map(|task| 60 + task % 400).collect();
        let chances: Vec<f64> =
            lengths.iter().map(|length| if *length < 160 { 0.3 } else { 0.01 }).collect();

        let before = teaching(&chances, |_, known| shuffled(known.asked(), 4000, 12, 9));
        let after = teaching(&chances, |step, known| known.draw(step, &lengths, 12, 9));

        assert!(after as f64 > 2.0 * before as f64, "{before} -> {after}");
    }

    #[test]
    fn a_step_wider_than_the_tasks_asks_all_before_it_repeats_one() {
        let mut drawn = Curriculum::default().draw(3, &[9, 9, 2, 9], 6, 1);
        let again = drawn.split_off(4);
        drawn.sort_unstable();

        assert_eq!(drawn, [0, 1, 2, 3]);
        assert_eq!(again.len(), 2);
    }

    proptest! {
        #[test]
        fn weights_are_variances(noted in prop::collection::vec((0usize..5, 1usize..20, -1.0..2.0f64), 0..40)) {
            let mut curriculum = Curriculum::default();
            for (task, rationales, mean) in noted {
                curriculum.note(task, rationales, mean);
            }
            let lengths = [3, 1, 4, 1, 5, 9];
            for weight in curriculum.weights(&lengths) {
                prop_assert!((LEAST / 4.0..=0.25).contains(&weight), "{weight}");
            }
            curriculum.note(0, 8, f64::NAN);
            let json = serde_json::to_string(&curriculum).unwrap();
            let restored: Curriculum = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(restored.draw(2, &lengths, 4, 3), curriculum.draw(2, &lengths, 4, 3));
        }
    }
}
