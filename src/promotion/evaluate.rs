//! Measures a policy on held-out tasks: greedy accuracy, the likelihood of the right answers, and the
//! accuracy of a majority vote.
//!
//! The policy writes to the end of its turn, and its answer is read from what it wrote: that is what
//! whoever serves it will see. As a second figure the answer can be asked for: what was written, up
//! to "the answer is", then that phrase, and what the policy says after it. The likelihood is that
//! of the right answer in the same place: of the answer's own tokens, given the phrase, since how likely
//! the phrase is after a response that has ended says nothing of what was understood.

use std::time::Instant;

use crate::answer::{AnswerKind, Found, Wanted};
use crate::data::Task;
use crate::engine::Engine;
use crate::latro::learner::LearnError;
use crate::latro::metrics::EvalMetrics;
use crate::latro::prompt::{Finish, Guess, PromptError, Prompter};
use crate::latro::sampling::branch::{Continuation, Generated, Stop};
use crate::latro::sampling::generate::{Limits, Policy, generate, generate_scored};
use crate::latro::sampling::rollouts::longest_continuation;
use crate::latro::sampling::sampler::{Pick, stream};
use crate::latro::settings::TrainSettings;
use crate::promotion::thinking::Thinking;

/// How to evaluate.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EvalSettings {
    /// Whether what the model wrote stands before the answer that is asked for and whose likelihood
    /// is measured; for a model that answers at once it doesn't.
    pub think: bool,
    /// Whether the answer is asked for as well.
    pub forced: bool,
    /// What kind of text answers are.
    pub answer_kind: AnswerKind,
    /// The most that is written, tokens.
    pub max_new_tokens: usize,
    /// Branches that are computed together.
    pub batch: usize,
    /// Sampled responses in the majority vote; 0 for none.
    pub votes: usize,
    /// Temperature of the votes.
    pub temperature: f32,
    /// Seed of the votes.
    pub seed: u64,
}

impl EvalSettings {
    /// For what a run with these settings has learned, or what it begins with.
    #[must_use]
    pub fn of_run(settings: &TrainSettings, batch: usize) -> Self {
        Self {
            think: settings.method.thinks(),
            forced: false,
            answer_kind: settings.answer_kind,
            max_new_tokens: settings.max_new_tokens,
            batch,
            votes: 0,
            temperature: 1.0,
            seed: settings.seed,
        }
    }
}

/// The result of one question.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct QuestionResult {
    /// Whether the answer that the policy wrote is right.
    pub correct: bool,
    /// What was read as its answer; `None` if there is none.
    pub given: Option<String>,
    /// The right answer.
    pub wanted: String,
    /// All that the policy wrote.
    pub response: String,
    pub response_tokens: usize,
    /// Whether it ended by itself.
    pub finished: bool,
    /// The answer when asked for it, if it was.
    #[serde(flatten)]
    pub forced: Option<Forced>,
    /// log p of the right answer after the greedy rationale and "The answer is", nats.
    pub log_p_answer: f64,
    /// log p of the right answer after "The answer is" alone, nats.
    pub log_p_direct: f64,
    /// Tokens of the right answer.
    pub answer_tokens: usize,
    /// Tokens before the answer's likelihood is measured.
    pub rationale_tokens: usize,
    /// Whether the majority of sampled answers is right, if a vote was held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub majority_correct: Option<bool>,
}

/// What a policy says after "The answer is".
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Forced {
    #[serde(rename = "forced_correct")]
    pub correct: bool,
    #[serde(rename = "forced_given")]
    pub given: String,
}

impl QuestionResult {
    /// log p of the right answer per token, nats.
    #[must_use]
    pub fn log_p_answer_per_token(&self) -> f64 {
        self.log_p_answer / self.answer_tokens as f64
    }
}

/// Tokens that an answer asked for may take: twice those of the right one, which may be put in other
/// words, and room for a beginning such as "approximately".
///
/// # Errors
/// If the answer cannot be encoded.
pub fn answer_room(prompter: &Prompter, answer: &str) -> Result<usize, PromptError> {
    const BEGINNING: usize = 12;
    Ok(BEGINNING + 2 * prompter.answer_span(answer)?.len())
}

/// Ends a response at the end of the turn.
struct AtTurnEnd<'p> {
    ends: Vec<u32>,
    /// What is done with it then.
    examined: Option<Examined<'p>>,
}

/// "The answer is", and the most tokens that may follow.
type Asked = (Vec<u32>, usize);

/// What is asked behind a response.
struct Examined<'p> {
    prompter: &'p Prompter,
    /// The right answer with its phrase, scored behind the response.
    answer: Vec<u32>,
    /// The phrase alone and room for an answer, if that is asked for.
    forced: Option<Asked>,
    /// Whether it is asked for behind the response, or without one.
    think: bool,
    /// The right answer with its phrase, scored without a response.
    direct: Vec<u32>,
}

impl AtTurnEnd<'_> {
    /// Of a response that is not scored.
    fn of(prompter: &Prompter) -> Self {
        Self { ends: prompter.stop_ids(), examined: None }
    }
}

impl Stop for AtTurnEnd<'_> {
    fn push(&mut self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    fn continuations(&self, tokens: &[u32]) -> Vec<Continuation> {
        let Some(Examined { prompter, answer, forced, think, direct }) = &self.examined else {
            return Vec::new();
        };
        let keep = prompter.cut(tokens).len;
        let asked = forced.iter().map(|(ids, room)| {
            let keep = if *think { keep } else { 0 };
            Continuation { keep, ids: ids.clone(), room: *room }
        });
        let direct = Continuation::scored(0, direct.clone());
        [Continuation::scored(keep, answer.clone())]
            .into_iter()
            .chain(asked)
            .chain([direct])
            .collect()
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
    progress: impl FnMut(usize),
) -> Result<Vec<QuestionResult>, LearnError> {
    let prompts =
        tasks.iter().map(|t| prompter.prompt(&t.question)).collect::<Result<Vec<_>, _>>()?;
    let wanted: Vec<Wanted> = tasks.iter().map(|task| task.wanted(settings.answer_kind)).collect();
    let mut examiner = Examiner { policy, prompter, tasks, prompts, wanted, settings, progress };
    let written = examiner.respond()?;
    let majority = match settings.votes {
        0 => vec![None; tasks.len()],
        votes => examiner.vote(votes)?,
    };
    let mut results = Vec::with_capacity(tasks.len());
    for (i, majority_correct) in majority.into_iter().enumerate() {
        results.push(QuestionResult { majority_correct, ..examiner.read(i, &written[i])? });
    }
    Ok(results)
}

/// An evaluation in progress.
struct Examiner<'a, E: Engine, P> {
    policy: Policy<'a, E>,
    prompter: &'a Prompter,
    tasks: &'a [Task],
    prompts: Vec<Vec<u32>>,
    wanted: Vec<Wanted>,
    settings: EvalSettings,
    progress: P,
}

impl<E: Engine, P: FnMut(usize)> Examiner<'_, E, P> {
    /// The response to each question, with the scores of the right answer's tokens and its phrase.
    fn respond(&mut self) -> Result<Vec<Generated>, LearnError> {
        let EvalSettings { max_new_tokens, batch, think, .. } = self.settings;
        let prompter = self.prompter;
        let answers = self.tasks.iter().map(|task| prompter.answer(&task.answer));
        let answers = answers.collect::<Result<Vec<_>, _>>()?;
        let longest = answers.iter().map(Vec::len).max().unwrap_or(0);
        let forced = self.forced()?;
        let asked = forced.iter().flatten().map(|(lead, room)| lead.len() + room).max();
        let limits = Limits {
            branches: 1,
            max_new_tokens,
            batch,
            continuation: longest_continuation(longest).max(asked.unwrap_or(0)),
            pick: Pick::Greedy,
        };
        let rng = |_, _| stream(0, 0, 0, 0);
        let guesses = self.tasks.iter().map(|task| prompter.guess(&task.answer));
        let guesses = guesses.collect::<Result<Vec<_>, _>>()?;
        let stop = |question: usize, _| {
            let Guess { lead, answer, .. } = &guesses[question];
            let direct = [lead.as_slice(), answer].concat();
            let (answer, forced) = (answers[question].clone(), forced[question].clone());
            let examined = Examined { prompter, answer, forced, think, direct };
            AtTurnEnd { ends: prompter.stop_ids(), examined: Some(examined) }
        };
        let progress = &mut self.progress;
        let all = generate_scored(self.policy, &self.prompts, limits, rng, stop, progress)?;
        Ok(all.into_iter().flatten().collect())
    }

    /// The tokens of a response before the answer's place.
    fn rationale<'r>(&self, response: &'r [u32]) -> &'r [u32] {
        match self.settings.think {
            true => &response[..self.prompter.cut(response).len],
            false => &[],
        }
    }

    /// How each answer is asked for, if it is: "The answer is", and room for what follows.
    fn forced(&self) -> Result<Vec<Option<Asked>>, LearnError> {
        let asked = |task: &Task| {
            let room = answer_room(self.prompter, &task.answer)?;
            Ok(self.settings.forced.then_some((self.prompter.answer_lead()?, room)))
        };
        self.tasks.iter().map(asked).collect()
    }

    /// Whether the majority of `votes` sampled responses is right, for each question.
    fn vote(&mut self, votes: usize) -> Result<Vec<Option<bool>>, LearnError> {
        let EvalSettings { max_new_tokens, batch, seed, temperature, .. } = self.settings;
        let pick = Pick::Sample { temperature };
        let limits = Limits { branches: votes, max_new_tokens, batch, continuation: 0, pick };
        let rng = |p: usize, b: usize| stream(seed, u64::MAX - 2, p as u64, b as u64);
        let prompter = self.prompter;
        let stop = |_| AtTurnEnd::of(prompter);
        let sampled = generate(self.policy, &self.prompts, limits, rng, stop, &mut self.progress)?;
        let right = |(wanted, responses): (&Wanted, Vec<Vec<u32>>)| {
            let texts = responses.iter().map(|ids| self.prompter.response(ids));
            let said = texts.filter_map(|text| {
                let found = wanted.find(&text)?;
                Some(text[found.said].to_owned())
            });
            Some(majority(wanted, said).is_some_and(|said| wanted.is_given_by(&said)))
        };
        Ok(self.wanted.iter().zip(sampled).map(right).collect())
    }

    /// Reads a response.
    fn read(&self, question: usize, written: &Generated) -> Result<QuestionResult, LearnError> {
        let Generated { tokens: ids, scores, replies } = written;
        let (task, wanted) = (&self.tasks[question], &self.wanted[question]);
        let response = self.prompter.response(ids);
        let said = wanted.find(&response).map(|Found { said, .. }| response[said].to_owned());
        let rationale = self.rationale(ids);
        let total = |log_p: &[f32]| log_p.iter().map(|l| f64::from(*l)).sum::<f64>();
        let own = self.prompter.answer_span(&task.answer)?;
        let Guess { lead, span, .. } = self.prompter.guess(&task.answer)?;
        let direct = &scores[scores.len() - 1][lead.len()..][span];
        let log_p = if self.settings.think { &scores[0][own] } else { direct };
        Ok(QuestionResult {
            correct: said.as_ref().is_some_and(|said| wanted.is_given_by(said)),
            given: said.map(|said| said.trim().to_owned()),
            wanted: task.answer.clone(),
            response_tokens: ids.len(),
            finished: self.prompter.cut(ids).finish != Finish::Truncated,
            response,
            forced: replies.first().map(|said| {
                let given = self.prompter.response(said);
                Forced { correct: wanted.is_given_by(&given), given: given.trim().to_owned() }
            }),
            log_p_answer: total(log_p),
            log_p_direct: total(direct),
            answer_tokens: log_p.len().max(1),
            rationale_tokens: rationale.len(),
            majority_correct: None,
        })
    }
}

/// The answer that most of the texts give; the first one where several are equally frequent. Texts
/// without an answer don't vote; `None` if none does.
fn majority(wanted: &Wanted, said: impl Iterator<Item = String>) -> Option<String> {
    let mut votes: Vec<(String, String, usize)> = Vec::new();
    for said in said {
        let Some(key) = wanted.key(&said) else { continue };
        match votes.iter_mut().find(|(known, ..)| *known == key) {
            Some((.., count)) => *count += 1,
            None => votes.push((key, said, 1)),
        }
    }
    let most = votes.iter().map(|(.., count)| *count).max()?;
    votes.into_iter().find(|(.., count)| *count == most).map(|(_, said, _)| said)
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
    let share = |f: &dyn Fn(&QuestionResult) -> bool| mean(&|r| f64::from(u8::from(f(r))));
    let correct = results.iter().filter(|r| r.correct).count();
    let tokens: usize = results.iter().map(|r| r.answer_tokens).sum();
    let (vote, thought) = (settings.votes > 0, Thinking::of(results));
    EvalMetrics {
        step,
        elapsed_s,
        questions: results.len(),
        correct,
        accuracy: correct as f64 / n,
        forced_accuracy: settings
            .forced
            .then(|| share(&|r| r.forced.as_ref().is_some_and(|forced| forced.correct))),
        majority_k: vote.then_some(settings.votes),
        majority_accuracy: vote.then(|| share(&|r| r.majority_correct == Some(true))),
        log_p_answer: mean(&|r| r.log_p_answer),
        log_p_answer_per_token: results.iter().map(|r| r.log_p_answer).sum::<f64>()
            / tokens.max(1) as f64,
        response_tokens: mean(&|r| r.response_tokens as f64),
        finished_share: share(&|r| r.finished),
        readable_share: share(&|r| r.given.is_some()),
        delta_log_p: settings.think.then_some(thought.delta_log_p),
        delta_p: settings.think.then_some(thought.delta_p()),
        eval_s: start.elapsed().as_secs_f64(),
    }
}
