//! `latrod train`: the learner in the foreground.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::CliError;
use super::common::{failed, load_model, set_threads, usage};
use super::train_settings::SettingArgs;
use crate::data::{Task, TaskLimits, read_tasks, split};
use crate::kernels::Compute;
use crate::latro::generate::Policy;
use crate::latro::learner::{Learner, LearnerState};
use crate::latro::metrics::{EvalMetrics, MetricLine, StepMetrics};
use crate::latro::prompt::Prompter;
use crate::latro::settings::{Method, TrainSettings};
use crate::model::adapter::Adapter;
use crate::model::gguf::GgufFile;
use crate::model::interrupt::Interrupt;
use crate::promotion::evaluate::{EvalSettings, evaluate, summarise};
use crate::session::{Identity, Outcome, Session, SessionError};

/// Learn a LoRA adapter from questions and answers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The model samples rationales for each question and is rewarded with the likelihood that it then
gives to the right answer (LaTRO, arXiv 2411.04282). Tasks are JSON lines {\"question\", \"answer\"}.

A tenth of the tasks, chosen by their content, is held out to measure progress on, unless
--eval-tasks names others. Everything is saved after every step, and within a step once the
rationales are sampled: stop it at any moment and run the same command again to go on.

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
    /// Minutes of training, over all restarts, after which to stop even if steps are left
    #[arg(long)]
    max_minutes: Option<f64>,
    #[command(flatten)]
    settings: SettingArgs,
    /// exact: f32; fast: activations rounded to 8 bits
    #[arg(long, value_enum, default_value_t = Compute::Fast)]
    compute: Compute,
    /// Rationales that are sampled together, at most
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Threads to compute with; all cores if not given
    #[arg(long)]
    threads: Option<usize>,
    /// Print the lines of metrics.jsonl instead of text
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Unusable arguments or files (exit code 64), a failing run (1), a run that is held by another
/// process or was interrupted (75: run it again).
pub fn run(args: Args) -> Result<(), CliError> {
    let settings = args.settings.resolve()?;
    if args.batch == 0 {
        return Err(usage("--batch must be at least 1"));
    }
    if args.max_minutes.is_some_and(|m| m.is_nan() || m < 0.0) {
        return Err(usage("--max-minutes must be at least 0"));
    }
    set_threads(args.threads)?;
    let (tasks, held_out) = tasks(&args)?;
    let (file, model) = load_model(&args.model, args.compute)?;
    let prompter = Prompter::new(&file).map_err(usage)?;
    let interrupt = Interrupt::new();
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, interrupt.flag()).map_err(failed)?;
    }
    let learner = Learner {
        state: LearnerState::fresh(&model.spec, &settings),
        model: &model,
        prompter: &prompter,
        settings: &settings,
        batch: args.batch,
        interrupt: &interrupt,
    };
    let tasks = that_fit(&learner, tasks)?;
    let held_out = match held_out.is_empty() || args.eval_questions == 0 {
        true => Vec::new(),
        false => that_fit(&learner, held_out)?,
    };
    let identity = identity(&args, &settings, &file, &tasks)?;
    let session = Session::open(&args.adapter, identity, learner, &tasks).map_err(session_error)?;
    let mut run = Run { args: &args, settings: &settings, held_out: &held_out, session };
    let result = run.learn();
    run.session.write_adapter().map_err(session_error)?;
    result.map_err(session_error)
}

fn session_error(error: SessionError) -> CliError {
    match error {
        e if e.is_interrupted() => {
            CliError::TryLater("stopped; run the same command again to go on".into())
        }
        SessionError::Store(e) => e.into(),
        e @ (SessionError::OtherRun { .. }
        | SessionError::OtherAdapter { .. }
        | SessionError::NothingFits { .. }) => usage(e),
        e => failed(e),
    }
}

/// Reads the tasks to learn from and those to measure on.
fn tasks(args: &Args) -> Result<(Vec<Task>, Vec<Task>), CliError> {
    if !(0.0..1.0).contains(&args.held_out) {
        return Err(usage("--held-out must be at least 0 and below 1"));
    }
    let set = read_tasks(&args.tasks, &TaskLimits::default()).map_err(usage)?;
    if set.rejected_count > 0 {
        let aside = set.write_rejected(&args.adapter).map_err(failed)?;
        let place = aside.map(|p| format!(", set aside in {}", p.display())).unwrap_or_default();
        let (bad, good) = (set.rejected_count, set.tasks.len());
        eprintln!("latrod: {bad} lines of the tasks cannot be used{place}; {good} can");
    }
    match &args.eval_tasks {
        Some(path) => {
            let held_out = read_tasks(path, &TaskLimits::default()).map_err(usage)?.tasks;
            Ok((set.tasks, held_out))
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

/// The tasks whose prompt, rationale and answer fit the model's context.
fn that_fit(learner: &Learner<'_>, tasks: Vec<Task>) -> Result<Vec<Task>, CliError> {
    let all = tasks.len();
    let mut kept = Vec::with_capacity(all);
    for task in tasks {
        if learner.fits(&task).map_err(usage)? {
            kept.push(task);
        }
    }
    if kept.is_empty() {
        let context = learner.model.spec.context_length;
        let new_tokens = learner.settings.max_new_tokens;
        return Err(usage(SessionError::NothingFits { tasks: all, context, new_tokens }));
    }
    if kept.len() < all {
        let left = all - kept.len();
        eprintln!("latrod: {left} of {all} tasks are too long for the model's context; left out");
    }
    Ok(kept)
}

fn identity(
    args: &Args,
    settings: &TrainSettings,
    file: &GgufFile,
    tasks: &[Task],
) -> Result<Identity, CliError> {
    let mut hash = Sha256::new();
    tasks.iter().for_each(|t| hash.update(t.id().0));
    let tasks_sha256 = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    let name = args.model.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Identity {
        settings: settings.clone(),
        compute: args.compute,
        batch: args.batch,
        base_sha256: file.sha256().map_err(failed)?,
        base_name: name,
        tasks_sha256,
    })
}

/// A training run with its evaluations.
struct Run<'a> {
    args: &'a Args,
    settings: &'a TrainSettings,
    held_out: &'a [Task],
    session: Session<'a>,
}

impl Run<'_> {
    fn learn(&mut self) -> Result<(), SessionError> {
        if self.session.steps_done() > 0 && !self.args.json {
            println!("going on after step {}", self.session.steps_done());
        }
        loop {
            let step = self.session.steps_done();
            let ended = step >= self.settings.steps || self.out_of_time();
            let due = self.args.eval_every > 0 && step.is_multiple_of(self.args.eval_every);
            if (step == 0 || due || ended) && self.session.evaluated() != Some(step) {
                self.evaluate(step)?;
            }
            if ended {
                return Ok(());
            }
            match self.session.step(|_| {})? {
                Outcome::Learned(metrics) => self.show_step(&metrics),
                Outcome::SteppedBack(trip) => {
                    eprintln!(
                        "latrod: step {}: {}; going back, with half the learning rate",
                        trip.step, trip.sentence
                    );
                }
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
        let scale = self.settings.alpha / self.settings.rank as f32;
        let adapter = Adapter::new(&learner.state.params, learner.model.depth(), scale)
            .map_err(crate::model::ModelError::from)
            .map_err(crate::latro::learner::LearnError::from)?;
        let policy = Policy {
            model: learner.model,
            lora: (step > 0).then(|| adapter.frozen()),
            interrupt: learner.interrupt,
        };
        let settings = EvalSettings {
            think: self.settings.method == Method::Latro,
            max_new_tokens: self.settings.max_new_tokens,
            batch: self.args.batch,
            votes: 0,
            temperature: 1.0,
            seed: self.settings.seed,
        };
        let questions = &self.held_out[..self.args.eval_questions.min(self.held_out.len())];
        let results = evaluate(policy, learner.prompter, questions, settings, |_| {})?;
        let elapsed = self.session.elapsed_s();
        let eval = summarise(&results, settings, step, elapsed, start);
        self.session.record(eval.clone())?;
        self.session.write_adapter()?;
        self.show_eval(&eval);
        Ok(())
    }

    fn show_step(&self, m: &StepMetrics) {
        if self.args.json {
            return print_json(&MetricLine::Step(m.clone()));
        }
        println!(
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
            m.gradient_norm,
            m.rollout_tokens_per_s,
            m.total_s,
            clock(m.elapsed_s),
        );
    }

    fn show_eval(&self, m: &EvalMetrics) {
        if self.args.json {
            return print_json(&MetricLine::Eval(m.clone()));
        }
        println!(
            "held-out after step {}: {}/{} right ({:.1} %), log p(answer) {:.3} ({:.4} a token), \
             rationale {:.1} tokens",
            m.step,
            m.correct,
            m.questions,
            100.0 * m.accuracy,
            m.log_p_answer,
            m.log_p_answer_per_token,
            m.rationale_tokens,
        );
    }
}

fn print_json(line: &MetricLine) {
    if let Ok(text) = serde_json::to_string(line) {
        println!("{text}");
    }
}

/// Minutes and seconds.
fn clock(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    format!("{}:{:02}", whole / 60, whole % 60)
}
