//! An operation that MLX can only refuse while it computes is an error, in whichever thread, and nothing more.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use mlx_gpt::config::Device;
use mlx_rs::Array;
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
