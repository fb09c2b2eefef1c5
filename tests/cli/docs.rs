//! `docs/cli.md` says what `--help` says.

use mlx_gpt::cli::command;

#[test]
fn the_reference_is_what_help_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");
    // Tables of options read best; the crate's closing line about itself is left out.
    let options = clap_markdown::MarkdownOptions::new()
        .title("Command-line reference of mlx-gpt".to_owned())
        .show_footer(false);
    let made = clap_markdown::help_markdown_command_custom(&command(), &options);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == made,
        "docs/cli.md is out of date; write it anew with: make docs"
    );
}
