//! Vector loops of the transformer: dot products, exponentials, softmax, SiLU.
//!
//! Each function is plain Rust that the compiler vectorizes, compiled a second and third time for
//! wider registers and chosen at run time.

/// Compiles the body for AVX-512, AVX2 and the baseline, and picks one at run time.
macro_rules! multiversion {
    ($(#[$doc:meta])* pub fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$doc])*
        pub fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }

                if is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                {
                    // SAFETY: the processor has the features that the function was compiled for
                    // (avx512f and fma are implied by the ones asked for).
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: as above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}

/// Independent partial sums, so that a sum of f32 may be vectorized without reordering freely.
const LANES: usize = 32;

#[inline(always)]
fn lane_sum(lanes: [f32; LANES]) -> f32 {
    let mut width = LANES;
    let mut lanes = lanes;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

/// e^x for x ≤ 0 … about 88, within 2 units in the last place; 0 below −87.
///
/// Cody–Waite reduction to |r| ≤ ln 2 / 2 and a polynomial of degree 6 (Cephes `expf`).
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LOG2E: f32 = std::f32::consts::LOG2_E;
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    // Comparisons that leave NaN as it is and become one instruction each.
    let above = if x < -87.0 { -87.0 } else { x };
    let clamped = if above > 88.0 { 88.0 } else { above };
    // Adding 1.5 · 2^23 rounds to the nearest integer, which then stands in the lowest bits.
    let shifted = clamped * LOG2E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = clamped - n * LN2_HI - n * LN2_LO;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let e = p * r * r + r + 1.0;
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.0 { 0.0 } else { e * scale }
}

multiversion! {
    /// Σ aᵢ·bᵢ over the shorter of the two.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        let n = a.len().min(b.len());
        let (a, b) = (&a[..n], &b[..n]);
        let mut lanes = [0.0; LANES];
        let (ca, cb) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
        let tail: f32 = ca.remainder().iter().zip(cb.remainder()).map(|(x, y)| x * y).sum();
        for (x, y) in ca.zip(cb) {
            for i in 0..LANES {
                lanes[i] = x[i].mul_add(y[i], lanes[i]);
            }
        }
        lane_sum(lanes) + tail
    }
}

multiversion! {
    /// yᵢ += alpha·xᵢ
    pub fn axpy(alpha: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = alpha.mul_add(*x, *y);
        }
    }
}

multiversion! {
    /// The largest value, or −∞ for an empty slice. NaN is ignored.
    pub fn max(x: &[f32]) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let chunks = x.chunks_exact(LANES);
        let tail = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for c in chunks {
            for i in 0..LANES {
                lanes[i] = if c[i] > lanes[i] { c[i] } else { lanes[i] };
            }
        }
        lanes.into_iter().fold(tail, f32::max)
    }
}

multiversion! {
    /// Replaces xᵢ by e^(scale·(xᵢ − max)) and returns their sum.
    pub fn exp_shifted(x: &mut [f32], scale: f32, max: f32) -> f32 {
        let mut lanes = [0.0; LANES];
        let mut chunks = x.chunks_exact_mut(LANES);
        for c in &mut chunks {
            for i in 0..LANES {
                c[i] = exp((c[i] - max) * scale);
                lanes[i] += c[i];
            }
        }
        let mut tail = 0.0;
        for v in chunks.into_remainder() {
            *v = exp((*v - max) * scale);
            tail += *v;
        }
        lane_sum(lanes) + tail
    }
}

multiversion! {
    /// Replaces xᵢ by eᵢ = e^(xᵢ − max) and returns Σ eᵢ and Σ eᵢ·(xᵢ − max).
    pub fn exp_moments(x: &mut [f32], max: f32) -> (f32, f32) {
        let (mut sums, mut weighted) = ([0.0; LANES], [0.0; LANES]);
        let mut chunks = x.chunks_exact_mut(LANES);
        for c in &mut chunks {
            for i in 0..LANES {
                let shifted = (c[i] - max).max(-87.0);
                c[i] = exp(shifted);
                sums[i] += c[i];
                weighted[i] += c[i] * shifted;
            }
        }
        let (mut sum, mut moment) = (0.0, 0.0);
        for v in chunks.into_remainder() {
            let shifted = (*v - max).max(-87.0);
            *v = exp(shifted);
            sum += *v;
            moment += *v * shifted;
        }
        (lane_sum(sums) + sum, lane_sum(weighted) + moment)
    }
}

multiversion! {
    /// Σ xᵢ
    pub fn sum(x: &[f32]) -> f32 {
        let mut lanes = [0.0; LANES];
        let chunks = x.chunks_exact(LANES);
        let tail: f32 = chunks.remainder().iter().sum();
        for c in chunks {
            for i in 0..LANES {
                lanes[i] += c[i];
            }
        }
        lane_sum(lanes) + tail
    }
}

multiversion! {
    /// Converts finite IEEE 754 half precision numbers exactly.
    pub fn widen(halves: &[u16], to: &mut [f32]) {
        // The exponent's offset is 127 instead of 15, which a multiplication corrects, for
        // subnormal numbers as well.
        let factor = f32::from_bits((127 + 127 - 15) << 23);
        for (to, half) in to.iter_mut().zip(halves) {
            let bits = u32::from(*half);
            let size = f32::from_bits((bits & 0x7fff) << 13) * factor;
            *to = f32::from_bits(size.to_bits() | (bits & 0x8000) << 16);
        }
    }
}

multiversion! {
    /// yᵢ += xᵢ
    pub fn add(x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

multiversion! {
    /// xᵢ *= alpha
    pub fn scale(x: &mut [f32], alpha: f32) {
        for v in x {
            *v *= alpha;
        }
    }
}

multiversion! {
    /// SwiGLU: gateᵢ becomes gateᵢ·σ(gateᵢ)·upᵢ (Shazeer 2020, arXiv 2002.05202)
    pub fn swiglu(gate: &mut [f32], up: &[f32]) {
        for (g, u) in gate.iter_mut().zip(up) {
            *g = *g / (1.0 + exp(-*g)) * u;
        }
    }
}

multiversion! {
    /// Gradients of [`swiglu`]: `d` is that of the output; `gate` and `up` are replaced by theirs,
    /// and `d` by the output.
    pub fn swiglu_backward(gate: &mut [f32], up: &mut [f32], d: &mut [f32]) {
        for ((g, u), d) in gate.iter_mut().zip(up.iter_mut()).zip(d.iter_mut()) {
            let (gate, up, grad) = (*g, *u, *d);
            let sigmoid = 1.0 / (1.0 + exp(-gate));
            *g = grad * up * sigmoid * (1.0 + gate * (1.0 - sigmoid));
            *u = grad * gate * sigmoid;
            *d = gate * sigmoid * up;
        }
    }
}

/// Softmax of `scale · x` in place; returns the logarithm of the normalizer, log Σ e^(scale·xᵢ).
pub fn softmax(x: &mut [f32], factor: f32) -> f32 {
    let peak = max(x);
    let sum = exp_shifted(x, factor, peak);
    scale(x, 1.0 / sum);
    factor * peak + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 60.0).collect()
    }

    #[test]
    fn exp_is_close_to_f64_over_its_range() {
        for i in -8600..=8700 {
            let x = i as f32 / 100.0;
            let wanted = f64::from(x).exp();
            assert!((f64::from(exp(x)) / wanted - 1.0).abs() < 4e-7, "{x}");
        }
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn every_finite_half_is_widened_exactly() {
        let all: Vec<u16> =
            (0..=u16::MAX).filter(|bits| half::f16::from_bits(*bits).is_finite()).collect();
        let mut wide = vec![0.0; all.len()];
        widen(&all, &mut wide);
        for (bits, wide) in all.iter().zip(wide) {
            assert_eq!(wide.to_bits(), half::f16::from_bits(*bits).to_f32().to_bits());
        }
    }

    #[test]
    fn loops_agree_with_f64_at_every_length_around_the_vector_width() {
        for n in [0, 1, 31, 32, 33, 64, 100, 576] {
            let (a, b) = (numbers(n), numbers(n + 5)[5..].to_vec());
            let wide = |x: &f32| f64::from(*x);
            let wanted: f64 = a.iter().zip(&b).map(|(x, y)| wide(x) * wide(y)).sum();
            assert!((f64::from(dot(&a, &b)) - wanted).abs() < 1e-2, "dot {n}");

            if n > 0 {
                let mut p = a.clone();
                let log_z = softmax(&mut p, 0.5);
                let z: f64 = a.iter().map(|x| (0.5 * wide(x)).exp()).sum();
                assert!((f64::from(log_z) - z.ln()).abs() < 1e-5, "log normalizer {n}");
                for (p, x) in p.iter().zip(&a) {
                    assert!((wide(p) - (0.5 * wide(x)).exp() / z).abs() < 1e-6, "softmax {n}");
                }
            }

            let mut out = a.clone();
            swiglu(&mut out, &b);
            for i in 0..n {
                let wanted = wide(&a[i]) / (1.0 + (-wide(&a[i])).exp()) * wide(&b[i]);
                assert!((wide(&out[i]) - wanted).abs() < 1e-5, "swiglu {n}");
            }
        }
    }
}
