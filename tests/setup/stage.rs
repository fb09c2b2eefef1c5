//! A checkout whose set-up runs with other programs than the system's.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crate::common::{self, copy, stderr};
use tempfile::TempDir;

pub struct Stage {
    pub path: PathBuf,
    _folder: Option<TempDir>,
}

impl Stage {
    pub fn new() -> Self {
        let folder = common::folder();
        let stage = Self::in_folder(folder.path());
        Self {
            _folder: Some(folder),
            ..stage
        }
    }

    /// What `make_stage` makes, once for all tests.
    fn made() -> PathBuf {
        static LOCK: Mutex<()> = Mutex::new(());
        let _one_at_a_time = LOCK.lock();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/setup/make_stage");
        let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("setup-stage");
        let when = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
        if when(&made) < when(&script) {
            let _ = fs::remove_dir_all(&made);
            let making = common::folder();
            let output = Command::new(&script).arg(making.path()).output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            fs::rename(making.keep(), &made).unwrap();
        }
        made
    }

    pub fn in_folder(folder: &Path) -> Self {
        let stage = Self {
            path: folder.join("a stage"),
            _folder: None,
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for part in ["scripts", "kernels", "Cargo.lock"] {
            fs::create_dir_all(stage.path.join("checkout")).unwrap();
            copy(&root.join(part), &stage.file(part));
        }
        copy(&Self::made(), &stage.path);
        stage
    }

    /// A path in the checkout.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join("checkout").join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    /// The names of what is in a folder of the checkout.
    pub fn list(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.file(folder)).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    pub fn programs(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/setup/programs")
    }

    /// A word to the programs: `tests/setup/programs` has what they listen to.
    pub fn tell(&self, name: &str, text: &str) {
        fs::write(self.path.join(name), text).unwrap();
    }

    pub fn forget(&self, name: &str) {
        let _ = fs::remove_file(self.path.join(name));
    }

    pub fn told(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }

    /// The packages that were fetched so far.
    pub fn fetched(&self) -> Vec<String> {
        let names = fs::read_to_string(self.path.join("fetched")).unwrap_or_default();
        names.lines().map(str::to_owned).collect()
    }

    pub fn command(&self, environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new("bash");
        command
            .arg("scripts/setup.sh")
            .current_dir(self.path.join("checkout"))
            .env("STAGE", &self.path)
            .env("REAL_PYTHON", "/usr/bin/python3")
            .env(
                "PATH",
                format!("{}:{}", self.programs().display(), env::var("PATH").unwrap()),
            )
            .env_remove("BACKEND")
            .envs(environment.iter().copied());
        command
    }

    /// What a set-up says.
    pub fn succeed(&self, environment: &[(&str, &str)]) -> String {
        let output = self.command(environment).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(output.stdout.is_empty());
        stderr(&output)
    }

    /// The line of the error: the last one, and the only one that is not progress.
    pub fn fail(&self, environment: &[(&str, &str)]) -> String {
        let output = self.command(environment).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.lines().all(|line| line.starts_with("setup: ")), "{said}");
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("setup: error: ")).collect();
        assert_eq!(errors.len(), 1, "{said}");
        assert_eq!(said.lines().last(), Some(errors[0]), "{said}");
        errors[0].to_owned()
    }

    /// A set-up in a process group of its own, whose words `said` gives.
    pub fn start(&self, name: &str) -> Child {
        // In the background of a script Ctrl-C is ignored, also by whatever is started there, unless it is handled here.
        let ends = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGINT, 130, ends).unwrap();
        let said = fs::File::create(self.path.join(format!("{name}.said"))).unwrap();
        self.command(&[])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .unwrap()
    }

    pub fn said(&self, name: &str) -> String {
        fs::read_to_string(self.path.join(format!("{name}.said"))).unwrap_or_default()
    }
}
