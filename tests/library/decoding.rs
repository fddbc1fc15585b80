//! Types are as large and weights decode to the same bits as in candle.

use candle_core::quantized::{GgmlDType, ggml_file::qtensor_from_ggml};
use candle_core::{DType, Device};
use latrod::gguf::GgmlType;
use latrod::kernels::PackedMatrix;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

#[path = "../../src/kernels/tests/samples.rs"]
mod samples;

/// The type by candle's name.
fn twin(ty: GgmlType) -> GgmlDType {
    match ty {
        GgmlType::F32 => GgmlDType::F32,
        GgmlType::F16 => GgmlDType::F16,
        GgmlType::BF16 => GgmlDType::BF16,
        GgmlType::Q4_0 => GgmlDType::Q4_0,
        GgmlType::Q4_1 => GgmlDType::Q4_1,
        GgmlType::Q5_0 => GgmlDType::Q5_0,
        GgmlType::Q5_1 => GgmlDType::Q5_1,
        GgmlType::Q8_0 => GgmlDType::Q8_0,
        GgmlType::Q2K => GgmlDType::Q2K,
        GgmlType::Q3K => GgmlDType::Q3K,
        GgmlType::Q4K => GgmlDType::Q4K,
        GgmlType::Q5K => GgmlDType::Q5K,
        GgmlType::Q6K => GgmlDType::Q6K,
        GgmlType::Other(number) => panic!("type {number} has no kernels"),
    }
}

/// What candle makes of a file's bytes: `[rows, cols]`.
fn candles(ty: GgmlType, rows: usize, cols: usize, bytes: &[u8]) -> Vec<f32> {
    let tensor = qtensor_from_ggml(twin(ty), bytes, vec![rows, cols], &Device::Cpu).unwrap();
    let tensor = tensor.dequantize(&Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn block_geometry_agrees_with_candle() {
    for kind in samples::QUANTIZED.iter().chain(&samples::FLOATS) {
        let (ours, candles) = (kind.ty, twin(kind.ty));
        assert_eq!(ours.block_values(), Some(candles.block_size()), "{ours}");
        assert_eq!(ours.block_bytes(), Some(candles.type_size()), "{ours}");
    }
}

#[test]
fn decoded_rows_equal_candles_to_the_bit() {
    for kind in samples::QUANTIZED.iter().chain(&samples::FLOATS) {
        for rows in [1, 16, 17] {
            let cols = 512;
            let mut rng = ChaCha8Rng::seed_from_u64(7);
            let bytes = samples::file_bytes(&mut rng, kind, rows, cols);
            let packed = PackedMatrix::pack(kind.ty, rows, cols, &bytes).unwrap();
            let expected = candles(kind.ty, rows, cols, &bytes);
            let mut row = vec![0.0; cols];
            for (r, expected) in expected.chunks_exact(cols).enumerate() {
                packed.decode_row(r, &mut row);
                assert_eq!(row, expected, "{:?}, row {r} of {rows}", kind.ty);
            }
        }
    }
}
