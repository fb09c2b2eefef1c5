//! A page that shows the tokens of a text, as tiktokenizer does: one file, nothing fetched.

use std::io::Read;
use std::path::Path;

use super::show::summary;
use crate::disk::files;
use crate::tokenizer::pieces::ShownToken;

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
  :root { color-scheme: light dark; --text: #1c1c22; --dim: #6a6a75; --page: #fafafa; --card: #fff; --line: #e3e3e8; }
  @media (prefers-color-scheme: dark) {
    :root { --text: #ececf1; --dim: #9a9aa6; --page: #17171b; --card: #202026; --line: #34343c; }
  }
  body { margin: 0 auto; max-width: 60rem; padding: 2rem 1rem; color: var(--text); background: var(--page);
         font: 15px/1.5 system-ui, sans-serif; }
  h1 { font-size: 1.3rem; margin: 0; }
  p { color: var(--dim); margin: .25rem 0 1.25rem; }
  .card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; margin-bottom: 1.25rem; }
  .text { font: 15px/1.9 ui-monospace, Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
  .text span { color: #1c1c22; border-radius: .2rem; padding: .1rem 0; }
  .text span.on, tr.on td { outline: 2px solid #e0457b; outline-offset: -1px; }
  .c0 { background: #bfdcff; } .c1 { background: #bdebc8; } .c2 { background: #ffe0b0; }
  .c3 { background: #ffc9d6; } .c4 { background: #dccfff; } .c5 { background: #fff0a6; }
  .special { font-weight: 700; text-decoration: underline; }
  .scroll { overflow-x: auto; padding: 0; }
  table { border-collapse: collapse; width: 100%; font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace; }
  th, td { text-align: left; padding: .25rem .8rem; border-bottom: 1px solid var(--line); white-space: pre; }
  th { color: var(--dim); font-weight: 500; }
  td:first-child, th:first-child { text-align: right; }
  td b { font-weight: 400; color: #1c1c22; border-radius: .2rem; padding: .05rem .2rem; }
</style>
"#;

/// Follows the head.
const TITLE: &str = "<title>Tokens of ";

/// Hovering over a token marks its row, and the other way round.
const SCRIPT: &str = r#"<script>
  const both = n => document.querySelectorAll(`[data-n="${n}"]`);
  const mark = on => event => {
    const of = event.target.closest("[data-n]");
    if (of) both(of.dataset.n).forEach(element => element.classList.toggle("on", on));
  };
  document.addEventListener("mouseover", mark(true));
  document.addEventListener("mouseout", mark(false));
</script>
</html>
"#;

/// The page.
pub fn page(tokenizer: &str, text: &str, pieces: &[ShownToken]) -> String {
    let name = escaped(tokenizer);
    let mut page = format!(
        "{HEAD}{TITLE}{name}</title>\n<h1>Tokens of {name}</h1>\n<p>{}</p>\n<div class=\"card text\">",
        summary(text, pieces.len()).trim()
    );
    for (index, piece) in pieces.iter().enumerate() {
        let special = if piece.is_special { " special" } else { "" };
        let end = if piece.bytes.ends_with(b"\n") { "\n" } else { "" };
        page += &format!(
            "<span class=\"c{}{special}\" data-n=\"{index}\" title=\"{}\">{}</span>{end}",
            index % 6,
            piece.id,
            escaped(&piece.shown)
        );
    }
    page += "</div>\n<div class=\"card scroll\"><table>\n<tr><th>id<th>token<th>bytes<th>code points\n";
    for (index, piece) in pieces.iter().enumerate() {
        page += &format!(
            "<tr data-n=\"{index}\"><td>{}<td><b class=\"c{}\">{}</b><td>{}<td>{}\n",
            piece.id,
            index % 6,
            escaped(&piece.shown.replace(' ', "·")),
            piece.hex(),
            piece.code_points
        );
    }
    page + "</table></div>\n" + SCRIPT
}

/// Whether a file is such a page.
pub fn is_page(file: &Path) -> bool {
    let head =
        files::open(file).and_then(|file| files::read_up_to(file.take(2 * HEAD.len() as u64), u64::from(u32::MAX)));
    head.is_ok_and(|head| String::from_utf8_lossy(&head).contains(TITLE))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
