"""HTML in small functions: everything that enters is escaped here, so that no page code has to remember to.

`Html` marks text that is safe already; plain strings are data and are escaped. The page holds no script, no style
but its own sheet, and loads nothing: its policy forbids all three, should an escape ever be forgotten.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence

from simtune.report.results_view import clean

HEAT_STEPS = 22
_MAX_ALPHA = 0.55


class Html(str):
    """Markup that was built by this module's functions."""

    __slots__ = ()


def escape(content: str) -> Html:
    """Data as HTML text; `Html` passes as it is."""
    return content if isinstance(content, Html) else Html(html.escape(clean(content)))


def join(parts: Iterable[str], separator: str = "\n") -> Html:
    """Parts one after the other, each escaped unless it is markup."""
    return Html(separator.join(escape(part) for part in parts))


def tag(name: str, content: str | Iterable[str] = "", **attributes: str) -> Html:
    """An element; an attribute name's last underscore is dropped (`class_`), an empty attribute too."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(clean(value))}"'
        for key, value in attributes.items()
        if value
    )
    inner = escape(content) if isinstance(content, str) else join(content)
    return Html(f"<{name}{written}>{inner}</{name}>")


def image(svg: bytes, alt: str) -> Html:
    """A picture as data: inside <img> an SVG cannot run scripts or load anything."""
    data = base64.b64encode(svg).decode()
    return Html(f'<img src="data:image/svg+xml;base64,{data}" alt="{html.escape(clean(alt))}">')


def table(caption: str, head: Sequence[str], lines: Iterable[Sequence[str]], class_: str = "") -> Html:
    """A table whose first column names its lines; cells that are `<td>` or `<th>` markup stay as they are."""
    shown = [cell if cell.startswith("<th") else tag("th", cell, scope="col") for cell in map(escape, head)]
    header = tag("tr", shown)
    body = [tag("tr", [_cell(cell, is_name=i == 0) for i, cell in enumerate(line)]) for line in lines]
    parts = [tag("caption", caption), tag("thead", [header]), tag("tbody", body)]
    # Wide tables scroll inside their frame, which the keyboard must be able to reach.
    return tag("div", [tag("table", parts, class_=class_)], class_="scroll", tabindex="0", role="region",
               aria_label=html.unescape(caption) if isinstance(caption, Html) else caption)  # fmt: skip


def text_head(name: str) -> Html:
    """The head of a column of text, which is aligned at the left."""
    return tag("th", name, scope="col", class_="text")


def _cell(content: str, is_name: bool) -> Html:
    if isinstance(content, Html) and content.startswith(("<td", "<th")):
        return content
    return tag("th", content, scope="row") if is_name else tag("td", content)


def details(summary: str, content: str | Iterable[str]) -> Html:
    """A part that is closed at first."""
    return tag("details", [tag("summary", summary), content if isinstance(content, str) else join(content)])


def section(anchor: str, title: str, content: Iterable[str]) -> Html:
    """A part of the page with its heading."""
    return tag("section", [tag("h2", title), *content], id=anchor)


def policy() -> str:
    """The page's content security policy, which knows its style sheet by its hash."""
    digest = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def document(title: str, body: Iterable[str]) -> str:
    """The whole page."""
    head = [
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy()}">'),
        Html('<meta name="referrer" content="no-referrer">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        tag("style", Html(CSS)),
    ]
    inner = [tag("head", head), tag("body", [tag("main", body)])]
    return "<!doctype html>\n" + tag("html", inner, lang="en") + "\n"


CSS = """
:root { --ink: #1f2328; --muted: #626a73; --line: #d9dde2; --soft: #f5f6f8; --paper: #fff;
  --accent: #005a8d; --warn: #8a3c00; --warn-soft: #fff4ea; --up: 0, 114, 178; --down: 213, 94, 0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --muted: #9aa3ad; --line: #343a41; --soft: #1c2025; --paper: #14171a;
    --accent: #6cb8e6; --warn: #f0a871; --warn-soft: #2b2018; --up: 64, 156, 214; --down: 224, 120, 44; }
}
* { box-sizing: border-box; }
html { background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%; }
body { margin: 0;
  font: 17px/1.55 Charter, "Bitstream Charter", "Iowan Old Style", Cambria, Georgia, serif; }
main { max-width: 60rem; margin: 0 auto; padding: 3rem 1.25rem 5rem; }
header { margin-bottom: 1.5rem; }
.kicker, nav, table, figcaption, summary, .facts, h3 {
  font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
.kicker { color: var(--muted); font-size: .8rem; letter-spacing: .06em; text-transform: uppercase;
  margin: 0; }
h1 { font-size: 2.3rem; line-height: 1.15; margin: .1rem 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.4rem; margin: 3rem 0 .8rem; padding-top: .9rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; overflow-wrap: anywhere; }
p { margin: .5rem 0; max-width: 44rem; overflow-wrap: anywhere; }
.lead { font-size: 1.3rem; line-height: 1.4; }
.facts { color: var(--muted); font-size: .88rem; }
nav { font-size: .88rem; margin: 1rem 0 0; }
nav a { margin-right: 1.1rem; white-space: nowrap; }
a { color: var(--accent); }
dl.sizes { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1.2rem; margin: 1rem 0;
  max-width: 50rem; }
dl.sizes dt { font-weight: 700; text-align: right; font-variant-numeric: tabular-nums; }
dl.sizes dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: 1.2rem 0 2.2rem; }
figure .card { background: #fff; border: 1px solid var(--line); border-radius: 6px; padding: .8rem; }
figure img { display: block; width: 100%; height: auto; }
figcaption, caption { color: var(--muted); font-size: .85rem; line-height: 1.45; text-align: left; }
figcaption { margin-top: .6rem; max-width: 48rem; }
figcaption b, caption b { color: var(--ink); }
.scroll { overflow-x: auto; margin: 1rem 0 1.6rem; }
table { border-collapse: collapse; font-size: .85rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
caption { padding: 0 0 .5rem; max-width: 48rem; }
th, td { padding: .32rem .65rem; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; font-weight: 400; }
thead th { font-weight: 600; border-bottom: 1.5px solid var(--ink); vertical-align: bottom;
  white-space: nowrap; }
tbody th, thead th:first-child, :is(td, th).text { text-align: left; }
tbody tr:last-child > * { border-bottom-color: var(--ink); }
td.text { overflow-wrap: anywhere; min-width: 8rem; }
td small { display: block; color: var(--muted); white-space: nowrap; }
td.best { font-weight: 700; }
td.best small { font-weight: 400; }
td.lost, .lost { color: var(--warn); }
tr:has(> .start) > * { border-top: 2px solid var(--muted); }
table.heat { width: 100%; }
table.dense { font-size: .79rem; }
table.dense :is(th, td) { padding: .32rem .42rem; }
th small { color: var(--muted); font-size: .8em; margin-left: .25rem; }
table.dense thead th { white-space: normal; }
table.dense tbody th { white-space: nowrap; }
table.list { width: 100%; }
table.list td { text-align: left; overflow-wrap: anywhere; }
table.list th { white-space: nowrap; }
.notice { background: var(--warn-soft); border-left: 3px solid var(--warn); padding: .6rem 1rem;
  margin: 1.2rem 0; font-size: .95rem; }
.notice ul { margin: .3rem 0; padding-left: 1.2rem; }
li { overflow-wrap: anywhere; }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--accent); font-size: .92rem; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem;
  overflow-x: auto; font: .82rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
@media print {
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  .scroll { overflow: visible; }
  pre { white-space: pre-wrap; }
  figure, tr, .notice { break-inside: avoid; }
  h2, h3, caption { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
CSS += "".join(
    f".{way}{step} {{ background: rgba(var(--{way}), {_MAX_ALPHA * step / HEAT_STEPS:.3f}); }}\n"
    for way in ("up", "down")
    for step in range(1, HEAT_STEPS + 1)
)
