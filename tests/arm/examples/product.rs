//! Does one product, for benches/arm.py to count its instructions: `product fast|exact|transposed TYPE ROWS TILES`,
//! with 1,024 columns and 16 rows of weights in a tile.

use std::env::args;
use std::process::ExitCode;

use latrod_arm::gguf::GgmlType;
use latrod_arm::kernels::{Compute, PackedMatrix, threads};

const COLS: usize = 1024;
const TYPES: u32 = 64;

fn main() -> ExitCode {
    let args: Vec<String> = args().collect();
    let [_, kind, ty, rows, tiles] = &args[..] else {
        eprintln!("product: give fast, exact or transposed, a type, rows and tiles");
        return ExitCode::from(64);
    };
    let known = (0..TYPES).map(GgmlType::from_u32).find(|t| t.name() == ty.as_str());
    let block = known.and_then(|t| Some((t, t.block_values()?, t.block_bytes()?)));
    let (Some((known, values, bytes)), Ok(rows), Ok(tiles)) =
        (block, rows.parse::<usize>(), tiles.parse::<usize>())
    else {
        eprintln!("product: {ty} is not a type, or {rows} or {tiles} is not a number");
        return ExitCode::from(64);
    };
    threads::start(1);
    let weights = 16 * tiles;
    let file = vec![0; weights * COLS / values * bytes];
    let w =
        PackedMatrix::pack(known, weights, COLS, &file).expect("the bytes have the right length");
    // Blocks of zeros would be left out.
    let x: Vec<f32> = (0..rows * COLS.max(weights)).map(|i| (i % 7) as f32 + 1.0).collect();
    let mut y = vec![0.0; rows * COLS.max(weights)];
    let (wide, narrow) = (rows * COLS, rows * weights);
    match kind.as_str() {
        "fast" => w.matmul(Compute::Fast, &x[..wide], rows, &mut y[..narrow]),
        "exact" => w.matmul(Compute::Exact, &x[..wide], rows, &mut y[..narrow]),
        "transposed" => {
            w.matmul_transposed(Compute::Exact, &x[..narrow], rows, &mut y[..wide], false);
        }
        _ => {
            eprintln!("product: {kind} is not fast, exact or transposed");
            return ExitCode::from(64);
        }
    }
    println!("{}", y[0]);
    ExitCode::SUCCESS
}
