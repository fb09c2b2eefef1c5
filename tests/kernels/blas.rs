//! Which of OpenBLAS's kernels compute.

use serde_json::Value;

use super::{doctor, line};
use crate::common::{folder, mlx_gpt, stderr, stdout, succeed, train_tiny};

#[test]
fn doctor_says_which_and_how_fast() {
    let folder = folder();
    let said = stdout(&succeed(doctor(folder.path()).env_remove("OPENBLAS_CORETYPE")));
    let blas = line(&said, "BLAS");
    assert!(blas.contains("OpenBLAS 0.3") && blas.contains("GFLOP/s"), "{blas}");
}

/// `OPENBLAS_CORETYPE` makes OpenBLAS take what it takes on a processor that it does not know: kernels of 2004.
#[cfg(target_arch = "x86_64")]
#[test]
fn an_unknown_processor_is_noticed() {
    let folder = folder();
    let unknown = |command: &mut std::process::Command| {
        command.env("OPENBLAS_CORETYPE", "Prescott");
    };
    let mut looked = doctor(folder.path());
    unknown(&mut looked);
    let output = looked.output().unwrap();
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let blas = line(&said, "BLAS");
    assert!(
        blas.contains("PROBLEM") && blas.contains("not made for this processor"),
        "{blas}"
    );
    assert!(said.contains("fix it with: unset OPENBLAS_CORETYPE"), "{said}");

    let mut bench = mlx_gpt(folder.path());
    bench.args("bench --device cpu --preset nano --only generation --steps 1".split(' '));
    assert!(!stderr(&succeed(&mut bench)).contains("not made for this processor"));
    unknown(&mut bench);
    let said = stderr(&succeed(&mut bench));
    assert!(
        said.contains("warning") && said.contains("not made for this processor"),
        "{said}"
    );

    // A run records it, and one that goes on says that it is another.
    succeed(&mut train_tiny(folder.path(), &["--out", "run", "--steps", "2"]));
    let mut resume = mlx_gpt(folder.path());
    resume.args(["train", "--resume", "run", "--steps", "3"]);
    unknown(&mut resume);
    let said = stderr(&succeed(&mut resume));
    assert!(said.contains("changed  BLAS OpenBLAS"), "{said}");
    let state = std::fs::read(folder.path().join("run/latest/state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    assert!(!state["arithmetic"]["BLAS"].as_str().unwrap().is_empty(), "{state}");
}
