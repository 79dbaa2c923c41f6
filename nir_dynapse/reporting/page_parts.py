"""What the HTML page of a report is made of: escaped text, tables, bars, figures, and the style sheet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from nir_dynapse.layout.utilisation import Use
from nir_dynapse.reporting.conversion_table import Table
from nir_dynapse.reporting.svg import clean

__all__ = ["STYLE", "badge", "bar", "figure", "html_table", "items", "picture", "section", "words"]

XMLNS = ' xmlns="http://www.w3.org/2000/svg"'

_DARK = """
:root{--ground:#14171a;--card:#1e2226;--ink:#e8eaed;--grey:#aab2ba;--line:#3a4148;--accent:#6cb8f0;--free:#2b3137;
--bad:#ff8f80;--shadow:#000a;--name:#ff9d5c;--warn:#e8bd4a;--good:#5fcf9d;
--s0:#3d4650;--s1:#2f4f6b;--s2:#2f5f85;--s3:#326f9f;--s4:#3b82b8;--s5:#4f97cd;--s6:#6cabdc;--s7:#93c3e8;--s8:#c6e0f5}
svg [fill="#d55e00"]{fill:#ff9d5c}svg [stroke="#d55e00"]{stroke:#ff9d5c}
svg [fill="#0072b2"]{fill:#6cb8f0}svg [stroke="#0072b2"]{stroke:#6cb8f0}
svg [fill="#00805c"]{fill:#4fc79b}svg [stroke="#00805c"]{stroke:#4fc79b}
svg [fill="#a3458a"]{fill:#e38fc6}svg [stroke="#a3458a"]{stroke:#e38fc6}
svg [fill="#806600"]{fill:#d3b54a}svg [stroke="#806600"]{stroke:#d3b54a}
svg [fill="#444444"]{fill:#b9b9b9}svg [stroke="#444444"]{stroke:#b9b9b9}
"""
STYLE = f"""
:root{{color-scheme:light dark;--ground:#f4f5f7;--card:#ffffff;--ink:#1a1a1a;--grey:#5a5a5a;--line:#d4d8dc;--accent:#0063a0;
--free:#eef0f2;--bad:#b3261e;--shadow:#0003;--name:#b34c00;--warn:#7a5700;--good:#00694b;
--s0:#cfd6dd;--s1:#c2dcf1;--s2:#a0c8e8;--s3:#7db2dd;--s4:#5b9cd1;--s5:#3a83bf;--s6:#236aa6;--s7:#145288;--s8:#0a3a66}}
@media screen and (prefers-color-scheme:dark){{{_DARK}}}
*{{box-sizing:border-box}}
body{{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,"Segoe UI",Helvetica,Arial,sans-serif;
overflow-wrap:anywhere}}
main,header,footer{{max-width:72rem;margin:0 auto;padding:0 1rem}}
h1{{font-size:1.5rem;line-height:1.25;margin:1.5rem 0 .25rem}}
h2{{font-size:1.2rem;margin:0 0 .5rem}}h3{{font-size:1rem;margin:1.25rem 0 .5rem}}
p{{margin:.5rem 0}}.quiet{{color:var(--grey);font-size:.9rem}}
nav ul{{list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1rem;padding:0;margin:.75rem 0}}
a{{color:var(--accent)}}nav a{{display:inline-block;padding:.25rem 0}}
section{{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1rem;margin:1rem 0}}
.scroll{{overflow-x:auto;max-width:100%;
background:linear-gradient(90deg,var(--card) 40%,transparent) left/2rem 100% local,
linear-gradient(270deg,var(--card) 40%,transparent) right/2rem 100% local,
linear-gradient(90deg,var(--shadow),transparent) left/.8rem 100% scroll,
linear-gradient(270deg,var(--shadow),transparent) right/.8rem 100% scroll;background-repeat:no-repeat}}
.scroll:focus-visible,a:focus-visible{{outline:2px solid var(--accent)}}
table{{border-collapse:collapse;font-size:.9rem;width:100%;overflow-wrap:break-word}}
th,td{{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid var(--line);max-width:24rem}}
thead th{{color:var(--grey);font-weight:600;white-space:nowrap}}tbody th{{font-weight:500;min-width:6.5rem}}
tbody tr.group th{{font-weight:700;padding-top:.9rem}}
.n{{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}}
.keys{{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.75rem;margin:.75rem 0 0}}
.keys div{{border-left:3px solid var(--line);padding-left:.6rem}}
.keys dt{{color:var(--grey);font-size:.85rem}}.keys dd{{margin:0;font-size:1.15rem;font-weight:600}}
.badge{{display:inline-block;border:1px solid currentColor;
border-radius:5px;padding:0 .45rem;font-size:.85rem;font-weight:600;
white-space:nowrap}}
.error{{color:var(--bad)}}.warning{{color:var(--warn)}}.good{{color:var(--good)}}.info{{color:var(--grey)}}
.bar{{display:block;height:.6rem;margin:.2rem 0;min-width:4rem;
background:var(--free);border:1px solid var(--line);border-radius:3px}}
.bar span{{display:block;height:100%;background:var(--accent);border-radius:2px}}
.share{{width:50%}}.bar.over span{{background:var(--bad)}}
.findings{{list-style:none;padding:0;margin:0}}.findings li{{border-top:1px solid var(--line);padding:.6rem 0}}
.findings li:first-child{{border-top:0}}.findings p{{margin:.2rem 0}}
figure{{margin:0}}figcaption{{font-size:.85rem;color:var(--grey)}}
.cores{{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:1rem}}
.weights{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(20rem,100%),1fr));gap:1rem}}
.weights figure{{max-width:36rem}}
svg{{display:block;width:100%;height:auto;font-family:system-ui,Helvetica,Arial,sans-serif;font-size:13px}}
.wide svg{{min-width:38rem;max-width:60rem;margin:0 auto}}
svg text:not([fill]){{fill:var(--ink)}}svg text[fill="#d55e00"]{{fill:var(--name)}}
svg [fill="#1a1a1a"]{{fill:var(--ink)}}svg [stroke="#1a1a1a"]{{stroke:var(--ink)}}
svg [fill="#5a5a5a"]{{fill:var(--grey)}}svg [stroke="#5a5a5a"]{{stroke:var(--grey)}}
svg [stroke="#dddddd"]{{stroke:var(--line)}}svg [fill="#ffffff"]{{fill:var(--card)}}
.free{{fill:var(--free)}}rect[class^=s]{{stroke:var(--s8);stroke-width:.6}}.bad{{stroke:var(--bad);stroke-width:2;fill:none}}.chip{{fill:var(--free);stroke:var(--grey)}}
.link{{stroke:var(--accent);stroke-width:2;fill:none}}.link.none{{stroke:var(--line)}}
{"".join(f".s{k}{{fill:var(--s{k})}}" for k in range(9))}
.legend{{display:flex;flex-wrap:wrap;align-items:center;gap:.3rem .8rem;font-size:.85rem;color:var(--grey);margin:.5rem 0}}
.legend span{{display:inline-flex;align-items:center;gap:.3rem}}.legend svg{{width:auto;height:1rem;flex:none}}
footer{{color:var(--grey);font-size:.85rem;padding-bottom:2rem}}
@media print{{
@page{{margin:14mm}}
body{{background:#fff;color:#000;font-size:10pt}}nav{{display:none}}main,header,footer{{max-width:none;padding:0}}
section{{border:0;border-top:1px solid #999;border-radius:0;padding:.5rem 0;background:none}}
.scroll{{overflow:visible;background:none}}.wide svg{{min-width:0}}table{{font-size:8pt}}th,td{{padding:.15rem .3rem}}
figure,tr,li,.keys,.legend,.scroll.wide{{break-inside:avoid}}h2,h3{{break-after:avoid}}thead{{display:table-header-group}}
svg,.bar,.bar span{{print-color-adjust:exact;-webkit-print-color-adjust:exact}}a{{color:inherit;text-decoration:none}}}}
"""


def words(text: object) -> str:
    """Text of whatever origin, safe between tags and in quoted attributes; what cannot be shown is replaced."""
    return escape(clean(" ".join(str(text).split())))


def section(key: str, title: str, body: str) -> str:
    """A card with a heading that links can point to; nothing where there is no `body`."""
    if not body:
        return ""
    return (
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{words(title)}</h2>{body}</section>\n'
    )


def html_table(table: Table, label: str) -> str:
    """The table in a box of its own that scrolls; the first column says what a line is about."""
    kinds = ["" if side == "<" else ' class="n"' for side in table.align]
    head = "".join(f'<th scope="col"{kind}>{words(cell)}</th>' for cell, kind in zip(table.header, kinds, strict=True))
    lines = []
    for row in table.rows:
        first = f'<th scope="row">{words(row[0])}</th>' if row[0] else "<td></td>"
        rest = (f"<td{kind}>{words(cell)}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True))
        lines.append(f"<tr>{first}{''.join(rest)}</tr>")
    return scrolled(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>", label)


def scrolled(body: str, label: str, kind: str = "scroll") -> str:
    """A box that scrolls sideways where the page is too narrow, by keyboard too."""
    return f'<div class="{kind}" role="region" aria-label="{words(label)}" tabindex="0">{body}</div>'


def bar(use: Use) -> str:
    """A bar as long as the share in use; red where it is more than there is."""
    share = use.used / use.available if use.available else float(use.used > 0)
    kind = "bar over" if share > 1 else "bar"
    filled = f'<span style="width:max(1px,{100 * min(share, 1.0):.1f}%)"></span>' if use.used else ""
    return f'<span class="{kind}" aria-hidden="true">{filled}</span>'


def badge(kind: str, text: str) -> str:
    """A short word in a frame, in the colour of its `kind`: error, warning, info or good."""
    return f'<span class="badge {kind}">{words(text)}</span>'


def items(texts: Iterable[str]) -> str:
    """A list of sentences; nothing where there is none."""
    listed = "".join(f"<li>{words(text)}</li>" for text in texts)
    return f"<ul>{listed}</ul>" if listed else ""


def picture(svg: str, label: str) -> str:
    """One of the package's SVG files inside the page; on narrow screens it scrolls in its own box."""
    return scrolled(svg.strip().replace(XMLNS, "", 1), label, "scroll wide")


def figure(svg: str, caption: Sequence[str]) -> str:
    """A picture with lines of text below."""
    below = "<br>".join(words(line) for line in caption if line)
    return f"<figure>{svg}" + (f"<figcaption>{below}</figcaption>" if below else "") + "</figure>"
