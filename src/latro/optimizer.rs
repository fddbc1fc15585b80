//! AdamW over LoRA tensors, gradient clipping and the learning rate's course.
//!
//! Agrees with `torch.optim.AdamW` (Loshchilov & Hutter, arXiv 1711.05101, decoupled weight decay)
//! and `torch.nn.utils.clip_grad_norm_`. Every sum is taken in one fixed order, so equal inputs give
//! equal bits. Moments are ordinary LoRA tensors under the parameters' names, so a checkpoint can
//! hold them. Knows nothing of where gradients come from or where moments are kept.

use super::settings::{AdamSettings, Schedule, TrainSettings};
use crate::arch::lora::{LoraKey, LoraTensors, zeros_like};

/// Parameters, gradients or moments that don't belong together. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptimizerError {
    /// One set of tensors has a name that another lacks.
    #[error(
        "{what} of layer {} {} {:?} and its parameter don't come together: they belong to \
         different adapters", key.layer, key.target.peft_name(), key.factor
    )]
    Unpaired {
        /// `the gradient` or `the moments`.
        what: &'static str,
        /// The tensor that one side lacks.
        key: LoraKey,
    },
    /// Tensors of the same name differ in shape.
    #[error(
        "{what} of layer {} {} {:?} has shape {found:?}, its parameter {expected:?}: they belong to \
         different adapters", key.layer, key.target.peft_name(), key.factor
    )]
    Shape {
        /// `the gradient` or `the moments`.
        what: &'static str,
        /// The tensor.
        key: LoraKey,
        /// Rows and columns of the parameter.
        expected: [usize; 2],
        /// Rows and columns of the other.
        found: [usize; 2],
    },
}

/// The state of AdamW: moments under the parameters' names, and how many updates they have seen.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AdamW {
    /// Decaying mean of the gradients.
    pub m: LoraTensors,
    /// Decaying mean of their squares.
    pub v: LoraTensors,
    /// Updates made.
    pub step: u64,
}

impl AdamW {
    /// The state before the first update: moments of 0.
    #[must_use]
    pub fn new(params: &LoraTensors) -> Self {
        Self { m: zeros_like(params), v: zeros_like(params), step: 0 }
    }

    /// One update of all parameters downhill along `grads`, the gradients of the loss:
    ///
    /// ```text
    /// θ ← θ − lr·λ·θ          m ← β₁·m + (1 − β₁)·g          v ← β₂·v + (1 − β₂)·g²
    /// θ ← θ − lr · m / (1 − β₁ᵗ) / (√v / √(1 − β₂ᵗ) + ε)
    /// ```
    ///
    /// # Errors
    /// If parameters, gradients and moments don't have the same names and shapes. Then nothing has
    /// been changed.
    pub fn update(
        &mut self,
        params: &mut LoraTensors,
        grads: &LoraTensors,
        learning_rate: f32,
        settings: &AdamSettings,
    ) -> Result<(), OptimizerError> {
        check_pairs("the gradient", params, grads)?;
        check_pairs("the moment m", params, &self.m)?;
        check_pairs("the moment v", params, &self.v)?;
        self.step += 1;
        let scalars = Scalars::new(self.step, f64::from(learning_rate), settings);
        let moments = self.m.values_mut().zip(self.v.values_mut());
        for ((param, grad), (m, v)) in params.values_mut().zip(grads.values()).zip(moments) {
            scalars.update(&mut param.data, &grad.data, &mut m.data, &mut v.data);
        }
        Ok(())
    }
}

/// The scalars of one update, computed in f64 as PyTorch does and applied in f32.
struct Scalars {
    keep: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    step_size: f32,
    root_correction2: f32,
    eps: f32,
}

impl Scalars {
    fn new(step: u64, learning_rate: f64, settings: &AdamSettings) -> Self {
        let AdamSettings { beta1, beta2, eps, weight_decay } = *settings;
        let exponent = i32::try_from(step).unwrap_or(i32::MAX);
        Self {
            keep: narrow(1.0 - learning_rate * weight_decay),
            one_minus_beta1: narrow(1.0 - beta1),
            beta2: narrow(beta2),
            one_minus_beta2: narrow(1.0 - beta2),
            step_size: narrow(learning_rate / (1.0 - beta1.powi(exponent))),
            root_correction2: narrow((1.0 - beta2.powi(exponent)).sqrt()),
            eps: narrow(eps),
        }
    }

    /// Elementwise, so the compiler makes vector instructions of it.
    fn update(&self, params: &mut [f32], grads: &[f32], m: &mut [f32], v: &mut [f32]) {
        let moments = m.iter_mut().zip(v);
        for ((param, &grad), (m, v)) in params.iter_mut().zip(grads).zip(moments) {
            *m += (grad - *m) * self.one_minus_beta1;
            *v = *v * self.beta2 + grad * grad * self.one_minus_beta2;
            let root = v.sqrt() / self.root_correction2 + self.eps;
            *param = *param * self.keep - self.step_size * *m / root;
        }
    }
}

/// The Euclidean norm of all values together, summed in f64. NaN or infinite if any value is.
#[must_use]
pub fn global_norm(tensors: &LoraTensors) -> f64 {
    tensors.values().map(|t| sum_of_squares(&t.data)).sum::<f64>().sqrt()
}

/// Scales gradients down to a norm of `max_norm` if theirs is larger, and returns their norm before
/// (as `clip_grad_norm_`: the factor is `max_norm / (norm + 1e-6)`, at most 1).
///
/// Gradients whose norm is not finite are left as they are; whoever sees that norm must not use
/// them.
pub fn clip(grads: &mut LoraTensors, max_norm: f64) -> f64 {
    let norm = global_norm(grads);
    let factor = max_norm / (norm + 1e-6);
    if norm.is_finite() && factor < 1.0 {
        let factor = narrow(factor);
        for grad in grads.values_mut() {
            grad.data.iter_mut().for_each(|g| *g *= factor);
        }
    }
    norm
}

/// The learning rate of an update, counted from 1.
///
/// Rises evenly over `warmup_steps` updates to the peak; then the schedule takes it to 0 just after
/// the last of `steps` updates, so every update of a run moves the parameters. 0 beyond, but for a
/// constant schedule.
#[must_use]
pub fn learning_rate(step: u64, settings: &TrainSettings) -> f32 {
    let (done, warmup) = (step.saturating_sub(1), settings.warmup_steps);
    let share = if done < warmup {
        ratio(done + 1, warmup)
    } else {
        let progress = ratio(done - warmup, settings.steps.saturating_sub(warmup)).min(1.0);
        match settings.lr_scheduler {
            Schedule::Linear => 1.0 - progress,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Schedule::Constant => 1.0,
        }
    };
    narrow(settings.learning_rate * share)
}

/// `part / whole`, 1 if there is no whole.
#[expect(clippy::cast_precision_loss, reason = "counts of steps")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// Eight running sums in a fixed order: fast, and the same on every run.
fn sum_of_squares(values: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    let chunks = values.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum += f64::from(x) * f64::from(x);
    }
    sums.iter().sum()
}

fn check_pairs(
    what: &'static str,
    params: &LoraTensors,
    others: &LoraTensors,
) -> Result<(), OptimizerError> {
    let alone = |a: &LoraTensors, b: &LoraTensors| a.keys().find(|k| !b.contains_key(k)).copied();
    if let Some(key) = alone(params, others).or_else(|| alone(others, params)) {
        return Err(OptimizerError::Unpaired { what, key });
    }
    for ((key, param), other) in params.iter().zip(others.values()) {
        let (expected, found) = ([param.rows, param.cols], [other.rows, other.cols]);
        if expected != found || param.data.len() != other.data.len() {
            return Err(OptimizerError::Shape { what, key: *key, expected, found });
        }
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "parameters are f32")]
const fn narrow(x: f64) -> f32 {
    x as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::arch::lora::{Factor, Matrix, Target};

    const KEYS: [LoraKey; 2] = [
        LoraKey { layer: 0, target: Target::Q, factor: Factor::A },
        LoraKey { layer: 1, target: Target::Down, factor: Factor::B },
    ];

    /// What `scripts/adamw_fixture.py` wrote.
    #[derive(Deserialize)]
    struct Fixture {
        shapes: Vec<[usize; 2]>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        beta1: f64,
        beta2: f64,
        eps: f64,
        weight_decay: f64,
        max_norm: f64,
        begin: Vec<Vec<f32>>,
        steps: Vec<Step>,
    }

    #[derive(Deserialize)]
    struct Step {
        learning_rate: f32,
        grads: Vec<Vec<f32>>,
        norm: f64,
        params: Vec<Vec<f32>>,
    }

    fn tensors(shapes: &[[usize; 2]], values: &[Vec<f32>]) -> LoraTensors {
        let matrix = |(&[rows, cols], data): (&[usize; 2], &Vec<f32>)| Matrix {
            rows,
            cols,
            data: data.clone(),
        };
        KEYS.into_iter().zip(shapes.iter().zip(values).map(matrix)).collect()
    }

    fn one(data: Vec<f32>) -> LoraTensors {
        [(KEYS[0], Matrix { rows: 1, cols: data.len(), data })].into()
    }

    #[test]
    fn updates_agree_with_pytorch() {
        let json = include_str!("../../tests/fixtures/adamw.json");
        let fixture: Fixture = serde_json::from_str(json).unwrap();
        for case in &fixture.cases {
            let Case { beta1, beta2, eps, weight_decay, .. } = *case;
            let settings = AdamSettings { beta1, beta2, eps, weight_decay };
            let mut params = tensors(&fixture.shapes, &case.begin);
            let mut adam = AdamW::new(&params);
            for step in &case.steps {
                let mut grads = tensors(&fixture.shapes, &step.grads);

                let norm = clip(&mut grads, case.max_norm);
                adam.update(&mut params, &grads, step.learning_rate, &settings).unwrap();

                assert!((norm - step.norm).abs() < 1e-6 * step.norm, "{norm} {}", step.norm);
                let wanted = step.params.iter().flatten();
                for (got, want) in params.values().flat_map(|p| &p.data).zip(wanted) {
                    assert!((got - want).abs() <= 1e-7 + 3e-7 * want.abs(), "{got} {want}");
                }
            }
            assert_eq!(adam.step, 4);
        }
    }

    #[test]
    fn clipping_brings_the_norm_down_and_never_up() {
        let mut grads = one(vec![3.0, 4.0]);

        assert_eq!(clip(&mut grads, 10.0), 5.0);
        assert_eq!(grads, one(vec![3.0, 4.0]));
        assert_eq!(clip(&mut grads, 1.0), 5.0);
        assert!((global_norm(&grads) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_norm_that_is_not_finite_is_reported_and_touches_nothing() {
        let mut grads = one(vec![1.0, f32::INFINITY]);

        assert_eq!(clip(&mut grads, 1.0), f64::INFINITY);
        assert_eq!(grads, one(vec![1.0, f32::INFINITY]));
        assert!(clip(&mut one(vec![f32::NAN]), 1.0).is_nan());
    }

    #[test]
    fn gradients_of_another_adapter_are_refused_and_nothing_changes() {
        let settings = TrainSettings::edge().adam();
        let mut params = one(vec![1.0, 2.0]);
        let mut adam = AdamW::new(&params);

        let shape = adam.update(&mut params, &one(vec![1.0]), 0.1, &settings);
        let names = adam.update(&mut params, &LoraTensors::new(), 0.1, &settings);

        assert!(matches!(shape, Err(OptimizerError::Shape { .. })), "{shape:?}");
        assert!(names.unwrap_err().to_string().contains("the gradient of layer 0 q_proj A"));
        assert_eq!((adam.step, &params), (0, &one(vec![1.0, 2.0])));
    }

    #[test]
    fn an_interrupted_run_ends_with_the_same_bits() {
        let settings = TrainSettings::edge().adam();
        let grads: Vec<LoraTensors> =
            (1..6u8).map(|i| one(vec![f32::from(i), -0.3, 0.01 / f32::from(i)])).collect();
        let start = one(vec![0.5, -0.25, 1.0]);
        let (mut straight, mut adam) = (start.clone(), AdamW::new(&start));
        for g in &grads {
            adam.update(&mut straight, g, 1e-2, &settings).unwrap();
        }

        let (mut resumed, mut first) = (start.clone(), AdamW::new(&start));
        for g in &grads[..2] {
            first.update(&mut resumed, g, 1e-2, &settings).unwrap();
        }
        let mut second = AdamW { m: first.m.clone(), v: first.v.clone(), step: first.step };
        for g in &grads[2..] {
            second.update(&mut resumed, g, 1e-2, &settings).unwrap();
        }

        assert_eq!((resumed, second), (straight, adam));
    }

    #[test]
    fn the_rate_warms_up_and_falls_to_its_last_useful_step() {
        let settings = |lr_scheduler| TrainSettings {
            learning_rate: 1.0,
            warmup_steps: 2,
            steps: 6,
            lr_scheduler,
            ..TrainSettings::edge()
        };
        let course = |lr_scheduler| {
            (1..=7).map(|i| learning_rate(i, &settings(lr_scheduler))).collect::<Vec<_>>()
        };

        assert_eq!(course(Schedule::Linear), [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(course(Schedule::Constant), [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        let cosine = course(Schedule::Cosine);
        assert!((cosine[4] - 0.5).abs() < 1e-6 && cosine[6] == 0.0, "{cosine:?}");
    }

    proptest! {
        #[test]
        fn the_rate_stays_between_zero_and_its_peak(
            step in 0u64..500, warmup_steps in 0u64..100, steps in 1u64..300,
        ) {
            for lr_scheduler in [Schedule::Linear, Schedule::Cosine, Schedule::Constant] {
                let settings = TrainSettings { warmup_steps, steps, lr_scheduler, ..TrainSettings::edge() };
                let rate = learning_rate(step, &settings);
                prop_assert!((0.0..=1e-4).contains(&rate), "{rate}");
                prop_assert!(step == 0 || step > steps || rate > 0.0, "{rate}");
            }
        }

        #[test]
        fn the_norm_agrees_with_a_plain_sum(data in prop::collection::vec(-3.0f32..3.0, 0..40)) {
            let plain = data.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            prop_assert!((global_norm(&one(data)) - plain).abs() < 1e-9);
        }
    }
}
