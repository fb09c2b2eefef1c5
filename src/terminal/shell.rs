//! Commands that are proposed: what a shell reads as it is meant.

use std::path::Path;

/// How the user calls this program, for commands that it proposes.
#[cfg(feature = "cli")]
pub fn program() -> String {
    let name = std::env::args_os().next().unwrap_or_else(|| "mlx-gpt".into());
    quoted(Path::new(&name))
}

/// A path for a command that is proposed: in quotes where a shell would read it as something else.
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
