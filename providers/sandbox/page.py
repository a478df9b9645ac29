"""The page at ``/``: what this is, what it made last, what was asked of it last."""

from __future__ import annotations

import time
from html import escape
from typing import Any

from providers.sandbox.media import result_url
from providers.sandbox.state import State

_STYLE = """
:root { color-scheme: light dark; --line: #8883; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2.2rem 0 .6rem; }
p { max-width: 46rem; } code { background: var(--soft); padding: .1em .35em; border-radius: 4px; }
.figures { display: flex; flex-wrap: wrap; gap: .75rem; margin-top: 1.2rem; }
.figures div { border: 1px solid var(--line); border-radius: 10px; padding: .6rem 1rem; min-width: 7rem; }
.figures b { display: block; font-size: 1.5rem; line-height: 1.2; } .figures span { opacity: .7; font-size: .85rem; }
.wall { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .75rem; }
.wall a { display: block; } .wall img, .wall video { width: 100%; aspect-ratio: 4/3; object-fit: cover;
 border-radius: 10px; display: block; background: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: .86rem; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.p { max-width: 22rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.f { color: #c2410c; } .scroll { overflow-x: auto; }
"""


def render(state: State, summary: dict[str, Any]) -> str:
    """The HTML; everything that came from outside is escaped."""
    calls = state.record.rows(
        "SELECT at, provider, kind, operation, path, prompt, fault, http_status, created FROM calls "
        "WHERE kind != 'media' ORDER BY id DESC LIMIT 40"
    )
    figures = {
        "submits": summary["submits"]["total"], "accepted": summary["submits"]["accepted"],
        "in flight": summary["works"]["in_flight"], "status calls": summary["calls"].get("poll", 0),
        "faults fired": sum(summary["faults"].values()),
    }  # fmt: skip
    boxes = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in figures.items())
    rows = "".join(_row(call) for call in calls) or "<tr><td colspan=6>No calls yet.</td></tr>"
    wall = _wall(state)
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sandbox</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>
<h1>Sandbox</h1>
<p>A stand-in for the paid providers: it speaks their protocols, makes real pictures and videos, costs nothing,
and writes down every call. Any API key that starts with <code>sandbox</code> is good.</p>
<p>Base URLs: Pixverse <code>/pixverse/openapi/v2</code>, ModelsLab <code>/modelslab/api</code>. A prompt with
<code>[[fault:429:30]]</code> makes it misbehave; all faults are at <a href="/_sandbox/faults">/_sandbox/faults</a>,
the whole record at <a href="/_sandbox/summary">/_sandbox/summary</a>.</p>
<div class="figures">{boxes}</div>{wall}
<h2>Last calls</h2><div class="scroll"><table><tr><th>UTC</th><th>provider</th><th>kind</th><th>prompt or path</th>
<th>status</th><th>fault</th></tr>{rows}</table></div></body></html>"""


def _row(call: dict[str, Any]) -> str:
    when = time.strftime("%H:%M:%S", time.gmtime(call["at"]))
    text = escape((call["prompt"] or call["path"])[:160])
    kind = escape(f"{call['kind']} {call['operation'] or ''}")
    status = call["http_status"] or "no reply"
    return (
        f"<tr><td>{when}</td><td>{escape(call['provider'] or '')}</td><td>{kind}</td><td class=p>{text}</td>"
        f"<td>{status}</td><td class=f>{escape(call['fault'] or '')}</td></tr>"
    )


def _wall(state: State) -> str:
    now = time.time()
    tiles: list[str] = []
    for work in reversed(list(state.works.values())[-60:]):
        if work.outcome != "done" or work.finish_at > now or work.faults or len(tiles) == 8:
            continue
        url = escape(result_url(state, work, 0, ""))
        label = escape(work.prompt[:200], quote=True)
        if work.medium == "video":
            media = f'<video src="{url}" muted loop autoplay playsinline></video>'
        else:
            media = f'<img src="{url}" alt="{label}" loading="lazy">'
        tiles.append(f'<a href="{url}" title="{label}">{media}</a>')
    return f'<h2>Last results</h2><div class="wall">{"".join(tiles)}</div>' if tiles else ""
