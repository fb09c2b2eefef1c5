//! The folder of compiled functions, which are loaded and run.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{doctor, library};
use crate::common::{stderr, stdout, succeed};

/// `doctor`, which compiles one function, with caches below `folder` alone: `cache`, `home/.cache` and `tmp` in that order.
fn compile(folder: &Path) -> Command {
    let mut command = doctor(folder);
    command
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .env("HOME", folder.join("home"))
        .env("TMPDIR", folder.join("tmp"));
    command
}

/// A folder for one test, below folders that nobody else can write to, as those of this checkout need not be.
fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// One with those three places.
fn places() -> TempDir {
    let folder = folder();
    for place in ["cache", "home", "tmp"] {
        fs::create_dir(folder.path().join(place)).unwrap();
        set_mode(&folder.path().join(place), 0o755);
    }
    folder
}

/// One where compiled functions can be in the temporary folder alone.
fn tmp_alone() -> TempDir {
    let folder = places();
    for place in ["cache", "home"] {
        fs::remove_dir(folder.path().join(place)).unwrap();
        fs::write(folder.path().join(place), "no folder").unwrap(); // nobody can write there, not even root
    }
    set_mode(&folder.path().join("tmp"), 0o1777);
    folder
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The compiled functions in a folder and those below it.
fn libraries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => libraries(&path),
            false if path.extension().is_some_and(|extension| extension == "so") => vec![path],
            false => Vec::new(),
        })
        .collect()
}

#[test]
fn what_is_damaged_is_made_again() {
    let folder = places();
    let cache = folder.path().join("cache");
    succeed(&mut compile(folder.path()));
    let [library] = &libraries(&cache)[..] else {
        panic!("one compiled function in {}", cache.display());
    };
    let whole = fs::read(library).unwrap();
    let middle = whole.len() / 2;
    let flipped = whole
        .iter()
        .enumerate()
        .map(|(at, &byte)| if at == middle { !byte } else { byte });
    let damages: [Vec<u8>; 5] = [
        Vec::new(),
        whole[..middle].to_vec(),
        flipped.collect(),
        whole[..whole.len() - 1].to_vec(),
        b"not a library".to_vec(),
    ];
    for damaged in damages {
        fs::write(library, &damaged).unwrap();
        succeed(&mut compile(folder.path()));
        let again = fs::read(library).unwrap();
        assert_ne!(again, damaged);
        assert_eq!(again.len(), whole.len());
    }
    // What is whole stays as it is.
    let made = fs::metadata(library).unwrap().modified().unwrap();
    succeed(&mut compile(folder.path()));
    assert_eq!(fs::metadata(library).unwrap().modified().unwrap(), made);
}

#[test]
fn a_place_that_others_can_write_to_is_not_used() {
    let folder = places();
    let [cache, home, tmp] = ["cache", "home", "tmp"].map(|place| folder.path().join(place));
    // Others may rename what is in a folder that they can write to.
    set_mode(&cache, 0o777);
    succeed(&mut compile(folder.path()));
    assert!(
        libraries(&cache).is_empty() && libraries(&home).len() == 1,
        "the next place is used"
    );

    // The folder itself, writable for a group; a link in its place.
    let kernels = fs::read_dir(home.join(".cache/mlx-gpt"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    set_mode(&kernels, 0o770);
    succeed(&mut compile(folder.path()));
    assert_eq!(libraries(&tmp).len(), 1);
    fs::remove_dir_all(&tmp).unwrap();
    fs::create_dir(&tmp).unwrap();
    fs::rename(&kernels, home.join("elsewhere")).unwrap();
    symlink(home.join("elsewhere"), &kernels).unwrap();
    succeed(&mut compile(folder.path()));
    assert_eq!(libraries(&tmp).len(), 1);
}

#[test]
fn where_no_place_is_safe_functions_are_compiled_for_one_run() {
    let folder = places();
    for place in ["cache", "home", "tmp"] {
        set_mode(&folder.path().join(place), 0o777);
    }
    let output = succeed(&mut compile(folder.path()));
    assert!(stdout(&output).contains("works, eager and compiled"));
    assert!(
        stderr(&output).contains("warning  other users can change"),
        "{}",
        stderr(&output)
    );
    assert!(libraries(folder.path()).is_empty());
    assert!(
        fs::read_dir(folder.path().join("tmp")).unwrap().next().is_none(),
        "nothing is left"
    );
    // As the warning advises.
    let cache = folder.path().join("cache");
    set_mode(&cache, 0o755);
    let output = succeed(&mut compile(folder.path()));
    assert!(!stderr(&output).contains("warning"), "{}", stderr(&output));
    assert_eq!(libraries(&cache).len(), 1);
}

/// Inside of a folder that is this user's alone: it is named, and moved away nothing of it is lost or used.
#[test]
fn what_others_can_change_inside_is_named_and_moved_away() {
    let folder = places();
    let cache = folder.path().join("cache");
    succeed(&mut compile(folder.path()));
    let [library] = &libraries(&cache)[..] else {
        panic!("one compiled function in {}", cache.display());
    };
    let inner = library.parent().unwrap();
    set_mode(inner, 0o777);
    let output = compile(folder.path()).output().unwrap();
    let named = format!("others can change them in {}", inner.display());
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains(&named), "{}", stdout(&output));
    fs::rename(inner, cache.join("away")).unwrap();
    succeed(&mut compile(folder.path()));
    assert_eq!(libraries(&cache).len(), 2);
}

/// The folder in /tmp that another user made first, open or closed to this one.
#[test]
fn another_users_folder_is_not_used() {
    let folder = tmp_alone();
    let tmp = folder.path().join("tmp");
    succeed(&mut compile(folder.path()));
    let theirs = fs::read_dir(&tmp).unwrap().next().unwrap().unwrap().path();
    let made = libraries(&theirs);
    assert_eq!(made.len(), 1, "a folder of this user's in a place like /tmp is kept");
    let nobody = 65534;
    for mode in [0o755, 0o777, 0o1777] {
        set_mode(&theirs, mode);
        if chown(&theirs, Some(nobody), None).is_err() && mode == 0o755 {
            continue; // without root it stays this user's, whom alone it is writable for
        }
        fs::write(&made[0], "of another user").unwrap();
        succeed(&mut compile(folder.path()));
        assert_eq!(
            fs::read(&made[0]).unwrap(),
            b"of another user",
            "neither loaded nor mended"
        );
    }
}

/// A library that says that it was loaded by making the file that `LOADED` names, whole as the cache checks it.
fn planted(folder: &Path) -> PathBuf {
    let library = library(
        folder,
        "#include <stdio.h>\n#include <stdlib.h>\n\
         __attribute__((constructor)) static void loaded(void) { fclose(fopen(getenv(\"LOADED\"), \"w\")); }\n",
    );
    let checksum = succeed(Command::new("cksum").arg(&library));
    let numbers: Vec<u64> = stdout(&checksum)
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    let mut bytes = fs::read(&library).unwrap();
    bytes.extend(format!("kernel {:010} {:010}\n", numbers[0], numbers[1]).into_bytes());
    fs::write(&library, bytes).unwrap();
    set_mode(&library, 0o755);
    library
}

/// A second user, real where this test runs as root, tries to have a library of their own run by this one.
#[test]
fn what_another_user_plants_is_not_run() {
    const OTHER: u32 = 65534;
    let folder = tmp_alone();
    set_mode(folder.path(), 0o755);
    let [tmp, loaded] = ["tmp", "loaded"].map(|name| folder.path().join(name));
    let compile = || succeed(compile(folder.path()).env("LOADED", &loaded));
    let other = |script: &str, ours: &Path, library: &Path, planted: &Path| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).args([ours, library, planted]);
        shell.uid(OTHER).gid(OTHER).current_dir("/").output()
    };

    compile();
    let ours = fs::read_dir(&tmp).unwrap().next().unwrap().unwrap().path();
    let library = libraries(&ours).remove(0);
    let planted = planted(folder.path());

    // It is one that runs: from this user's own folder it is loaded, and is no kernel.
    fs::copy(&planted, &library).unwrap();
    let _ = self::compile(folder.path()).env("LOADED", &loaded).output().unwrap();
    fs::remove_file(&loaded).expect("what is planted can be loaded");
    fs::remove_file(&library).unwrap();
    compile();

    // Into this user's folder, or into its place.
    let into = "cp \"$3\" \"$2\"; mv \"$1\" \"$1.away\"; rm -r \"$1\"; mkdir \"$1\" && exit 3; exit 0";
    match other(into, &ours, &library, &planted) {
        Ok(output) => assert!(
            output.status.success(),
            "the second user could change {}",
            ours.display()
        ),
        Err(error) => return eprintln!("skipped: there is no second user without root: {error}"),
    }
    compile();
    assert!(!loaded.exists() && library.exists());

    // Before this user has made one, with the names that it will look for.
    for mode in ["755", "777", "700"] {
        fs::remove_dir_all(&ours).unwrap();
        let before = format!("umask 022; mkdir -p \"${{2%/*}}\" && cp \"$3\" \"$2\" && chmod -R {mode} \"$1\"");
        assert!(other(&before, &ours, &library, &planted).unwrap().status.success());
        compile();
        assert!(!loaded.exists(), "what another user planted was run, mode {mode}");
    }

    // A folder above it that the second user may rename, while this user's program runs.
    fs::remove_dir_all(&ours).unwrap();
    fs::create_dir(&ours).unwrap();
    chown(&ours, Some(OTHER), Some(OTHER)).unwrap();
    let below = ours.join("tmp");
    fs::create_dir(&below).unwrap();
    set_mode(&below, 0o700);
    let swap =
        "cd \"$1\"; mkdir made; for i in $(seq 400); do mv tmp away && mv made tmp; mv tmp made; mv away tmp; done";
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| other(swap, &ours, &library, &planted));
        for _ in 0..3 {
            let mut command = self::compile(folder.path());
            let output = command.env("TMPDIR", &below).env("LOADED", &loaded).output().unwrap();
            // The folder may go while it is used, which is an error.
            let said = stdout(&output) + &stderr(&output);
            assert!(output.status.success() || said.contains("XDG_CACHE_HOME"), "{said}");
        }
        assert!(swapping.join().unwrap().unwrap().status.success());
    });
    assert!(!loaded.exists() && libraries(&ours).is_empty());
}

/// Paths are handed to a shell.
#[test]
fn a_path_may_have_any_character() {
    let folder = folder();
    let odd = folder.path().join("a \"quoted\" $HOME `name` it's");
    fs::create_dir(&odd).unwrap();
    set_mode(&odd, 0o755);
    succeed(doctor(folder.path()).env("XDG_CACHE_HOME", &odd));
    assert_eq!(libraries(&odd).len(), 1);
}

/// What a compiler that was killed leaves goes, once it is old.
#[test]
fn what_was_left_half_made_is_removed() {
    let folder = places();
    succeed(&mut compile(folder.path()));
    let library = libraries(&folder.path().join("cache")).remove(0);
    let [old, new] = ["making.1", "making.2"].map(|name| library.with_file_name(name));
    for path in [&old, &new] {
        fs::write(path, "half").unwrap();
    }
    let two_hours = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    fs::File::options()
        .write(true)
        .open(&old)
        .unwrap()
        .set_modified(two_hours)
        .unwrap();
    succeed(&mut compile(folder.path()));
    assert!(!old.exists() && new.exists());
}
