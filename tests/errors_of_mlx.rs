//! An operation that MLX can only refuse while it computes is an error, in whichever thread, and nothing more.

use mlx_gpt::device::Compute;
use mlx_rs::Array;
use mlx_rs::linalg::inv;
use mlx_rs::transforms::eval;

/// A matrix of zeros has no inverse.
fn fails() {
    let zeros = Array::zeros::<f32>(&[2, 2]).unwrap();
    let error = inv(&zeros).and_then(|inverse| eval([&inverse])).unwrap_err();
    assert!(error.what().contains("Inverse"), "{error}");
}

fn works() {
    let matrix = Array::from_slice(&[4.0f32, 0.0, 0.0, 2.0], &[2, 2]);
    assert_eq!(
        inv(&matrix).unwrap().to_vec_exact::<f32>().unwrap(),
        [0.25, 0.0, 0.0, 0.5]
    );
}

#[test]
fn an_operation_that_fails_is_an_error_and_what_follows_works() {
    Compute::Cpu.select().unwrap();
    for _ in 0..30 {
        fails();
        works();
    }
    // Neither is it another thread's error.
    std::thread::spawn(fails).join().unwrap();
    works();
}
