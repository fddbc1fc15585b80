//! Linear layers: frozen quantized weights and, beside them, trainable LoRA updates
//! (Hu et al. 2021, arXiv 2106.09685). Layers that share their input are computed together.

use crate::kernels::elementwise::scale;
use crate::kernels::gemm::{MatRef, gemm};
use crate::kernels::{Compute, Floats, PackedMatrix, Panels, Product, Update, matmul_shared};

/// The most layers that share an input: q, k and v.
pub const MOST: usize = 3;

/// The factors `A: [rank, in]` and `B: [out, rank]` of one layer.
#[derive(Debug, Clone, Copy)]
pub struct Factors<'a> {
    pub rank: usize,
    pub a: &'a [f32],
    pub b: &'a [f32],
}

/// The updates `scale · B·A` of layers that share their input.
#[derive(Debug, Clone)]
pub struct LoraGroup {
    /// All A, one below the other: `[Σ rank, in]`.
    a: Panels,
    layers: [Option<LayerUpdate>; MOST],
    scale: f32,
}

#[derive(Debug, Clone)]
struct LayerUpdate {
    /// The first of its rows in `a`.
    first: usize,
    rank: usize,
    /// scale · B: `[out, rank]`
    b: Panels,
}

impl LoraGroup {
    /// Packs the factors of the layers with `input` columns that have any; `None` if none has.
    #[must_use]
    pub fn new(layers: &[Option<Factors<'_>>], input: usize, scale: f32) -> Option<Self> {
        let all: Vec<&[f32]> = layers.iter().flatten().map(|f| f.a).collect();
        if all.is_empty() {
            return None;
        }
        let mut group =
            Self { a: Panels::pack(&all, input, 1.0), layers: [const { None }; MOST], scale };
        let mut first = 0;
        for (update, factors) in group.layers.iter_mut().zip(layers) {
            if let Some(Factors { rank, b, .. }) = *factors {
                *update = Some(LayerUpdate { first, rank, b: Panels::pack(&[b], rank, scale) });
                first += rank;
            }
        }
        Some(group)
    }
}

/// A frozen layer and how it is computed.
pub type Layer<'a> = (&'a PackedMatrix, Compute);

/// Gradients of one layer's factors, which are added to.
pub struct FactorGradients<'a> {
    /// `[rank, in]`
    pub a: &'a mut [f32],
    /// `[out, rank]`
    pub b: &'a mut [f32],
}

impl FactorGradients<'_> {
    /// The same places, borrowed for a while.
    pub fn reborrow(&mut self) -> FactorGradients<'_> {
        FactorGradients { a: self.a, b: self.b }
    }
}

/// `yᵢ = x·Wᵢᵀ + scale·(x·Aᵢᵀ)·Bᵢᵀ` for layers that share `x: [rows, in]`; `h` is
/// memory for x·Aᵀ.
///
/// # Panics
/// If the shapes don't fit together.
pub fn forward(
    layers: &[Layer<'_>],
    lora: Option<&LoraGroup>,
    (x, rows): (&[f32], usize),
    h: &mut Floats,
    y: &mut [&mut [f32]],
) {
    assert_eq!(layers.len(), y.len(), "as many layers as results");
    if let Some(lora) = lora {
        h.resize(rows * lora.a.rows());
        lora.a.matmul(computed(layers), x, rows, h, false);
    }
    let h = &h[..];
    let update = |i: usize| {
        let lora = lora.filter(|_| rows > 0)?;
        let LayerUpdate { first, b, .. } = lora.layers[i].as_ref()?;
        Some(Update { h: &h[*first..], stride: lora.a.rows(), b })
    };
    let mut products: Vec<Product<'_>> = layers
        .iter()
        .zip(y)
        .enumerate()
        .map(|(i, (&(w, compute), y))| Product { w, compute, y, update: update(i) })
        .collect();
    matmul_shared(x, rows, &mut products);
}

/// The gradient of [`forward`]'s input from `g`, the gradients of its results: `dx = Σ g·W + dh·A`,
/// which is overwritten; `dh = scale·g·B`, `[rows, Σ rank]`, is left for [`factor_gradients`].
///
/// # Panics
/// If the shapes don't fit together.
pub fn input_gradient(
    layers: &[Layer<'_>],
    lora: Option<&LoraGroup>,
    g: &[&[f32]],
    rows: usize,
    (dx, dh): (&mut [f32], &mut Floats),
) {
    for (i, ((w, compute), g)) in layers.iter().zip(g).enumerate() {
        w.matmul_transposed(*compute, g, rows, dx, i > 0);
    }
    let Some(lora) = lora else { return };
    let (ranks, compute) = (lora.a.rows(), computed(layers));
    dh.resize(rows * ranks);
    for (LayerUpdate { first, rank, b }, g) in lora.layers.iter().zip(g).filter_map(present) {
        let mut part = Floats::zeroed(rows * rank);
        b.transposed().matmul(compute, g, rows, &mut part, false);
        for (to, from) in dh.chunks_exact_mut(ranks).zip(part.chunks_exact(*rank)) {
            to[*first..first + rank].copy_from_slice(from);
        }
    }
    lora.a.transposed().matmul(compute, dh, rows, dx, true);
}

/// Adds the gradients of [`forward`]'s factors to `gradients`: `dB = scale·gᵀ·(x·Aᵀ)`, `dA = dhᵀ·x`,
/// with `dh` from [`input_gradient`].
///
/// # Panics
/// If the shapes don't fit together or a layer with LoRA has no gradients to add to.
pub fn factor_gradients<'a>(
    layers: &[Layer<'_>],
    lora: Option<&LoraGroup>,
    (x, rows): (&[f32], usize),
    g: &[&[f32]],
    dh: &[f32],
    gradients: impl IntoIterator<Item = Option<FactorGradients<'a>>>,
) {
    let Some(lora) = lora else { return };
    let (ranks, input, compute) = (lora.a.rows(), lora.a.cols(), computed(layers));
    let mut h = Floats::zeroed(rows * ranks);
    lora.a.matmul(compute, x, rows, &mut h, false);
    scale(&mut h, lora.scale);
    let x = MatRef::new(x, rows, input, input);
    let mut turned = Floats::default();
    for ((update, g), gradients) in lora.layers.iter().zip(g).zip(gradients) {
        let Some(LayerUpdate { first, rank, b }) = update else { continue };
        let (gradients, out) = (gradients.expect("gradients for every factor"), b.rows());
        let g = MatRef::new(g, rows, out, out);
        let h = MatRef::new(&h[*first..], rows, *rank, ranks);
        // The wide operand on the right, where it is read as it lies in memory.
        turned.resize(rank * out);
        gemm(compute, (&mut turned, out), false, h.t(), g, true);
        for (r, turned) in turned.chunks_exact(out).enumerate() {
            let column = gradients.b.iter_mut().skip(r).step_by(*rank);
            column.zip(turned).for_each(|(to, from)| *to += from);
        }
        let dh = MatRef::new(&dh[*first..], rows, *rank, ranks);
        gemm(compute, (gradients.a, input), true, dh.t(), x, true);
    }
}

/// How what LoRA adds to layers is computed.
fn computed(layers: &[Layer<'_>]) -> Compute {
    layers.first().map_or(Compute::Exact, |(_, compute)| *compute)
}

/// A layer's update with what belongs to the layer, if it has one.
fn present<T>((update, other): (&Option<LayerUpdate>, T)) -> Option<(&LayerUpdate, T)> {
    Some((update.as_ref()?, other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::GgmlType;
    use crate::ops::check;

    const ROWS: usize = 3;
    const INPUT: usize = 32;
    const RANK: usize = 2;

    fn weight(out: usize, seed: u64) -> PackedMatrix {
        let values = check::numbers(out * INPUT, seed);
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        PackedMatrix::pack(GgmlType::F32, out, INPUT, &bytes).unwrap()
    }

    /// Where x, the first layer's A and B, and the third's stand among all numbers.
    fn split(all: &[f32]) -> (&[f32], Factors<'_>, Factors<'_>) {
        let (x, rest) = all.split_at(ROWS * INPUT);
        let (a, rest) = rest.split_at(RANK * INPUT);
        let (b, rest) = rest.split_at(5 * RANK);
        let (a3, b3) = rest.split_at(RANK * INPUT);
        (x, Factors { rank: RANK, a, b }, Factors { rank: RANK, a: a3, b: b3 })
    }

    /// Three layers of 5, 4 and 3 rows; the first and the last have LoRA.
    #[test]
    fn gradients_agree_with_finite_differences() {
        let w = [weight(5, 1), weight(4, 2), weight(3, 3)];
        let layers = || [0, 1, 2].map(|i| (&w[i], Compute::Exact));
        let group = |all: &[f32]| {
            let (_, first, third) = split(all);
            LoraGroup::new(&[Some(first), None, Some(third)], INPUT, 0.5).unwrap()
        };
        let y = |all: &[f32]| {
            let mut h = Floats::default();
            let (mut p, mut q, mut r) = (vec![0.0; 15], vec![0.0; 12], vec![0.0; 9]);
            let x = (split(all).0, ROWS);
            forward(&layers(), Some(&group(all)), x, &mut h, &mut [&mut p, &mut q, &mut r]);
            [p, q, r].concat()
        };
        let all = check::numbers(ROWS * INPUT + 2 * RANK * INPUT + (5 + 3) * RANK, 4);
        let gradient = |all: &[f32], g: &[f32]| {
            let (lora, x) = (group(all), split(all).0);
            let (mut dx, mut dh) = (vec![9.0; x.len()], Floats::default());
            let (mut da, mut db) = (vec![0.0; 64], vec![0.0; 10]);
            let (mut da3, mut db3) = (vec![0.0; 64], vec![0.0; 6]);
            let gradients = [
                Some(FactorGradients { a: &mut da, b: &mut db }),
                None,
                Some(FactorGradients { a: &mut da3, b: &mut db3 }),
            ];
            let g = &[&g[..15], &g[15..27], &g[27..]];
            input_gradient(&layers(), Some(&lora), g, ROWS, (&mut dx, &mut dh));
            factor_gradients(&layers(), Some(&lora), (x, ROWS), g, &dh, gradients);
            [dx, da, db, da3, db3].concat()
        };

        check::gradient(&all, y, gradient);
    }

    #[test]
    fn without_lora_a_layer_is_its_weight() {
        let w = weight(5, 1);
        let x = check::numbers(ROWS * INPUT, 7);
        let (mut y, mut wanted) = (vec![0.0; 15], vec![0.0; 15]);
        w.matmul(Compute::Exact, &x, ROWS, &mut wanted);

        let mut h = Floats::default();
        forward(&[(&w, Compute::Exact)], None, (&x, ROWS), &mut h, &mut [&mut y]);

        assert_eq!(y, wanted);
    }
}
