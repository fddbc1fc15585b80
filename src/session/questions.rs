//! Which tasks can be put to a model: those that fit its context and that its chat template takes.

use crate::data::Task;
use crate::engine::ModelError;
use crate::engine::interrupt::Interrupt;
use crate::latro::prompt::{PromptError, Prompter};
use crate::latro::sampling::rollouts::longest_continuation;
use crate::promotion::evaluate::answer_room;

/// Why no task can be asked.
#[derive(Debug, thiserror::Error)]
pub enum QuestionsError {
    #[error("no question can be asked: {0}")]
    NoneLeft(String),
    #[error(transparent)]
    Interrupted(#[from] ModelError),
}

/// The tasks to ask, and what became of the others.
#[derive(Debug)]
pub struct Questions {
    pub tasks: Vec<Task>,
    /// Tokens of the longest prompt among them.
    pub longest_prompt: usize,
    /// Tokens of the longest answer among them, its phrase included.
    pub longest_answer: usize,
    /// The model's context, tokens.
    context: usize,
    too_long: usize,
    refused: usize,
    /// Why the first of the refused was.
    first_refusal: Option<PromptError>,
}

impl Questions {
    /// Chooses the tasks whose prompt, `new_tokens` of a response, and answer fit into a context of
    /// `context` tokens.
    ///
    /// # Errors
    /// If no task is left, with the reason; if it is interrupted.
    pub fn choose(
        prompter: &Prompter,
        tasks: Vec<Task>,
        new_tokens: usize,
        context: usize,
        interrupt: &Interrupt,
    ) -> Result<Self, QuestionsError> {
        let mut chosen = Self {
            tasks: Vec::with_capacity(tasks.len()),
            longest_prompt: 0,
            longest_answer: 0,
            context,
            too_long: 0,
            refused: 0,
            first_refusal: None,
        };
        for task in tasks {
            interrupt.check()?;
            match lengths(prompter, &task, new_tokens) {
                Ok(Lengths { prompt, answer, whole }) if whole <= context => {
                    chosen.longest_prompt = chosen.longest_prompt.max(prompt);
                    chosen.longest_answer = chosen.longest_answer.max(answer);
                    chosen.tasks.push(task);
                }
                Ok(_) => chosen.too_long += 1,
                Err(error) => {
                    chosen.refused += 1;
                    chosen.first_refusal.get_or_insert(error);
                }
            }
        }
        match chosen.left_out_sentence() {
            Some(sentence) if chosen.tasks.is_empty() => Err(QuestionsError::NoneLeft(sentence)),
            _ => Ok(chosen),
        }
    }

    /// How many tasks were left out.
    #[must_use]
    pub const fn left_out(&self) -> usize {
        self.too_long + self.refused
    }

    /// What was left out and why; `None` if nothing was.
    #[must_use]
    pub fn left_out_sentence(&self) -> Option<String> {
        let context = self.context;
        let too_long = (self.too_long > 0).then(|| {
            let n = counted(self.too_long, "question");
            format!(
                "{n} left out because prompt, rationale and answer don't fit the model's context \
                 of {context} tokens (fewer new tokens make room)"
            )
        });
        let refused = self.first_refusal.as_ref().map(|first| {
            let n = counted(self.refused, "question");
            format!("{n} left out because no prompt can be made of it: {first}")
        });
        match (too_long, refused) {
            (Some(a), Some(b)) => Some(format!("{a}; {b}")),
            (a, b) => a.or(b),
        }
    }
}

/// The tasks that supervised training on rationales can learn from, and how many it cannot: those
/// without a rationale or with one of more than `most` tokens.
///
/// # Errors
/// If a rationale cannot be encoded.
pub fn with_rationales(
    prompter: &Prompter,
    tasks: Vec<Task>,
    most: usize,
) -> Result<(Vec<Task>, usize), PromptError> {
    let all = tasks.len();
    let mut kept = Vec::with_capacity(all);
    for task in tasks {
        if let Some(text) = &task.rationale
            && prompter.rationale(text)?.len() <= most
        {
            kept.push(task);
        }
    }
    let without = all - kept.len();
    Ok((kept, without))
}

/// Tokens of a task's parts.
struct Lengths {
    prompt: usize,
    answer: usize,
    /// Everything that training or evaluation puts into one context for it.
    whole: usize,
}

fn lengths(prompter: &Prompter, task: &Task, new_tokens: usize) -> Result<Lengths, PromptError> {
    let prompt = prompter.prompt(&task.question)?.len();
    let asked = prompter.answer_lead()?.len() + answer_room(prompter, &task.answer)?;
    let answer = prompter.answer(&task.answer)?.len();
    let scored = longest_continuation(answer);
    let whole = prompt.saturating_add(new_tokens).saturating_add(asked.max(scored));
    Ok(Lengths { prompt, answer, whole })
}

/// "1 question", "2 questions".
fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokenizer::fixture::tokenizer;
    use crate::text::{TextFormat, Wording};

    fn task(question: &str) -> Task {
        Task::new(question.into(), "7".into())
    }

    fn prompter() -> Prompter {
        let format = TextFormat { tokenizer: tokenizer(), template: None };
        Prompter::new(format, Wording::default()).unwrap()
    }

    fn choose(tasks: Vec<Task>, context: usize) -> Result<Questions, QuestionsError> {
        Questions::choose(&prompter(), tasks, 30, context, &Interrupt::new())
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_counted() {
        let (short, long) = (task("2 + 5"), task(&"2 + 5 ".repeat(200)));
        let lengths = lengths(&prompter(), &short, 30).unwrap();

        let chosen = choose(vec![short.clone(), long], lengths.whole).unwrap();

        assert_eq!(chosen.tasks, [short]);
        assert_eq!((chosen.longest_prompt, chosen.left_out()), (lengths.prompt, 1));
        assert_eq!(chosen.longest_answer, lengths.answer);
        let sentence = chosen.left_out_sentence().unwrap();
        assert!(sentence.starts_with("1 question left out because"), "{sentence}");
    }

    #[test]
    fn one_token_too_many_is_too_many() {
        let whole = lengths(&prompter(), &task("2 + 5"), 30).unwrap().whole;

        let error = choose(vec![task("2 + 5")], whole - 1).unwrap_err();

        assert!(error.to_string().starts_with("no question can be asked: 1 question left out"));
    }

    #[test]
    fn choosing_can_be_interrupted() {
        let interrupt = Interrupt::new();
        interrupt.set();

        let chosen = Questions::choose(&prompter(), vec![task("2 + 5")], 8, 512, &interrupt);

        assert!(matches!(chosen, Err(QuestionsError::Interrupted(ModelError::Interrupted))));
    }
}
