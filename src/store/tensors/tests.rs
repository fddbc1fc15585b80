use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::*;

fn matrix(rows: usize, cols: usize, data: &[f32]) -> Matrix {
    Matrix { rows, cols, data: data.to_vec() }
}

/// A safetensors file of `header` and `data`, whatever they say.
fn raw_file(header: &str, data: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.write_all(data).unwrap();
    file
}

#[test]
fn the_safetensors_crate_reads_what_is_written_here() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.safetensors");
    let tensors = BTreeMap::from([
        ("b".to_owned(), matrix(1, 2, &[5.0, 6.0])),
        ("a".to_owned(), matrix(2, 1, &[7.0, 8.0])),
    ]);

    write_safetensors(&path, &tensors).unwrap();

    let bytes = fs::read(&path).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(read.tensor("a").unwrap().shape(), [2, 1]);
    assert_eq!(read.tensor("b").unwrap().data()[..4], 5f32.to_le_bytes());
    assert_eq!(read_safetensors(&path).unwrap(), tensors);
}

#[test]
fn half_precision_is_widened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.safetensors");
    let f16s: Vec<u8> = [0.5, -2.0].map(|v| f16::from_f32(v).to_le_bytes()).concat();
    let bf16s: Vec<u8> = [0.25, 3.0].map(|v| bf16::from_f32(v).to_le_bytes()).concat();
    let views = [
        ("f16", TensorView::new(Dtype::F16, vec![1, 2], &f16s).unwrap()),
        ("bf16", TensorView::new(Dtype::BF16, vec![2, 1], &bf16s).unwrap()),
    ];
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();

    let read = read_safetensors(&path).unwrap();

    assert_eq!(read["f16"], matrix(1, 2, &[0.5, -2.0]));
    assert_eq!(read["bf16"], matrix(2, 1, &[0.25, 3.0]));
}

#[test]
fn every_bit_of_an_f32_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.safetensors");
    let bits = [0x7f80_0001, 0xffc1_2345, 0x8000_0000, 0x0000_0001, 0x7f7f_ffff];
    let data = bits.map(f32::from_bits);
    write_safetensors(&path, &BTreeMap::from([("x".into(), matrix(1, 5, &data))])).unwrap();

    let read = read_safetensors(&path).unwrap();

    assert_eq!(read["x"].data.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), bits);
}

#[test]
fn sizes_that_add_up_beyond_the_address_space_are_an_error() {
    let (mut header, mut offset) = (String::from("{"), 0_u128);
    for (n, size) in [(1_u128 << 61) - 1; 8].into_iter().chain([7]).enumerate() {
        let end = offset + size;
        let comma = if n == 0 { "" } else { "," };
        write!(
            header,
            r#"{comma}"t{n}":{{"dtype":"U8","shape":[{size}],"data_offsets":[{offset},{end}]}}"#
        )
        .unwrap();
        offset = end;
    }
    header.push('}');

    let error = read_safetensors(raw_file(&header, &[0; 100]).path()).unwrap_err();

    assert!(error.to_string().contains("damaged"), "{error}");
}

#[test]
fn what_is_no_matrix_is_named() {
    let vector = r#"{"v":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let ints = r#"{"i":{"dtype":"I32","shape":[1,1],"data_offsets":[0,4]}}"#;

    let error = read_safetensors(raw_file(vector, &[0; 4]).path()).unwrap_err();
    assert!(error.to_string().contains("tensor v"), "{error}");
    let error = read_safetensors(raw_file(ints, &[0; 4]).path()).unwrap_err();
    assert!(error.to_string().contains("I32"), "{error}");
}

#[test]
fn a_matrix_that_contradicts_itself_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.safetensors");
    let tensors = BTreeMap::from([("x".to_owned(), matrix(2, 2, &[1.0]))]);

    assert!(write_safetensors(&path, &tensors).is_err());

    assert!(!path.exists());
}
