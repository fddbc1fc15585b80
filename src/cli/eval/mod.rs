//! `latrod eval`: how good a model is on held-out tasks, and how much better with an adapter.

mod report;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::builder::RangedU64ValueParser;
use serde_json::json;

use self::report::{Comparison, Report, metrics};
use crate::answer::AnswerKind;
use crate::cli::CliError;
use crate::cli::shared::choice::choice;
use crate::cli::shared::common::{
    load_adapter, load_model, say, set_threads, training_of, usage, warn,
};
use crate::cli::shared::progress::Progress;
use crate::cli::shared::wording::WordingArgs;
use crate::data::{Task, TaskLimits, read_tasks};
use crate::engine::device::DeviceKind;
use crate::engine::interrupt::Interrupt;
use crate::engine::{Engine, with_engine};
use crate::kernels::Compute;
use crate::latro::prompt::Prompter;
use crate::latro::sampling::generate::Policy;
use crate::latro::settings::Method;
use crate::memory::sampling::Sampling;
use crate::promotion::evaluate::{EvalSettings, QuestionResult, evaluate, summarize};
use crate::promotion::question::{by_question, results_by_question};
use crate::session::Questions;
use crate::store::write_atomic;
use crate::text::TextFormat;

/// The temperature of the votes: samples of what the policy believes, undistorted.
const VOTE_TEMPERATURE: f32 = 1.0;

/// Measure accuracy and answer likelihood on held-out questions, with and without an adapter
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The model writes a response to each question, greedily, to the end of its turn. Its answer is read
from that: after the last \"answer is\", in the last \\boxed{} or <answer>, after \"####\", or else by the kind of
answer that is wanted (a number, a choice, a text). Accuracy is the share of right answers. As a second
figure the answer is asked for: the response up to \"the answer is\", then these words, and what the
model says next. log p(answer) is the log-likelihood of the right answer's own tokens in that place, in
nats.
Tasks are JSON lines {\"question\", \"answer\"}. Questions that don't fit the model's context with
their response and answer are left out and counted.

With --adapter the same questions go to the untouched model and to the adapter, and the difference is
tested: accuracy with McNemar's exact test, log p(answer) per token with a paired t-test. A p above
0.05 means that chance explains the difference well enough.

Both get the same prompt: the words around the question are those that the adapter was trained with,
as its folder says, unless others are given. An adapter of `latrod train --method sft` has learned to
answer at once, so the likelihood of its answers is measured without a response before them.

Examples:
  latrod eval --model smol.gguf --tasks dev.jsonl
  latrod eval --model smol.gguf --tasks dev.jsonl --adapter sums-adapter --json | jq .comparison
  latrod eval --model smol.gguf --tasks dev.jsonl --votes 8 --limit 50 --details answers.jsonl")]
pub struct Args {
    /// The GGUF model
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Questions and answers: a JSON lines file or a folder of them
    #[arg(long, value_name = "PATH")]
    tasks: PathBuf,
    /// A PEFT adapter folder, compared with the untouched model
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// With --adapter: leave the untouched model out, in half the time
    #[arg(long, requires = "adapter")]
    no_baseline: bool,
    /// Longest response, in tokens
    #[arg(long, default_value_t = 400, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    max_new_tokens: usize,
    /// Ask the first N questions only
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    limit: Option<usize>,
    /// Also sample K responses to each question and let their answers vote (maj@k)
    #[arg(long, value_name = "K", value_parser = RangedU64ValueParser::<usize>::new().range(2..=1024))]
    votes: Option<usize>,
    #[command(flatten)]
    wording: WordingArgs,
    /// What kind of text the answers are, and so how they are compared
    #[arg(long, value_parser = choice::<AnswerKind>(), default_value = "auto")]
    answer_kind: AnswerKind,
    /// Responses that are sampled together, at most: more is faster and takes more memory. The K
    /// votes on one question are always sampled together
    #[arg(long, default_value_t = 64, value_parser = RangedU64ValueParser::<usize>::new().range(1..=65536))]
    batch: usize,
    /// Seed of the votes
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// exact: f32; fast: activations rounded to 8 bits
    #[arg(long, value_parser = choice::<Compute>(), default_value = "fast")]
    compute: Compute,
    /// Where to compute; all but cpu only if the program was built with it (cross/CUDA.md)
    #[arg(long, value_parser = choice::<DeviceKind>(), default_value = "cpu")]
    device: DeviceKind,
    /// Threads to compute with; all cores if not given
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Write every question with the answers it got, one JSON line each
    #[arg(long, value_name = "FILE.jsonl")]
    details: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Unusable arguments or files (exit code 64), a failing computation or an unwritable file (1).
pub fn run(args: &Args) -> Result<(), CliError> {
    set_threads(args.threads)?;
    with_engine!(args.device, E => run_on::<E>(args))
}

fn run_on<E: Engine>(args: &Args) -> Result<(), CliError> {
    args.details.as_deref().map_or(Ok(()), check_folder_of)?;
    let (tasks, bad_lines) = read(args)?;
    let (file, model) = load_model::<E>(&args.model, args.compute, args.device)?;
    let adapter = args.adapter.as_ref().map(|dir| load_adapter(dir, &file, &model)).transpose()?;
    let training = training_of(args.adapter.as_deref())?;
    let wording = args.wording.over(training.as_ref().map(|made| &made.prompt));
    let format = TextFormat::from_gguf(&file).map_err(usage)?;
    let prompter = Prompter::new(format, wording).map_err(usage)?;
    let (context, never) = (model.spec().context_length, Interrupt::new());
    let questions = Questions::choose(&prompter, tasks, args.max_new_tokens, context, &never)?;
    if let Some(sentence) = questions.left_out_sentence() {
        warn(sentence);
    }
    let repeated = questions.tasks.len() - by_question(&questions.tasks).len();
    if repeated > 0 {
        warn(format_args!("{repeated} tasks repeat a question; each question counts once"));
    }
    check_memory(args, &model, &questions)?;

    let asker = Asker { args, model: &model, prompter: &prompter, tasks: &questions.tasks };
    let base = match args.no_baseline {
        true => None,
        false => Some(asker.ask("untouched model", None, true)?),
    };
    let tuned = match &adapter {
        Some(a) => {
            let think = training.is_none_or(|made| Method::word_thinks(&made.method));
            Some(asker.ask("adapter", Some(a), think)?)
        }
        None => None,
    };

    let comparison = match (&base, &tuned) {
        (Some(base), Some(tuned)) => Some(Comparison::new(&base.questions, &tuned.questions)?),
        _ => None,
    };
    let report = Report {
        model: args.model.display().to_string(),
        tasks: args.tasks.display().to_string(),
        compute: args.compute,
        device: args.device,
        bad_lines,
        left_out: questions.left_out(),
        base: base.as_ref().map(|a| a.metrics.clone()),
        adapter: tuned.as_ref().map(|a| a.metrics.clone()),
        comparison,
    };
    say(if args.json { report.json()? } else { report.table() })?;
    args.details
        .as_deref()
        .map_or(Ok(()), |path| write_details(path, &questions.tasks, base.as_ref(), tuned.as_ref()))
}

/// The tasks to ask and how many lines were bad.
fn read(args: &Args) -> Result<(Vec<Task>, usize), CliError> {
    let mut set = read_tasks(&args.tasks, &TaskLimits::default()).map_err(usage)?;
    if let Some(first) = set.rejected.first() {
        let (bad, good) = (set.rejected_count, set.tasks.len());
        let (line, file, reason) = (first.line, first.file.display(), &first.reason);
        warn(format_args!(
            "{bad} bad lines among the tasks are left out, {good} tasks are good; the first is line \
             {line} of {file}: {reason}"
        ));
    }
    set.tasks.truncate(args.limit.unwrap_or(usize::MAX));
    Ok((set.tasks, set.rejected_count))
}

fn check_memory(args: &Args, model: &impl Engine, questions: &Questions) -> Result<(), CliError> {
    let at_once = args.batch.min(questions.tasks.len());
    let of = |prompts, branches, answer_tokens| Sampling {
        prompts,
        prompt_tokens: questions.longest_prompt,
        branches,
        new_tokens: args.max_new_tokens,
        answer_tokens,
    };
    // An answer that is asked for may be twice as long as the right one.
    of(at_once, 1, 2 * questions.longest_answer).check(model)?;
    let votes = args.votes.unwrap_or(1);
    Ok(of((args.batch / votes).max(1), votes, 0).check(model)?)
}

/// A path can be written to only in a folder that exists: better said before the work than after.
fn check_folder_of(path: &Path) -> Result<(), CliError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) || path.is_dir() {
        let shown = path.display();
        return Err(usage(format!("cannot write {shown}: name a file in a folder that exists")));
    }
    Ok(())
}

/// What one policy made of the questions.
struct Answers {
    /// One for each task.
    results: Vec<QuestionResult>,
    questions: Vec<QuestionResult>,
    metrics: serde_json::Value,
}

struct Asker<'a, E> {
    args: &'a Args,
    model: &'a E,
    prompter: &'a Prompter,
    tasks: &'a [Task],
}

impl<E: Engine> Asker<'_, E> {
    fn ask(&self, who: &str, lora: Option<&E::Adapter>, think: bool) -> Result<Answers, CliError> {
        let args = self.args;
        let settings = EvalSettings {
            think,
            forced: true,
            answer_kind: args.answer_kind,
            max_new_tokens: args.max_new_tokens,
            batch: args.batch,
            votes: args.votes.unwrap_or(0),
            temperature: VOTE_TEMPERATURE,
            seed: args.seed,
        };
        let interrupt = Interrupt::new();
        let policy = Policy { model: self.model, lora, interrupt: &interrupt };
        // Every response at full length but for its first token, which comes with the prompt, and one
        // for scoring each question.
        let branches = 1 + settings.votes as u64;
        let most = (self.tasks.len() as u64)
            .saturating_mul(branches.saturating_mul(settings.max_new_tokens as u64) + 1);
        let mut progress = Progress::new(who, 0, most, "tokens at most");
        let start = Instant::now();
        let results = evaluate(policy, self.prompter, self.tasks, settings, |tokens| {
            progress.advance(tokens as u64);
        });
        progress.finish();
        let results = results?;
        let questions = results_by_question(self.tasks, &results);
        let metrics = metrics(&summarize(&questions, settings, 0, 0.0, start))?;
        Ok(Answers { results, questions, metrics })
    }
}

fn write_details(
    path: &Path,
    tasks: &[Task],
    base: Option<&Answers>,
    adapter: Option<&Answers>,
) -> Result<(), CliError> {
    let of = |answers: Option<&Answers>, i: usize| answers.map(|a| json!(a.results[i]));
    let written = write_atomic(path, |w| {
        tasks.iter().enumerate().try_for_each(|(i, task)| {
            let mut line = json!({ "question": task.question });
            for (name, result) in [("base", of(base, i)), ("adapter", of(adapter, i))] {
                if let Some(result) = result {
                    line[name] = result;
                }
            }
            writeln!(w, "{line}")
        })
    });
    Ok(written?)
}
