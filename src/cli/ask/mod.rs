//! `latrod ask`: one question, its rationale as it is sampled, and the answer.

mod stream;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use clap::builder::RangedU64ValueParser;
use serde_json::json;

use self::stream::{AnswerEnd, Stream, Watch};
use crate::cli::CliError;
use crate::cli::shared::choice::choice;
use crate::cli::shared::common::{
    failed, load_adapter, load_model, set_threads, training_of, usage, warn,
};
use crate::cli::shared::wording::WordingArgs;
use crate::engine::device::DeviceKind;
use crate::engine::interrupt::Interrupt;
use crate::engine::{Engine, ModelError, with_engine};
use crate::kernels::Compute;
use crate::latro::prompt::{Finish, Prompter};
use crate::latro::sampling::branch::Stop;
use crate::latro::sampling::generate::{Limits, Policy, generate};
use crate::latro::sampling::sampler::{Pick, stream};
use crate::memory::sampling::Sampling;
use crate::text::TextFormat;

/// Tokens for the answer. Evaluation allows fewer; a person may want a sentence.
const ANSWER_TOKENS: usize = 64;
/// The least temperature above 0: below, division by it would leave the range of f32.
const COLDEST: f32 = 0.01;

/// Ask a model one question: streams its rationale, then "The answer is …"
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The question is put to the model as in training and evaluation: one user message that asks to think
step by step. The rationale ends where the model ends its turn or begins to state the answer; then
the model finishes \"The answer is\".

An adapter of `latrod train --method sft` has learned to answer at once: ask with --no-rationale.

Examples:
  latrod ask --model smol.gguf 'What is 17 + 88 + 86?'
  latrod ask --model smol.gguf --adapter sums-adapter --temperature 1 --seed 7 'What is 17 + 88?'")]
pub struct Args {
    /// The question
    question: String,
    /// The GGUF model
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// A PEFT adapter folder
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Longest rationale, in tokens
    #[arg(long, default_value_t = 128, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    max_new_tokens: usize,
    /// 0: always the likeliest token; 1: tokens as likely as the model finds them; up to 100
    #[arg(long, default_value_t = 0.0, value_parser = temperature)]
    temperature: f32,
    /// Seed of the sampling, where the temperature is above 0
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Ask for the answer at once, without a rationale
    #[arg(long)]
    no_rationale: bool,
    #[command(flatten)]
    wording: WordingArgs,
    /// exact: f32; fast: activations rounded to 8 bits
    #[arg(long, value_parser = choice::<Compute>(), default_value = "fast")]
    compute: Compute,
    /// Where to compute; all but cpu only if the program was built with it (cross/CUDA.md)
    #[arg(long, value_parser = choice::<DeviceKind>(), default_value = "cpu")]
    device: DeviceKind,
    /// Threads to compute with; all cores if not given
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print one JSON object at the end instead of the text as it comes
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Unusable arguments or files, a question that does not fit the model's context (exit code 64); a
/// failing computation (1).
pub fn run(args: &Args) -> Result<(), CliError> {
    with_engine!(args.device, E => run_on::<E>(args))
}

fn run_on<E: Engine>(args: &Args) -> Result<(), CliError> {
    let question = args.question.trim();
    if question.is_empty() {
        return Err(usage("the question is empty; give it as one argument, in quotes"));
    }
    set_threads(args.threads)?;
    let (file, model) = load_model::<E>(&args.model, args.compute, args.device)?;
    let adapter = args.adapter.as_ref().map(|dir| load_adapter(dir, &file, &model)).transpose()?;
    let trained = training_of(args.adapter.as_deref())?;
    let wording = args.wording.over(trained.as_ref().map(|made| &made.prompt));
    let format = TextFormat::from_gguf(&file).map_err(usage)?;
    let prompter = Prompter::new(format, wording).map_err(usage)?;
    let prompt = prompter.prompt(question).map_err(usage)?;
    let interrupt = Interrupt::new();
    let lora = adapter.as_ref();
    let talk = Talk {
        args,
        prompter: &prompter,
        policy: Policy { model: &model, lora, interrupt: &interrupt },
        lead: prompter.answer_lead().map_err(usage)?,
    };
    talk.check_room(&prompt)?;
    match talk.answer(prompt) {
        // Whoever reads has seen enough, as in `| head`.
        Err(TalkError::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(TalkError::Output(e)) => Err(failed(format!("cannot write to standard output: {e}"))),
        Err(TalkError::Command(e)) => Err(e),
        Ok(()) => Ok(()),
    }
}

/// Why there was no answer.
enum TalkError {
    Output(io::Error),
    Command(CliError),
}

impl<E: Into<CliError>> From<E> for TalkError {
    fn from(error: E) -> Self {
        Self::Command(error.into())
    }
}

/// A question being answered.
struct Talk<'a, E: Engine> {
    args: &'a Args,
    prompter: &'a Prompter,
    policy: Policy<'a, E>,
    /// The tokens of "\nThe answer is".
    lead: Vec<u32>,
}

impl<'p, E: Engine> Talk<'p, E> {
    /// Refuses a question that would not fit the context with all that may follow it.
    fn check_room(&self, prompt: &[u32]) -> Result<(), CliError> {
        let spec = self.policy.model.spec();
        let rationale = if self.args.no_rationale { 0 } else { self.args.max_new_tokens };
        let new = rationale.saturating_add(self.lead.len() + ANSWER_TOKENS);
        let tokens = prompt.len().saturating_add(new);
        if tokens > spec.context_length {
            let what = format!("a prompt of {} tokens with rationale and answer", prompt.len());
            return Err(ModelError::Context { what, tokens, context: spec.context_length }.into());
        }
        let prompt_tokens = prompt.len();
        let sampling =
            Sampling { prompts: 1, prompt_tokens, branches: 1, new_tokens: new, answer_tokens: 0 };
        Ok(sampling.check(self.policy.model)?)
    }

    fn answer(&self, prompt: Vec<u32>) -> Result<(), TalkError> {
        let output: Box<dyn Write + Send> =
            if self.args.json { Box::new(io::sink()) } else { Box::new(io::stdout()) };
        let stream = Mutex::new(Stream::new(self.prompter, output));
        let (rationale, finish) = match self.args.no_rationale {
            true => (Vec::new(), Finish::EndOfTurn),
            false => self.think(&prompt, &stream)?,
        };
        let mut stream = stream.into_inner().unwrap_or_else(PoisonError::into_inner);
        if finish == Finish::Truncated {
            let n = self.args.max_new_tokens;
            stream.end_line().map_err(TalkError::Output)?;
            warn(format_args!("the rationale was cut off after {n} tokens (--max-new-tokens)"));
        }
        let asked = [prompt, rationale.clone(), self.lead.clone()].concat();
        let stop = || AnswerEnd::new(self.prompter);
        let said = self.prompter.read_answer(&self.generate(asked, ANSWER_TOKENS, 1, stop)?);
        stream.answer(&said).map_err(TalkError::Output)?;
        if self.args.json {
            self.print_json(&rationale, finish, &said).map_err(TalkError::Output)?;
        }
        Ok(())
    }

    /// Samples the rationale and shows it meanwhile.
    fn think(
        &self,
        prompt: &[u32],
        stream: &Mutex<Stream<'p, Box<dyn Write + Send>>>,
    ) -> Result<(Vec<u32>, Finish), TalkError> {
        let watch = || Watch::new(self.prompter, stream, self.policy.interrupt);
        let generated = self.generate(prompt.to_vec(), self.args.max_new_tokens, 0, watch);
        let mut shown = stream.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = shown.take_failure() {
            return Err(TalkError::Output(error));
        }
        let generated = generated?;
        let cut = self.prompter.cut(&generated);
        shown.finish(&generated[..cut.len]).map_err(TalkError::Output)?;
        Ok((generated[..cut.len].to_vec(), cut.finish))
    }

    /// One continuation of `prompt`; `part` tells the random streams of rationale and answer apart.
    fn generate<S: Stop>(
        &self,
        prompt: Vec<u32>,
        max_new_tokens: usize,
        part: u64,
        stop: impl Fn() -> S,
    ) -> Result<Vec<u32>, CliError> {
        let temperature = self.args.temperature;
        let pick = if temperature == 0.0 { Pick::Greedy } else { Pick::Sample { temperature } };
        let limits = Limits { branches: 1, max_new_tokens, batch: 1, continuation: 0, pick };
        let rng = |_, _| stream(self.args.seed, 0, 0, part);
        let generated = generate(self.policy, &[prompt], limits, rng, |_| stop(), |_| {})?;
        Ok(generated.into_iter().flatten().flatten().collect())
    }

    fn print_json(&self, rationale: &[u32], finish: Finish, said: &str) -> io::Result<()> {
        let text = self.prompter.tokenizer().decode(rationale, false);
        let line = json!({
            "question": self.args.question.trim(),
            "rationale": (!self.args.no_rationale).then(|| String::from_utf8_lossy(&text)),
            "rationale_tokens": rationale.len(),
            "finished": finish != Finish::Truncated,
            "answer": said.trim(),
        });
        writeln!(io::stdout(), "{line}")
    }
}

fn temperature(text: &str) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| "use a number, for example 0.7".to_owned())?;
    if value == 0.0 || (COLDEST..=100.0).contains(&value) {
        Ok(value)
    } else {
        Err(format!("use 0, or a number from {COLDEST} to 100"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sound_temperatures_are_taken() {
        assert_eq!(temperature("0"), Ok(0.0));
        assert_eq!(temperature("0.7"), Ok(0.7));
        for wrong in ["-1", "1e-30", "nan", "inf", "101", "warm"] {
            assert!(temperature(wrong).is_err(), "{wrong}");
        }
    }
}
