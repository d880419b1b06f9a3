# SPDX-License-Identifier: Apache-2.0
"""report.py OUT: writes OUT/report.html, self-contained, from the files a run left in OUT.

Reads metrics.json, curves.json, picture.json and envelope.jsonl; where OUT is a sweep's, sweep.json, and writes
OUT/sweep.svg as well. Their schema is in SCHEMA.md beside this file. Needs Python 3.9,
numpy and matplotlib; without matplotlib the report has its tables and text, says so, and the exit status is 3.
"""

import base64
import html
import io
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from report_data import FIGURES, Run, interval, number  # noqa: E402
from report_text import data_lines, head_lines, num, signed, verdict  # noqa: E402

try:
    import report_plots as plots
    import report_sweep as sweeps

    MISSING = ""
except ImportError as error:
    plots = sweeps = None
    MISSING = str(error)

HEADS = {
    "mlp": (
        "Ranking (mlp)",
        "A small MLP scores the candidate beside the pooled history; one negative for each target. "
        "Its validation figure is auc.",
    ),
    "din": (
        "Ranking with target attention (din)",
        "As mlp, and the candidate also sees what it attends to in the history (softmax of dot products). "
        "Its validation figure is auc.",
    ),
    "dot": (
        "Retrieval (dot)",
        "Pooled history times item plus bias, softmax over shared negatives. Its validation "
        "figure is hr20.",
    ),
}
DAGGER, DASH = " \u2020", "\u2013"
CSS = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; color: #1c1c1c;
       max-width: 1120px; margin: 2rem auto 4rem; padding: 0 1.2rem; background: #fff; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.25rem; margin: 2.4rem 0 .4rem;
  border-bottom: 2px solid #e4e4e4; padding-bottom: .25rem; } h3 { font-size: 1rem; margin: 1.5rem 0 .3rem; }
p.sub, .note, figcaption { color: #5a5a5a; } .note, figcaption { font-size: .86rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; }
.tile { border: 1px solid #e0e0e0; border-radius: 6px; padding: .45rem .8rem; min-width: 6.5rem; }
.tile b { display: block; font-size: 1.15rem; font-variant-numeric: tabular-nums; } .tile span { color: #5a5a5a; font-size: .82rem; }
ul.says { padding-left: 0; list-style: none; } ul.says li { border-left: 4px solid #c9c9c9; padding: .1rem .8rem; margin: .45rem 0; }
ul.says li.warn { border-color: #d55e00; background: #fdf3ec; } ul.says li.good { border-color: #009e73; background: #eef8f4; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .22rem .55rem; white-space: nowrap; } th { border-bottom: 1px solid #999; font-weight: 600; }
th:first-child, td:first-child { text-align: left; } tr.count td { color: #555; background: #fafafa; }
tr.first td { border-top: 1px solid #999; } tr.capped td { color: #777; font-style: italic; } td.best { font-weight: 700; }
td.names, th.names { text-align: left; white-space: normal; } td small { color: #777; } td.up { color: #00664b; } td.down { color: #a84600; } figure { margin: .8rem 0 1.4rem; }
figure img { max-width: 100%; height: auto; } details { margin: .6rem 0; } code { font-size: .85em; word-break: break-all; }
"""


def esc(text):
    return html.escape(str(text))


def count(value):
    return "" if value is None else f"{int(value):,}".replace(",", "\u202f")


def cell(row, figure):
    value = row.num(figure)
    if value is None:
        return DASH
    parts = interval(row.get(figure))
    std = number((row.get(figure) or {}).get("std")) if isinstance(row.get(figure), dict) else None
    text = num(value)
    if std is not None:
        text += f" <small>\u00b1{num(std)}</small>"
    if parts:
        text += f" <small>{num(parts[1])}\u2013{num(parts[2])}</small>"
    return text


def over_cell(row, figure):
    parts = row.over("plain", figure)
    if parts is None:
        return f"<td>{DASH}</td>"
    says = (
        {"above": " class=up", "below": " class=down", "same": ""}[verdict(parts)] if not row.capped else ""
    )
    return f"<td{says}>{signed(parts[0])} <small>{signed(parts[1])}..{signed(parts[2])}</small></td>"


def table(run, head):
    """Two tables: figures, and differences to plain with what a row cost."""
    rows = run.heads[head]
    names = ["auc", "auc_pop", "hr20", "hr20_new", "hr20_repeat"] + (
        ["logloss"] if any(row.num("logloss") is not None for row in rows.values()) else []
    )
    everything = list(rows.values()) + list(run.baselines.values())
    best = {}
    for figure in names:
        values = [row.num(figure) for row in everything if row.num(figure) is not None and not row.capped]
        best[figure] = (min if figure == "logloss" else max)(values) if values else None
    out = [
        "<div class=scroll><table><tr><th>row</th>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>"
    ]
    for place, row in enumerate(everything):
        kind = ["count"] if place >= len(rows) else []
        kind += ["first"] if place == len(rows) else []
        kind += ["capped"] if row.capped else []
        exponents = (
            f" <small>a {num(row.num('a'), 1)}, b {num(row.num('b'), 1)}</small>"
            if row.num("a") is not None and row.name.startswith("itemknn")
            else ""
        )
        cells = []
        for figure in names:
            value = row.num(figure)
            wins = value is not None and value == best[figure] and not row.capped
            cells.append(f"<td{' class=best' if wins else ''}>{cell(row, figure)}</td>")
        out.append(
            f"<tr class=\"{' '.join(kind)}\"><td>{esc(row.name)}{DAGGER if row.capped else ''}{exponents}</td>"
            + "".join(cells)
            + "</tr>"
        )
    out.append(
        "</table></div><p class=note>Mean over test users (\u00b1 std over seeds), 95 % bootstrap interval over "
        "test users in grey. Bold: the best of all rows. Below the line: models that only count.</p>"
    )

    out.append(
        "<div class=scroll><table><tr><th>minus plain</th>"
        + "".join(f"<th>{name}</th>" for name in FIGURES)
        + "<th>valid</th><th>epochs</th><th>gap</th><th>ratio</th><th>radius 95 %</th><th>parameters</th>"
        "<th>seconds</th></tr>"
    )
    for row in rows.values():
        epochs = row.num("epochs")
        kept = row.num("best_epoch")
        text = (DASH if epochs is None else f"{epochs:.3g}") + (
            f" <small>kept {kept:.3g}</small>" if kept else ""
        )
        plain_cells = [
            (DASH if value is None else num(value, digits))
            for value, digits in (
                (row.num("gap"), 3),
                (row.num("ratio"), 2),
                (row.num("envelope", "radius95"), 2),
            )
        ]
        valid = run.valid_of(head, row)
        seconds = row.num("seconds")
        out.append(
            f"<tr class=\"{'capped' if row.capped else ''}\"><td>{esc(row.name)}{DAGGER if row.capped else ''}</td>"
            + "".join(over_cell(row, figure) for figure in FIGURES)
            + f"<td>{DASH if valid is None else num(valid)}</td><td>{text}</td>"
            + "".join(f"<td>{value}</td>" for value in plain_cells)
            + f"<td>{count(row.num('parameters'))}</td><td>{'' if seconds is None else f'{seconds:.0f}'}</td></tr>"
        )
    out.append(
        "</table></div><p class=note>Differences are paired by test user; colored where the 95 % interval leaves "
        "zero out. gap: auc on targets of training users minus test. ratio: median |residual| : |center|. "
        "\u2020 still improving at the limit of epochs: supports no claim.</p>"
    )
    return "\n".join(out)


def tuning(run, head):
    """What --tune tried and chose."""
    rows = run.tuning.get(head) or {}
    if not rows:
        return ""
    out = [
        "<h3>Tuning</h3><div class=scroll><table><tr><th>row</th><th>lr</th><th>lambda</th><th>valid auc</th>"
        "<th>best tried</th><th>points</th><th>seconds</th></tr>"
    ]
    for name in [name for name in run.heads[head] if name in rows]:
        points = rows[name]["points"]
        chosen = points[rows[name]["chosen"]]
        penalty = DASH if chosen["lambda"] is None else f"{chosen['lambda']:.3g}"
        best = max(point["auc"] for point in points)
        rates = sorted({point["lr"] for point in points})
        edge = DAGGER if len(rates) > 1 and chosen["lr"] in (rates[0], rates[-1]) else ""
        seconds = sum(point["seconds"] for point in points)
        out.append(
            f"<tr><td>{esc(name)}</td><td>{chosen['lr']:.3g}{edge}</td><td>{penalty}</td><td>{num(chosen['auc'], 4)}</td>"
            f"<td>{num(best, 4)}</td><td>{len(points)}</td><td>{seconds:.0f}</td></tr>"
        )
    out.append(
        "</table></div><p class=note>Chosen on validation with the first seed, from the same values for all rows: of the "
        "points within .002 of the best auc the largest lambda, of those the best. \u2020 the "
        "lowest or highest rate tried.</p>"
    )
    return "\n".join(out)


def image(fig, text, caption):
    buffer = io.StringIO()
    fig.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plots.plt.close(fig)
    data = base64.b64encode(buffer.getvalue().encode()).decode()
    return (
        f'<figure><img alt="{esc(text)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def head_plots(run, head):
    if plots is None:
        return ""
    out = []

    def add(title, fig, caption):
        if fig is not None:
            out.append(f"<h3>{title}</h3>" + image(fig, f"{title}, {head}", caption))

    add(
        "Difference to plain",
        plots.over_plain_plot(run, head),
        "Paired by test user, 95 % intervals; filled where the interval leaves zero out.",
    )
    add(
        "Figures by variant, with the counting baselines",
        plots.figures_plot(run, head),
        "Lines: 95 % interval over test users. Dashed: the best counting baseline. Open markers: rows marked \u2020.",
    )
    add(
        "Learning curves",
        plots.curves_plot(run, head),
        "Mean over seeds; the marker is the best epoch, the dotted line plain's best.",
    )
    add(
        "Envelope radius and residual",
        plots.envelope_plot(run, head),
        "One partition of the items for all rows. A small radius: the items of an interest lie close together.",
    )
    add(
        "Ratio and radius while training",
        sweeps.training_plot(run, head),
        "A sample of the interests, measured every "
        f"{run.config.get('envelope_every', 'few')} steps; bands: the middle half of them.",
    )
    fig, caption = plots.picture_plot(run, head)
    add("A picture of interests", fig, esc(caption))
    return "\n".join(out)


def says(lines):
    return (
        "<ul class=says>" + "".join(f'<li class="{kind}">{esc(text)}</li>' for kind, text in lines) + "</ul>"
        if lines
        else ""
    )


def tiles(run):
    data = run.data
    shown = [
        ("users", "users"),
        ("items", "items"),
        ("events", "events"),
        ("train_users", "training users"),
        ("test_targets", "test users"),
        ("candidates", "items in training"),
    ]
    parts = [
        f"<div class=tile><b>{count(data[key])}</b><span>{name}</span></div>"
        for key, name in shown
        if number(data.get(key)) is not None
    ]
    if number(data.get("repeat_share")) is not None:
        parts.append(
            f"<div class=tile><b>{100 * data['repeat_share']:.0f} %</b><span>targets seen before</span></div>"
        )
    return "<div class=tiles>" + "".join(parts) + "</div>"


def interests(run):
    """The items behind the picture, by the names of the catalog."""
    rows = "".join(
        f"<tr><td>{esc(interest)}</td><td class=names>{esc('; '.join(titles[:8]))}</td></tr>"
        for interest, titles in run.pictured().items()
        if titles
    )
    if not rows:
        return ""
    return (
        "<h2>Items of the interests in the picture</h2><div class=scroll><table><tr><th>interest</th>"
        f"<th class=names>most used items</th></tr>{rows}</table></div>"
    )


def settings(run):
    rows = "".join(
        f"<tr><td>{esc(key)}</td><td>{esc(value)}</td></tr>"
        for group in (run.data, run.config)
        for key, value in group.items()
        if not isinstance(value, (dict, list)) or key in ("variants", "heads")
    )
    return f"<details><summary>All settings and data</summary><div class=scroll><table>{rows}</table></div></details>"


def page(run):
    source = run.data.get("source") or "a behavior log"
    out = [
        '<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width">',
        f"<title>resembed: {esc(source)[:80]}</title><style>{CSS}</style></head><body>",
        "<h1>What central + residual did</h1>",
        f"<p class=sub>{esc(source)}</p>",
        tiles(run),
        says(data_lines(run)),
    ]
    if plots is None:
        out.append(
            says(
                [
                    (
                        "warn",
                        f"Plots are missing: {MISSING}. Install numpy and matplotlib and run report.py again.",
                    )
                ]
            )
        )
    for head in run.heads:
        title, about = HEADS.get(head, (head, ""))
        out += [
            f"<h2>{esc(title)}</h2><p class=note>{esc(about)}</p>",
            "<h3>What this run shows</h3>",
            says(head_lines(run, head)),
            "<h3>Figures</h3>",
            table(run, head),
            tuning(run, head),
            head_plots(run, head),
        ]
    out += [
        interests(run),
        "<h2>How to read this</h2><p>"
        + (
            "A test user is one with an event in the test period; the last one is the "
            if (run.data.get("split") or {}).get("by") == "time"
            else "Every user is in training, validation or test. A test user's last event is the "
        )
        + "target; a target that training never saw counts as a miss. <b>auc</b>: share of 200 uniformly drawn items "
        "scored below the target; <b>auc_pop</b>: the same with items drawn by popularity; <b>hr20</b>: share of "
        "targets among the 20 best of all items, for targets new to the user (<b>hr20_new</b>) or in her history "
        "(<b>hr20_repeat</b>). <b>plain</b>: one table; <b>plain_l2</b>: with the residual's penalty; <b>plain_2x</b>: "
        "as many parameters as center + residual; <b>plain_pretrained</b>: starts from skip-gram vectors of the "
        "training sequences; <b>central</b>: mean of graph neighbors, no residual; <b>avg</b>, "
        "<b>gcn</b>, <b>att</b>: center + residual with three ways to weigh neighbors; <b>assign</b>: one shared "
        "center for each interest. Every variant trains until its validation figure stops improving.</p>",
        settings(run),
        "</body></html>",
    ]
    return "\n".join(out)


def sweep_page(folder):
    """Writes sweep.svg, returns the page."""
    sweep = sweeps.Sweep(folder)
    sweeps.write_svg(sweep, os.path.join(folder, "sweep.svg"))
    caption = "Open markers: rows marked \u2020. Numbers beside markers: the first and the last value."
    picture = image(sweeps.sweep_plot(sweep), f"Sweep of {sweep.name}", caption)
    head = (
        '<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f"<title>resembed: sweep of {esc(sweep.name)}</title><style>{CSS}</style></head><body>"
    )
    return head + sweeps.sweep_section(sweep, esc, picture) + "</body></html>"


def main(arguments):
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    folder = arguments[0]
    path = os.path.join(folder, "report.html")
    if not os.path.exists(os.path.join(folder, "sweep.json")):
        text = page(Run(folder))
    elif sweeps:
        text = sweep_page(folder)
    else:
        print(f"report.py: {MISSING}; a sweep's report needs it", file=sys.stderr)
        return 3
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".tmp", path)
    print(path)
    if plots is None:
        print(f"report.py: {MISSING}; the report has no plots", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
