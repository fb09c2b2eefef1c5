"""Prepares the book's pages in the folder given: pictures get their captions, shown code gets links to its lines.

A page `sources/<file>.html` shows each file that a chapter includes code from, with an anchor for every line.
"""

import html
import pathlib
import re
import sys

SOURCES = pathlib.Path("src")
INCLUDE = re.compile(r"\{\{#include \.\./\.\./src/([^:}]+):([^}]+)\}\}")
PICTURE = re.compile(r"^!\[([^\]]*)\]\(([^)]+)\)$", re.MULTILINE)

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{name}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 1rem; }}
pre {{ font-size: 0.9rem; line-height: 1.4; overflow-x: auto; }}
a {{ color: inherit; opacity: 0.5; text-decoration: none; }}
span:target {{ background: color-mix(in srgb, orange 25%, transparent); }}
</style>
<h1>{name}</h1>
<pre>
{lines}
</pre>
</html>
"""


def lines_of(text, anchor):
    """First and last line, from 1, of what mdBook includes by that anchor."""
    lines = text.splitlines()
    first = next(n for n, line in enumerate(lines, 1) if line.strip() == f"// ANCHOR: {anchor}")
    last = next(n for n, line in enumerate(lines, 1) if line.strip() == f"// ANCHOR_END: {anchor}")
    return first + 1, last - 1


def source_page(name, text):
    lines = (
        f'<span id="L{n}"><a href="#L{n}">{n:>4}</a>  {html.escape(line)}</span>'
        for n, line in enumerate(text.splitlines(), 1)
    )
    return PAGE.format(name=html.escape(f"src/{name}"), lines="\n".join(lines))


def figure(match):
    caption, path = match.groups()
    what = caption.partition(". What to see")[0]
    return f"<figure>\n\n![{what}]({path})\n\n<figcaption>\n\n{caption}.\n\n</figcaption>\n</figure>"


def main(made):
    included = {}

    def link(match):
        name, anchor = match.groups()
        text = included.setdefault(name, (SOURCES / name).read_text())
        first, last = lines_of(text, anchor)
        return f'<a href="sources/{name}.html#L{first}">src/{name}, lines {first} to {last}</a>'

    for page in made.glob("*.md"):
        blocks = re.split(r"(^```[^\n]*\n.*?^```$)", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for at, block in enumerate(blocks):
            if at % 2 == 0:
                blocks[at] = PICTURE.sub(figure, block)
            elif links := [link(match) for match in INCLUDE.finditer(block)]:
                blocks[at] += f'\n\n<p class="source">{"; ".join(links)}</p>'
        page.write_text("".join(blocks))
    for name, text in included.items():
        page = made / "sources" / f"{name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(source_page(name, text))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
