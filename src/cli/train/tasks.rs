//! The tasks of a run: read, divided into those to learn from and those to measure on, and chosen by what
//! the model can be asked.

use std::collections::HashSet;

use super::{Args, stopped};
use crate::cli::CliError;
use crate::cli::shared::common::{usage, warn};
use crate::data::{Task, TaskLimits, read_tasks, split};
use crate::engine::interrupt::Interrupt;
use crate::latro::prompt::Prompter;
use crate::latro::settings::{Method, TrainSettings};
use crate::session::{Questions, QuestionsError, with_rationales, write_rejected};

/// Fewer held-out questions show nothing: with 30, only a gain of 20 points or more is more than chance.
const FEW_QUESTIONS: usize = 30;

/// Reads the tasks to learn from and those to measure on.
pub fn read(args: &Args) -> Result<(Vec<Task>, Vec<Task>), CliError> {
    let (train, held_out) = divided(args)?;
    if args.eval_questions > 0 && held_out.len() < FEW_QUESTIONS {
        let n = held_out.len();
        warn(format_args!(
            "{n} questions are held out, too few to tell a gain from chance; name more with \
             --eval-tasks"
        ));
    }
    Ok((train, held_out))
}

fn divided(args: &Args) -> Result<(Vec<Task>, Vec<Task>), CliError> {
    if !(0.0..1.0).contains(&args.held_out) {
        return Err(usage("--held-out must be at least 0 and below 1"));
    }
    let set = read_tasks(&args.tasks, &TaskLimits::default()).map_err(usage)?;
    if set.rejected_count > 0 {
        let aside = write_rejected(&set, &args.adapter)?;
        let place = aside.map(|p| format!(", set aside in {}", p.display())).unwrap_or_default();
        let (bad, good) = (set.rejected_count, set.tasks.len());
        warn(format_args!("{bad} lines of the tasks cannot be used{place}; {good} can"));
    }
    match &args.eval_tasks {
        Some(path) => {
            let held_out = read_tasks(path, &TaskLimits::default()).map_err(usage)?;
            if held_out.rejected_count > 0 {
                let (bad, shown) = (held_out.rejected_count, path.display());
                warn(format_args!("{bad} lines of {shown} cannot be used"));
            }
            let asked: HashSet<&str> = held_out.tasks.iter().map(|t| t.question.as_str()).collect();
            let all = set.tasks.len();
            let mut train = set.tasks;
            train.retain(|t| !asked.contains(t.question.as_str()));
            if train.len() < all {
                let both = all - train.len();
                warn(format_args!("{both} tasks are among --eval-tasks too; not learned from"));
            }
            if train.is_empty() {
                return Err(usage("every task is among --eval-tasks; none is left to learn from"));
            }
            Ok((train, held_out.tasks))
        }
        None => {
            let (train, held_out) = split(&set.tasks, args.held_out);
            if train.is_empty() {
                return Err(usage("no task is left to learn from; lower --held-out"));
            }
            Ok((train, held_out))
        }
    }
}

/// What a model can be asked.
pub struct Asked {
    pub tasks: Vec<Task>,
    pub held_out: Vec<Task>,
    /// Tokens of the longest prompt and of the longest answer.
    pub longest: (usize, usize),
}

/// What decides whether a task can be put to the model.
#[derive(Clone, Copy)]
pub struct Fitted<'a> {
    pub prompter: &'a Prompter,
    pub settings: &'a TrainSettings,
    /// The model's context, tokens.
    pub context: usize,
    pub interrupt: &'a Interrupt,
}

impl Fitted<'_> {
    /// The tasks that can be put to the model, and of the first `most` held-out ones those that can.
    ///
    /// # Errors
    /// If none is left.
    pub fn asked(
        self,
        tasks: Vec<Task>,
        mut held_out: Vec<Task>,
        most: usize,
    ) -> Result<Asked, CliError> {
        let tasks = match self.settings.method {
            Method::SftRationale => self.worked(tasks)?,
            _ => tasks,
        };
        let questions = self.that_fit(tasks)?;
        let (mut prompt, mut answer) = (questions.longest_prompt, questions.longest_answer);
        let tasks = questions.tasks;
        held_out.truncate(most);
        if !held_out.is_empty() {
            let questions = self.that_fit(held_out)?;
            prompt = prompt.max(questions.longest_prompt);
            answer = answer.max(questions.longest_answer);
            held_out = questions.tasks;
        }
        Ok(Asked { tasks, held_out, longest: (prompt, answer) })
    }

    /// The tasks whose rationales can be learned from.
    fn worked(self, tasks: Vec<Task>) -> Result<Vec<Task>, CliError> {
        let most = self.settings.max_new_tokens;
        let (tasks, without) = with_rationales(self.prompter, tasks, most).map_err(usage)?;
        if tasks.is_empty() {
            return Err(usage(format!(
                "no task has a rationale of at most {most} tokens (--max-new-tokens): --method \
                 sft_rationale learns from answers written as in GSM8K, with \"#### 18\" at their end"
            )));
        }
        if without > 0 {
            warn(format_args!(
                "{without} tasks left out: without a rationale, or with one of more than {most} \
                 tokens"
            ));
        }
        Ok(tasks)
    }

    fn that_fit(self, tasks: Vec<Task>) -> Result<Questions, CliError> {
        let Self { prompter, settings, context, interrupt } = self;
        let fitting =
            Questions::choose(prompter, tasks, settings.max_new_tokens, context, interrupt);
        let fitting = fitting.map_err(|error| match error {
            QuestionsError::Interrupted(_) => stopped(),
            error => error.into(),
        })?;
        if let Some(sentence) = fitting.left_out_sentence() {
            warn(sentence);
        }
        Ok(fitting)
    }
}
