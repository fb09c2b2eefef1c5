//! Quotes commands that messages suggest, so that they can be copied into a shell.

use std::path::Path;

/// The program's name as the user typed it, for suggested commands.
#[cfg(feature = "cli")]
pub fn program() -> String {
    let name = std::env::args_os().next().unwrap_or_else(|| "mlx-gpt".into());
    quoted(Path::new(&name))
}

/// A path for a suggested command, quoted if a shell would need that.
pub fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    shlex::try_quote(&path).map_or_else(|_| path.to_string(), |quoted| quoted.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposed_commands_survive_a_shell() {
        assert_eq!(quoted(Path::new("runs/shakespeare-nano")), "runs/shakespeare-nano");
        for path in ["my runs/x", "it's", "a;b", "$HOME", "new\nline", "~"] {
            assert_eq!(shlex::split(&quoted(Path::new(path))), Some(vec![path.to_owned()]));
        }
    }
}
