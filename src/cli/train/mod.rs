//! `latrod train`: the learner in the foreground.

mod settings;
mod tasks;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::arch::spec::ModelSpec;
use crate::cli::CliError;
use crate::cli::shared::choice::choice;
use crate::cli::shared::common::{check_device, failed, set_threads, size_argument, usage, warn};
use crate::cli::shared::progress::Progress;
use crate::cli::train::settings::SettingArgs;
use crate::cli::train::tasks::Fitted;
use crate::data::Task;
use crate::engine::device::DeviceKind;
use crate::engine::interrupt::Interrupt;
use crate::engine::row_chunks::RowChunks;
use crate::engine::weights::WeightBytes;
use crate::engine::{Engine, ModelError, with_engine};
use crate::gguf::GgufFile;
use crate::kernels::Compute;
use crate::latro::learner::LearnError;
use crate::latro::metrics::{EvalMetrics, MetricLine, StepMetrics};
use crate::latro::prompt::Prompter;
use crate::latro::sampling::generate::Policy;
use crate::latro::settings::TrainSettings;
use crate::memory::fit::{Fitting, fit_given};
use crate::memory::plan::MemorySettings;
use crate::promotion::evaluate::{EvalSettings, evaluate, summarize};
use crate::promotion::question::results_by_question;
use crate::session::{Phase, Session, SessionBuilder, SessionError, StepOutcome};
use crate::settings::choices;
use crate::text::TextFormat;

/// Learn a LoRA adapter from questions and answers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The model samples rationales for each question and is rewarded with the likelihood that it then
gives to the right answer (LaTRO, arXiv 2411.04282). Tasks are JSON lines {\"question\", \"answer\"}.

A tenth of the tasks, chosen by their content, is held out to measure progress on, unless
--eval-tasks names others. Everything is saved after every step, and within a step once the
rationales are sampled: stop it at any moment and run the same command again to go on. With more
--steps a run that has ended goes on, too.

The adapter's folder can be loaded by PEFT; `latrod export` makes one for llama.cpp. metrics.jsonl in
it has every number of every step; `latrod plot` draws it.

Example:
  latrod train --model smol.gguf --tasks sums.jsonl --adapter sums-adapter --steps 100")]
pub struct Args {
    /// The GGUF model
    #[arg(long)]
    model: PathBuf,
    /// Tasks to learn from: a JSON lines file or a folder of them
    #[arg(long)]
    tasks: PathBuf,
    /// The folder of the adapter; goes on with the run that it holds
    #[arg(long)]
    adapter: PathBuf,
    /// The folder of an adapter to begin with, instead of a fresh one; it stays as it is
    #[arg(long)]
    start_from: Option<PathBuf>,
    /// Tasks to measure progress on, instead of a tenth of --tasks
    #[arg(long)]
    eval_tasks: Option<PathBuf>,
    /// Share of the tasks that is held out if --eval-tasks is not given
    #[arg(long, default_value_t = 0.1)]
    held_out: f64,
    /// Steps between evaluations; 0 evaluates at the start and at the end only
    #[arg(long, default_value_t = 0)]
    eval_every: u64,
    /// Held-out questions to ask in an evaluation, at most; 0 leaves evaluation out
    #[arg(long, default_value_t = 100)]
    eval_questions: usize,
    /// Which adapter the run ends with: the best of those that were evaluated, or the last
    #[arg(long, value_parser = choice::<Keep>(), default_value = "best")]
    keep: Keep,
    /// Minutes of training, over all restarts, after which to stop even if steps are left
    #[arg(long)]
    max_minutes: Option<f64>,
    #[command(flatten)]
    settings: SettingArgs,
    /// exact: f32; fast: activations rounded to 8 bits
    #[arg(long, value_parser = choice::<Compute>(), default_value = "fast")]
    compute: Compute,
    /// Where to compute; all but cpu only if the program was built with it (cross/CUDA.md)
    #[arg(long, value_parser = choice::<DeviceKind>(), default_value = "cpu")]
    device: DeviceKind,
    /// Rationales that are sampled together, at most
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// The most memory to take, for example 600M or 2G: samples fewer rationales together and cuts
    /// rows into smaller pieces to keep to it
    #[arg(long, value_parser = size_argument)]
    memory_limit: Option<u64>,
    /// Threads to compute with; all cores if not given
    #[arg(long)]
    threads: Option<usize>,
    /// Print the lines of metrics.jsonl instead of text
    #[arg(long)]
    json: bool,
}

choices! {
    /// Which adapter a run ends with.
    pub enum Keep {
        /// The one that did best on held-out questions, of those that were evaluated.
        Best = "best",
        /// That of the last step.
        Last = "last",
    }
}

/// Runs the command.
///
/// # Errors
/// Unusable arguments or files (exit code 64), a failing run (1), a run that is held by another
/// process or was interrupted (75: run it again).
pub fn run(args: Args) -> Result<(), CliError> {
    with_engine!(args.device, E => run_on::<E>(args))
}

fn run_on<E: Engine>(mut args: Args) -> Result<(), CliError> {
    let settings = args.settings.resolve()?;
    if args.batch == 0 {
        return Err(usage("--batch must be at least 1"));
    }
    if args.max_minutes.is_some_and(|m| m.is_nan() || m < 0.0) {
        return Err(usage("--max-minutes must be at least 0"));
    }
    check_device(args.device)?;
    set_threads(args.threads)?;
    let (tasks, held_out) = tasks::read(&args)?;
    let file = GgufFile::open(&args.model).map_err(usage)?;
    let spec = ModelSpec::from_gguf(&file).map_err(usage)?;
    let prompter = Prompter::new(TextFormat::from_gguf(&file).map_err(usage)?, settings.wording())
        .map_err(usage)?;
    let interrupt = Interrupt::new();
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, interrupt.flag()).map_err(failed)?;
    }
    let context = spec.context_length;
    let fitting =
        Fitted { prompter: &prompter, settings: &settings, context, interrupt: &interrupt };
    let asked = fitting.asked(tasks, held_out, args.eval_questions)?;
    let (longest, questions) = (asked.longest, asked.held_out.len());
    let row_chunks = planned(&mut args, &settings, &file, &spec, longest, questions)?;
    let mut model = E::load(&file, args.compute, args.device).map_err(usage)?;
    model.set_row_chunks(row_chunks);
    let sha256 = file.sha256().map_err(failed)?;
    let builder = SessionBuilder {
        engine: &model,
        prompter: &prompter,
        settings: &settings,
        tasks: &asked.tasks,
        batch: args.batch,
        model: &args.model,
        model_sha256: &sha256,
        start: args.start_from.as_deref(),
        interrupt: &interrupt,
    };
    let (settings, thinking) = builder.decided(&args.adapter).map_err(session_error)?;
    if let Some(thinking) = thinking.filter(|_| !args.json) {
        say(&thinking.sentence());
    }
    let builder = SessionBuilder { settings: &settings, ..builder };
    let session = builder.open(&args.adapter).map_err(session_error)?;
    let mut run = Run { args: &args, settings: &settings, held_out: &asked.held_out, session };
    let result = run.learn();
    // After a failed write the state in memory may be ahead of the one on disk.
    if !matches!(result, Err(SessionError::Store(_))) {
        run.session.write_adapter().map_err(session_error)?;
    }
    result.map_err(session_error)?;
    run.keep_best()
}

/// How rows are cut, so that the run keeps to its limit of memory; the batch may become smaller, too.
/// `tokens` are those of the longest prompt and answer.
fn planned(
    args: &mut Args,
    settings: &TrainSettings,
    file: &GgufFile,
    spec: &ModelSpec,
    tokens: (usize, usize),
    held_out: usize,
) -> Result<RowChunks, CliError> {
    let threads = crate::kernels::threads::start(0);
    let plan = MemorySettings::of_run(settings, args.batch, tokens, (threads, args.compute));
    let plan_questions = args.batch.min(held_out);
    let plan = MemorySettings { questions: plan_questions, ..plan };
    match args.device.is_planned() {
        true => {
            let fitting =
                fit_given(spec, &WeightBytes::of(file), &plan, args.memory_limit, Path::new("/"))?;
            let Fitting { settings: fitted, plan } = fitting;
            // Without sampling the batch is that of evaluations.
            match fitted.batch {
                0 if fitted.questions < plan_questions => args.batch = fitted.questions,
                0 => {}
                batch => args.batch = batch,
            }
            if !args.json {
                say(&plan.sentence(args.batch, fitted.row_chunks));
            }
            Ok(fitted.row_chunks)
        }
        false if args.memory_limit.is_some() => {
            Err(usage("--memory-limit is for --device cpu; a GPU's memory is not planned"))
        }
        false => Ok(RowChunks::default()),
    }
}

fn stopped() -> CliError {
    CliError::TryLater("stopped; run the same command again to go on".into())
}

fn session_error(error: SessionError) -> CliError {
    match error {
        e if e.is_interrupted() => stopped(),
        SessionError::Store(e) => e.into(),
        e @ (SessionError::OtherRun { .. }
        | SessionError::OtherAdapter { .. }
        | SessionError::OtherStart { .. }) => usage(e),
        e => failed(e),
    }
}

/// A training run with its evaluations.
struct Run<'a, E: Engine> {
    args: &'a Args,
    settings: &'a TrainSettings,
    held_out: &'a [Task],
    session: Session<'a, E>,
}

impl<E: Engine> Run<'_, E> {
    fn learn(&mut self) -> Result<(), SessionError> {
        if self.session.steps_done() > 0 && !self.args.json {
            say(&format!("going on after step {}", self.session.steps_done()));
        }
        loop {
            let step = self.session.steps_done();
            let ended = step >= self.settings.steps || self.out_of_time();
            let due = self.args.eval_every > 0 && step.is_multiple_of(self.args.eval_every);
            if (step == 0 || due || ended) && self.session.evaluated() != Some(step) {
                match self.evaluate(step) {
                    Err(SessionError::Learn(LearnError::Model(ModelError::NonFinite { what }))) => {
                        let outcome = self.session.not_finite(what)?;
                        self.show(&outcome);
                        continue;
                    }
                    other => other?,
                }
            }
            if ended {
                return Ok(());
            }
            let outcome = self.step(step + 1)?;
            self.show(&outcome);
        }
    }

    /// Ends with the best adapter, if that is wanted and another than the last.
    fn keep_best(&self) -> Result<(), CliError> {
        if self.args.keep == Keep::Last
            || !self.session.write_best_adapter().map_err(session_error)?
        {
            return Ok(());
        }
        if let Some(best) = self.session.best().filter(|_| !self.args.json) {
            let (step, percent) = (best.step, 100.0 * best.accuracy);
            say(&format!(
                "the adapter is that of step {step}, the best on held-out questions ({percent:.1} %); \
                 --keep last takes the last one"
            ));
        }
        Ok(())
    }

    /// One step, with a bar for its sampling where somebody looks on.
    fn step(&mut self, step: u64) -> Result<StepOutcome, SessionError> {
        if self.args.json || !std::io::stderr().is_terminal() {
            return self.session.step(|_| {});
        }
        let settings = self.settings;
        let most = settings.num_generations * settings.prompts_per_step * settings.max_new_tokens;
        let label = format!("step {step}/{}", settings.steps);
        let mut bar = Progress::new(&label, 0, most as u64, "tokens at most");
        let outcome = self.session.step(|phase| {
            if let Phase::Sampling { tokens } = phase {
                bar.advance(tokens as u64);
            }
        });
        bar.finish();
        outcome
    }

    fn show(&self, outcome: &StepOutcome) {
        match outcome {
            StepOutcome::Learned(metrics) => self.show_step(metrics),
            StepOutcome::SteppedBack { trip, metrics } => {
                if let Some(metrics) = metrics {
                    self.show_step(metrics);
                }
                if self.args.json {
                    print_json(&MetricLine::Sentinel(trip.clone()));
                }
                let done = self.session.steps_done();
                warn(format_args!(
                    "step {}: {}; going back to step {done}, with half the learning rate",
                    trip.step, trip.sentence
                ));
            }
        }
    }

    fn out_of_time(&self) -> bool {
        self.args.max_minutes.is_some_and(|m| self.session.elapsed_s() >= m * 60.0)
    }

    fn evaluate(&mut self, step: u64) -> Result<(), SessionError> {
        if self.held_out.is_empty() {
            return Ok(());
        }
        let start = Instant::now();
        let learner = self.session.learner();
        let adapter = learner.adapter().map_err(LearnError::from)?;
        let policy = Policy {
            model: learner.model,
            // Before the first step a fresh adapter changes nothing, so the model alone is faster.
            lora: (step > 0 || self.args.start_from.is_some()).then_some(&adapter),
            interrupt: learner.interrupt,
        };
        let settings = EvalSettings::of_run(self.settings, self.args.batch);
        let questions = self.held_out;
        let most_tokens = (questions.len() * (settings.max_new_tokens + 1)) as u64;
        let mut bar = Progress::new("held-out questions", 0, most_tokens, "tokens at most");
        let results = evaluate(policy, learner.prompter, questions, settings, |n| {
            bar.advance(n as u64);
        });
        bar.finish();
        let results = results?;
        let elapsed = self.session.elapsed_s();
        let asked = results_by_question(questions, &results);
        let eval = summarize(&asked, settings, step, elapsed, start);
        self.session.record(eval.clone())?;
        self.session.write_adapter()?;
        self.show_eval(&eval);
        Ok(())
    }

    fn show_step(&self, m: &StepMetrics) {
        if self.args.json {
            return print_json(&MetricLine::Step(m.clone()));
        }
        say(&format!(
            "step {:4}/{}  reward {:8.3}  log p(answer) {:8.3}  kl {:6.2}  entropy {:.2}  \
             length {:5.1}  finished {:3.0} %  |g| {:7.2}  {:5.0} tok/s  {:5.1} s  {}",
            m.step,
            self.settings.steps,
            m.reward,
            m.log_p_answer,
            m.kl,
            m.entropy,
            m.rationale_tokens,
            100.0 * m.finished_share,
            m.grad_norm,
            m.rollout_tokens_per_s,
            m.total_s,
            clock(m.elapsed_s),
        ));
    }

    fn show_eval(&self, m: &EvalMetrics) {
        if self.args.json {
            return print_json(&MetricLine::Eval(m.clone()));
        }
        say(&format!(
            "held-out after step {}: {}/{} right ({:.1} %), log p(answer) {:.3} ({:.4} a token), \
             {:.1} tokens, {:.0} % finished, {:.0} % with an answer{}",
            m.step,
            m.correct,
            m.questions,
            100.0 * m.accuracy,
            m.log_p_answer,
            m.log_p_answer_per_token,
            m.response_tokens,
            100.0 * m.finished_share,
            100.0 * m.readable_share,
            m.delta_p.map_or(String::new(), |delta| format!(", Δ p(answer) {delta:+.3}")),
        ));
        if m.delta_p.is_some_and(|delta| delta < 0.0) {
            warn(
                "thinking makes the right answers less likely than answering at once; --method sft \
                 teaches that",
            );
        }
    }
}

fn print_json(line: &MetricLine) {
    if let Ok(text) = serde_json::to_string(line) {
        say(&text);
    }
}

/// Writes a line to standard output. A run goes on if nobody listens any more: everything is in
/// metrics.jsonl as well.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Minutes and seconds.
fn clock(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    format!("{}:{:02}", whole / 60, whole % 60)
}
