//! Measures a policy on held-out tasks: greedy accuracy, the likelihood of the right answers, and the
//! accuracy of a majority vote.
//!
//! For each question: a greedy rationale, cut at the end of the turn or at the answer phrase; then
//! the phrase, and what the policy says after it is compared with the answer. The likelihood is that
//! of the right answer after the same rationale.

use std::time::Instant;

use super::answer::{is_correct, majority};
use crate::data::Task;
use crate::engine::Engine;
use crate::latro::learner::LearnError;
use crate::latro::log_prob::score;
use crate::latro::metrics::EvalMetrics;
use crate::latro::prompt::{Finish, Prompter};
use crate::latro::sampling::generate::{Limits, Policy, Stop, generate};
use crate::latro::sampling::sampler::{Pick, stream};
use crate::latro::tree::{Branch, Tree};

/// Tokens in which an answer must be given.
pub const ANSWER_TOKENS: usize = 12;

/// How to evaluate.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EvalSettings {
    /// Whether the model is asked for a rationale first; a model trained on answers alone is not.
    pub think: bool,
    /// Longest rationale, tokens.
    pub max_new_tokens: usize,
    /// Branches that are computed together.
    pub batch: usize,
    /// Sampled rationales in the majority vote; 0 for none.
    pub votes: usize,
    /// Temperature of the votes.
    pub temperature: f32,
    /// Seed of the votes.
    pub seed: u64,
}

/// The result of one question.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct QuestionResult {
    pub correct: bool,
    /// What the policy answered.
    pub given: String,
    /// The right answer.
    pub wanted: String,
    /// log p of the right answer (with phrase and end of turn) after the greedy rationale, nats.
    pub log_p_answer: f64,
    pub answer_tokens: usize,
    pub rationale_tokens: usize,
    /// Whether the rationale ended by itself.
    pub finished: bool,
    /// Whether the majority of sampled answers is right, if a vote was held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub majority_correct: Option<bool>,
}

impl QuestionResult {
    /// log p of the right answer per token, nats.
    #[must_use]
    pub fn log_p_answer_per_token(&self) -> f64 {
        self.log_p_answer / self.answer_tokens as f64
    }
}

/// Ends an answer at the end of the turn.
struct AtTurnEnd(Vec<u32>);

impl Stop for AtTurnEnd {
    fn push(&mut self, token: u32) -> bool {
        self.0.contains(&token)
    }
}

/// Asks every question; `progress` receives the tokens of every decoding step.
///
/// # Errors
/// [`LearnError`], above all [`crate::engine::ModelError::Interrupted`].
pub fn evaluate<E: Engine>(
    policy: Policy<'_, E>,
    prompter: &Prompter,
    tasks: &[Task],
    settings: EvalSettings,
    mut progress: impl FnMut(usize),
) -> Result<Vec<QuestionResult>, LearnError> {
    let prompts = tasks
        .iter()
        .map(|t| prompter.prompt(&t.question, settings.think))
        .collect::<Result<Vec<_>, _>>()?;
    let rationales = match settings.think {
        true => think(policy, prompter, &prompts, settings, 1, Pick::Greedy, &mut progress)?,
        false => prompts.iter().map(|_| vec![(Vec::new(), Finish::EndOfTurn)]).collect(),
    };
    let given = answers(policy, prompter, &prompts, &rationales, settings, &mut progress)?;
    let mut votes = vec![None; tasks.len()];
    if settings.votes > 0 && settings.think {
        let pick = Pick::Sample { temperature: settings.temperature };
        let sampled =
            think(policy, prompter, &prompts, settings, settings.votes, pick, &mut progress)?;
        votes = answers(policy, prompter, &prompts, &sampled, settings, &mut progress)?
            .iter()
            .map(|answers| majority(answers))
            .collect();
    }
    let mut results = Vec::with_capacity(tasks.len());
    for (i, task) in tasks.iter().enumerate() {
        let (rationale, finish) = &rationales[i][0];
        let answer = prompter.answer(&task.answer)?;
        let tree = Tree::new(&prompts[i], [Branch { rationale, stop: None, answer: &answer }]);
        let scores = score(policy.model, policy.lora, &tree, policy.interrupt)?;
        let log_p = &scores.log_p[tree.branches[0].answer.clone()];
        results.push(QuestionResult {
            correct: is_correct(&given[i][0], &task.answer),
            given: given[i][0].trim().to_owned(),
            wanted: task.answer.clone(),
            log_p_answer: log_p.iter().map(|l| f64::from(*l)).sum(),
            answer_tokens: answer.len(),
            rationale_tokens: rationale.len(),
            finished: *finish != Finish::Truncated,
            majority_correct: (settings.votes > 0 && settings.think)
                .then(|| votes[i].as_ref().is_some_and(|v| is_correct(v, &task.answer))),
        });
        progress(1);
    }
    Ok(results)
}

/// A rationale's tokens, cut, and how it ended.
type Rationale = (Vec<u32>, Finish);

/// `branches` rationales for each prompt.
fn think<E: Engine>(
    policy: Policy<'_, E>,
    prompter: &Prompter,
    prompts: &[Vec<u32>],
    settings: EvalSettings,
    branches: usize,
    pick: Pick,
    progress: &mut impl FnMut(usize),
) -> Result<Vec<Vec<Rationale>>, LearnError> {
    let limits =
        Limits { branches, max_new_tokens: settings.max_new_tokens, batch: settings.batch, pick };
    let rng = |p: usize, b: usize| stream(settings.seed, u64::MAX - 2, p as u64, b as u64);
    let generated = generate(policy, prompts, limits, rng, |_| prompter.watch(), progress)?;
    let cut = |ids: &Vec<u32>| {
        let cut = prompter.cut(ids);
        (ids[..cut.len].to_vec(), cut.finish)
    };
    Ok(generated.iter().map(|branches| branches.iter().map(cut).collect()).collect())
}

/// What the policy answers after each rationale and the answer phrase, greedily.
fn answers<E: Engine>(
    policy: Policy<'_, E>,
    prompter: &Prompter,
    prompts: &[Vec<u32>],
    rationales: &[Vec<Rationale>],
    settings: EvalSettings,
    progress: &mut impl FnMut(usize),
) -> Result<Vec<Vec<String>>, LearnError> {
    let lead = prompter.answer_lead()?;
    let asked: Vec<Vec<u32>> = prompts
        .iter()
        .zip(rationales)
        .flat_map(|(prompt, rationales)| {
            rationales.iter().map(|(z, _)| [prompt, z.as_slice(), &lead].concat())
        })
        .collect();
    let limits = Limits {
        branches: 1,
        max_new_tokens: ANSWER_TOKENS,
        batch: settings.batch,
        pick: Pick::Greedy,
    };
    let rng = |_, _| stream(0, 0, 0, 0);
    let stop = |_| AtTurnEnd(prompter.stop_ids());
    let generated = generate(policy, &asked, limits, rng, stop, progress)?;
    let mut said = generated.iter().map(|branches| prompter.read_answer(&branches[0]));
    Ok(rationales.iter().map(|r| said.by_ref().take(r.len()).collect()).collect())
}

/// The numbers of an evaluation that started at `start`, at training step `step`.
#[must_use]
pub fn summarize(
    results: &[QuestionResult],
    settings: EvalSettings,
    step: u64,
    elapsed_s: f64,
    start: Instant,
) -> EvalMetrics {
    let n = results.len().max(1) as f64;
    let mean = |f: &dyn Fn(&QuestionResult) -> f64| results.iter().map(f).sum::<f64>() / n;
    let correct = results.iter().filter(|r| r.correct).count();
    let tokens: usize = results.iter().map(|r| r.answer_tokens).sum();
    let vote = settings.votes > 0 && settings.think;
    EvalMetrics {
        step,
        elapsed_s,
        questions: results.len(),
        correct,
        accuracy: correct as f64 / n,
        majority_k: vote.then_some(settings.votes),
        majority_accuracy: vote
            .then(|| mean(&|r| f64::from(u8::from(r.majority_correct == Some(true))))),
        log_p_answer: mean(&|r| r.log_p_answer),
        log_p_answer_per_token: results.iter().map(|r| r.log_p_answer).sum::<f64>()
            / tokens.max(1) as f64,
        rationale_tokens: mean(&|r| r.rationale_tokens as f64),
        finished_share: mean(&|r| f64::from(u8::from(r.finished))),
        eval_s: start.elapsed().as_secs_f64(),
    }
}
