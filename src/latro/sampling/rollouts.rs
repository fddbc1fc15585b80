//! Rollouts for a step's tasks: rationales are sampled, cut where they end, and the answers behind them
//! put in place and scored.

use rand_chacha::ChaCha8Rng;

use crate::answer::Wanted;
use crate::data::Task;
use crate::engine::Engine;
use crate::latro::learner::{LearnError, Learner};
use crate::latro::prompt::{Finish, Guess, PromptError, Splice, StopWatch, Watch};
use crate::latro::rollout::{RolloutGroup, Spliced};
use crate::latro::sampling::branch::{Continuation, Generated, Stop};
use crate::latro::sampling::generate::{Limits, Policy, generate_scored};
use crate::latro::sampling::repetition::{Repetition, UnlessRepeating};
use crate::latro::sampling::sampler::{Pick, stream};
use crate::latro::settings::{Method, Seam, WarmStart};

/// Watches a branch of the policy's own seam, and has its answer scored in its place.
struct Scored<'p> {
    watch: Watch<'p>,
    /// What a guess is scored with, by one branch of each prompt.
    guess: Option<Continuation>,
}

impl Stop for Scored<'_> {
    fn push(&mut self, token: u32) -> bool {
        self.watch.push(token)
    }

    fn continuations(&self, tokens: &[u32]) -> Vec<Continuation> {
        let spliced = self.watch.splice(tokens).filter(|splice| !splice.answer.is_empty());
        let own = spliced.map(|splice| Continuation::scored(splice.rationale, splice.answer));
        own.into_iter().chain(self.guess.clone()).collect()
    }
}

impl Stop for StopWatch<'_> {
    fn push(&mut self, token: u32) -> bool {
        Self::push(self, token).is_some()
    }
}

/// Room for the tokens that are scored behind a branch: those of the answer with its phrase, and the
/// beginnings and ends of words that may come with it.
#[must_use]
pub const fn longest_continuation(answer_tokens: usize) -> usize {
    const AROUND: usize = 16;
    answer_tokens + AROUND
}

/// A task's rollouts, and how many tokens were sampled for them.
type Counted = (RolloutGroup, u64);

impl<E: Engine> Learner<'_, E> {
    /// The next step's rollouts for `tasks`, after those for the step's first `before`; `progress` is
    /// told the tokens of each decoding step.
    ///
    /// # Errors
    /// As [`Learner::sample`].
    pub(in crate::latro) fn rollouts(
        &self,
        tasks: &[&Task],
        before: usize,
        progress: impl FnMut(usize),
    ) -> Result<Vec<Counted>, LearnError> {
        match (self.settings.method, self.settings.seam) {
            (Method::Sft, _) => tasks.iter().map(|task| self.direct(task)).collect(),
            (Method::SftRationale, _) => tasks.iter().map(|task| self.worked(task)).collect(),
            (Method::Latro | Method::Auto, _) if self.warms_up() => {
                self.warm_start(tasks, before, progress)
            }
            (Method::Latro | Method::Auto, Seam::Phrase) => self.by_phrase(tasks, before, progress),
            (Method::Latro | Method::Auto, Seam::Policy) => self.by_policy(tasks, before, progress),
        }
    }

    /// The answer alone, for supervised training.
    fn direct(&self, task: &Task) -> Result<Counted, LearnError> {
        let Guess { lead, answer, span } = self.prompter.guess(&task.answer)?;
        let group = RolloutGroup {
            prompt: self.prompter.prompt(&task.question)?,
            answer_span: Some(lead.len() + span.start..lead.len() + span.end),
            answer: [lead, answer, vec![self.prompter.turn_end()]].concat(),
            rationales: vec![Vec::new()],
            ..RolloutGroup::default()
        };
        Ok((group, 0))
    }

    /// The worked rationale and the answer behind it, for supervised training.
    fn worked(&self, task: &Task) -> Result<Counted, LearnError> {
        let rationale = task.rationale.as_deref().unwrap_or_default();
        let group = RolloutGroup {
            prompt: self.prompter.prompt(&task.question)?,
            answer: self.prompter.answer(&task.answer)?,
            answer_span: Some(self.prompter.answer_span(&task.answer)?),
            rationales: vec![self.prompter.rationale(rationale)?],
            worked: true,
            ..RolloutGroup::default()
        };
        Ok((group, 0))
    }

    /// Worked rationales where tasks come with some that are no longer than the model's may be, and
    /// sampled ones of the others.
    fn warm_start(
        &self,
        tasks: &[&Task],
        before: usize,
        progress: impl FnMut(usize),
    ) -> Result<Vec<Counted>, LearnError> {
        let mut groups = Vec::with_capacity(tasks.len());
        let mut without = Vec::new();
        for (place, task) in tasks.iter().enumerate() {
            let most = self.settings.max_new_tokens;
            let worked = match (self.settings.warm_start, &task.rationale) {
                (WarmStart::Worked, Some(_)) => Some(self.worked(task)?),
                _ => None,
            };
            match worked.filter(|(group, _)| group.rationale_tokens() <= most) {
                Some(group) => groups.push((place, group)),
                None => without.push(place),
            }
        }
        if !without.is_empty() {
            let asked: Vec<&Task> = without.iter().map(|place| tasks[*place]).collect();
            let sampled = self.by_policy(&asked, before, progress)?;
            groups.extend(without.into_iter().zip(sampled));
            groups.sort_by_key(|(place, _)| *place);
        }
        Ok(groups.into_iter().map(|(_, group)| group).collect())
    }

    /// Rationales that our own words follow; and how many tokens were sampled for each task.
    fn by_phrase(
        &self,
        tasks: &[&Task],
        before: usize,
        progress: impl FnMut(usize),
    ) -> Result<Vec<Counted>, LearnError> {
        let prompter = self.prompter;
        let prompts = self.prompts(tasks)?;
        let stop = |_, _| prompter.watch();
        let generated = self.generate((&prompts, before), stop, 0, progress)?;
        let mut groups = Vec::with_capacity(tasks.len());
        for ((task, prompt), branches) in tasks.iter().zip(prompts).zip(generated) {
            let cuts: Vec<_> = branches.iter().map(|b| prompter.cut(&b.tokens)).collect();
            let cut = || branches.iter().map(|b| &b.tokens).zip(&cuts);
            let stops = cut().map(|(b, cut)| b.get(cut.len).copied());
            let group = RolloutGroup {
                prompt,
                answer: prompter.answer(&task.answer)?,
                answer_span: Some(prompter.answer_span(&task.answer)?),
                rationales: cut().map(|(b, cut)| b[..cut.len].to_vec()).collect(),
                truncated: cuts.iter().map(|c| c.finish == Finish::Truncated).collect(),
                stops: if self.settings.stop_counts { stops.collect() } else { Vec::new() },
                ..RolloutGroup::default()
            };
            groups.push((group, tokens(&branches)));
        }
        Ok(groups)
    }

    /// Rationales that announce the answer in the model's own way; and how many tokens were sampled
    /// for each task.
    fn by_policy(
        &self,
        tasks: &[&Task],
        before: usize,
        progress: impl FnMut(usize),
    ) -> Result<Vec<Counted>, LearnError> {
        let (prompter, marks) = (self.prompter, &self.settings.answer_marks);
        let prompts = self.prompts(tasks)?;
        let wanted: Vec<Wanted> =
            tasks.iter().map(|task| task.wanted(self.settings.answer_kind)).collect();
        let guesses = tasks.iter().map(|task| prompter.guess(&task.answer));
        let guesses = guesses.collect::<Result<Vec<_>, _>>()?;
        let guessing = self.settings.guess_weight > 0.0;
        let stop = |prompt: usize, branch: usize| {
            let Guess { lead, answer, .. } = &guesses[prompt];
            let guess = Continuation::scored(0, [lead.as_slice(), answer].concat());
            let guess = (guessing && branch == 0).then_some(guess);
            let watch = prompter.watch_for(&tasks[prompt].answer, &wanted[prompt], marks);
            Scored { watch, guess }
        };
        let answers = tasks.iter().map(|task| Ok(prompter.answer(&task.answer)?.len()));
        let longest = answers.collect::<Result<Vec<_>, PromptError>>()?.into_iter().max();
        let room = longest_continuation(longest.unwrap_or(0));
        let generated = self.generate((&prompts, before), stop, room, progress)?;
        let mut groups = Vec::with_capacity(tasks.len());
        for (i, (prompt, branches)) in prompts.into_iter().zip(generated).enumerate() {
            let Guess { lead, answer, span } = guesses[i].clone();
            let group = RolloutGroup {
                prompt,
                answer,
                answer_span: Some(span),
                guess: if guessing { lead } else { Vec::new() },
                ..RolloutGroup::default()
            };
            let group = self.spliced(group, &tasks[i].answer, &wanted[i], &branches)?;
            groups.push((group, tokens(&branches)));
        }
        Ok(groups)
    }

    /// A group with its branches, cut, spliced and scored.
    fn spliced(
        &self,
        mut group: RolloutGroup,
        answer: &str,
        wanted: &Wanted,
        branches: &[Generated],
    ) -> Result<RolloutGroup, LearnError> {
        let mut known = true;
        for (number, Generated { tokens, scores, .. }) in branches.iter().enumerate() {
            let splice =
                self.prompter.splice(tokens, answer, wanted, &self.settings.answer_marks)?;
            let mut scores = scores.iter();
            let own = if splice.answer.is_empty() { Some(&Vec::new()) } else { scores.next() };
            known &= own.is_some();
            group.scores.push(own.cloned().unwrap_or_default());
            if number == 0 && !group.guess.is_empty() {
                let behind = scores.next().and_then(|log_p| log_p.get(group.guess.len()..));
                known &= behind.is_some();
                group.guess_scores = behind.unwrap_or_default().to_vec();
            }
            let ended = splice.finish == Finish::EndOfTurn && self.settings.stop_counts;
            group.stops.push(tokens.get(splice.rationale).copied().filter(|_| ended));
            group.truncated.push(splice.finish == Finish::Truncated);
            group.rationales.push(tokens[..splice.rationale].to_vec());
            let Splice { answer: ids, span, right, .. } = splice;
            group.answers.push(Spliced { ids, span, right });
        }
        if !known {
            // One was longer than there was room for: the forward pass will tell.
            group.scores.clear();
        }
        Ok(group)
    }

    fn prompts(&self, tasks: &[&Task]) -> Result<Vec<Vec<u32>>, LearnError> {
        let prompts = tasks.iter().map(|task| self.prompter.prompt(&task.question));
        Ok(prompts.collect::<Result<_, _>>()?)
    }

    /// Branches from each prompt; there are `before` others of the step.
    fn generate<S: Stop>(
        &self,
        (prompts, before): (&[Vec<u32>], usize),
        stop: impl Fn(usize, usize) -> S,
        continuation: usize,
        progress: impl FnMut(usize),
    ) -> Result<Vec<Vec<Generated>>, LearnError> {
        let (step, trips) = (self.state.progress.step + 1, self.state.progress.trips);
        let adapter = self.adapter()?;
        let policy = Policy { model: self.model, lora: Some(&adapter), interrupt: self.interrupt };
        let limits = Limits {
            branches: self.settings.num_generations,
            max_new_tokens: self.length_limit(),
            batch: self.batch,
            continuation,
            pick: Pick::Sample { temperature: self.settings.temperature },
        };
        let stop = |prompt: usize, branch: usize| UnlessRepeating {
            stop: stop(prompt, branch),
            repetition: self.settings.stop_repeating.then(Repetition::default),
        };
        let seed = self.settings.seed;
        let rng = |task: usize, branch: usize| -> ChaCha8Rng {
            stream(seed, step | trips << 48, (before + task) as u64, branch as u64)
        };
        Ok(generate_scored(policy, prompts, limits, rng, stop, progress)?)
    }
}

/// Tokens of all branches.
fn tokens(branches: &[Generated]) -> u64 {
    branches.iter().map(|branch| branch.tokens.len() as u64).sum()
}
