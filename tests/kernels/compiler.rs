//! What compiles MLX's fused kernels, and whose environment it is.

use super::{doctor, library, line};
use crate::common::{fail, folder, mlx_gpt, stderr, stdout, succeed, train_tiny};

#[test]
fn without_a_compiler_doctor_the_run_and_a_resume_say_so() {
    let folder = folder();
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert!(line(&stdout(&succeed(&mut doctor(folder.path()))), "compiler").contains("g++"));
    let output = doctor(folder.path()).env("PATH", &empty).output().unwrap();
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let compiler = line(&said, "compiler");
    assert!(
        compiler.contains("PROBLEM") && compiler.contains("half the speed"),
        "{compiler}"
    );
    assert!(said.contains("fix it with: make setup"), "{said}");

    let said = stderr(&succeed(&mut train_tiny(
        folder.path(),
        &["--out", "run", "--steps", "2"],
    )));
    assert!(!said.contains("no g++"), "{said}");
    let mut resume = mlx_gpt(folder.path());
    resume
        .args(["train", "--resume", "run", "--steps", "3"])
        .env("PATH", &empty);
    let said = stderr(&succeed(&mut resume));
    assert!(said.contains("warning  there is no g++ on PATH"), "{said}");
    assert!(
        said.contains("changed  compiler g++") && said.contains("is now none"),
        "{said}"
    );
}

/// Only the compiler is told of the folder for kernels: what else makes temporary files does as `TMPDIR` says.
#[test]
fn temporary_files_of_the_program_go_where_tmpdir_says() {
    let folder = folder();
    let bench = |temporary: &std::path::Path| {
        let mut command = mlx_gpt(folder.path());
        command
            .args("bench --device cpu --preset nano --only training --steps 1".split(' '))
            .env("TMPDIR", temporary);
        command
    };
    let missing = folder.path().join("missing");
    let said = fail(&mut bench(&missing));
    assert!(said.contains("set TMPDIR"), "{said}");
    std::fs::create_dir(&missing).unwrap();
    succeed(&mut bench(&missing));
}

/// A terminal sends Ctrl-C to all processes of a group. One that ended a compiler would leave a run that says it had none, and
/// computed with other digits.
#[test]
fn signals_do_not_reach_the_compiler() {
    let folder = folder();
    let source = "#define _GNU_SOURCE\n#include <errno.h>\n#include <signal.h>\n#include <string.h>\n\
                  __attribute__((constructor)) static void interrupt(void) {\n\
                    if (!strcmp(program_invocation_short_name, \"sh\")) raise(SIGINT);\n\
                  }\n";
    let mut command = doctor(folder.path());
    command
        .env("LD_PRELOAD", library(folder.path(), source))
        .env("XDG_CACHE_HOME", folder.path().join("empty"));
    let said = stdout(&succeed(&mut command));
    assert!(line(&said, "compiler").contains("g++"), "{said}");
    assert!(line(&said, "MLX  ").contains("compiled"), "{said}");
}
