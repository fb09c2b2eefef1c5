//! An operation that MLX can only refuse while it computes is an error, in whichever thread, and nothing more.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use mlx_gpt::config::Device;
use mlx_rs::Array;
use mlx_rs::fast::scaled_dot_product_attention;
use mlx_rs::linalg::inv;
use mlx_rs::memory::set_memory_limit;
use mlx_rs::transforms::eval;

/// A matrix of zeros has no inverse; what was asked for beside it is computed.
fn fails() {
    let zeros = Array::zeros::<f32>(&[2, 2]).unwrap();
    let (inverse, ones) = (inv(&zeros).unwrap(), zeros.exp().unwrap());
    let error = eval([&inverse, &ones]).unwrap_err();
    assert!(error.what().contains("Inverse"), "{error}");
    assert_eq!(ones.to_vec_exact::<f32>().unwrap(), [1.0; 4]);
}

fn works() {
    let matrix = Array::from_slice(&[4.0f32, 0.0, 0.0, 2.0], &[2, 2]);
    let inverse = inv(&matrix).unwrap().to_vec_exact::<f32>().unwrap();
    assert_eq!(inverse, [0.25, 0.0, 0.0, 0.5]);
}

/// What does not fit together is refused before anything is computed: more keys than values, other batches, widths and heads.
#[test]
fn attention_over_arrays_that_do_not_fit_is_refused() {
    Device::Cpu.select().unwrap();
    let attend = |shapes: [[i32; 4]; 3]| {
        let [q, k, v] = shapes.map(|shape| Array::ones::<f32>(&shape).unwrap());
        scaled_dot_product_attention(&q, &k, &v, 1.0, None, None)
    };
    let fits = [[2, 4, 3, 8], [2, 2, 5, 8], [2, 2, 5, 8]];
    assert_eq!(attend(fits).unwrap().shape(), [2, 4, 3, 8]);
    for (array, axis, length) in [
        (0, 0, 3), // batches
        (1, 0, 1),
        (2, 0, 3),
        (0, 1, 3), // heads
        (1, 1, 3),
        (1, 1, 8),
        (2, 1, 1),
        (1, 2, 4), // lengths
        (2, 2, 6),
        (0, 3, 16), // widths
        (1, 3, 4),
    ] {
        let mut shapes = fits;
        shapes[array][axis] = length;
        assert!(attend(shapes).is_err(), "{shapes:?}");
    }
}

#[test]
fn an_operation_that_fails_is_an_error_and_what_follows_works() {
    Device::Cpu.select().unwrap();
    // In threads, so that waiting for ever is a failure as well.
    let (outbox, done) = channel();
    thread::spawn(move || {
        for _ in 0..30 {
            fails();
            works();
        }
        // Beyond the limit MLX waits until operations that are under way have ended: none may seem to be.
        set_memory_limit(1).unwrap();
        works();
        thread::spawn(works).join().unwrap(); // neither is it another thread's error
        outbox.send(()).unwrap();
    });
    done.recv_timeout(Duration::from_secs(60)).unwrap();
}
