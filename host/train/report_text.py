# SPDX-License-Identifier: Apache-2.0
"""What a run shows, in words. Each sentence is computed from the run's numbers; rows that hit the limit of epochs
support none of them."""

from report_data import BASELINES, FIGURES, GRAPH, VALID_FIGURE, interval


PARTS = ("hr20_new", "hr20_repeat")


def num(value, digits=3):
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def signed(value, digits=3):
    return ("+" if value >= 0 else "-") + num(abs(value), digits)


def spans(parts):
    mean, low, high = parts
    return f"{signed(mean)} ({signed(low)} to {signed(high)})"


def verdict(parts):
    """above | below | same: what a paired interval says."""
    return "above" if parts[1] > 0 else "below" if parts[2] < 0 else "same"


def join(parts):
    parts = list(parts)
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def compare(row, base, base_name, figure):
    """(verdict, difference, text): by the paired interval where there is one, else by the rows' own intervals, else
    the bare difference, from which nothing is concluded."""
    paired = row.over(base_name, figure)
    if paired:
        return verdict(paired), paired[0], f"{figure} {spans(paired)}"
    a, b = row.num(figure), base.num(figure)
    if a is None or b is None:
        return None
    own, other = interval(row.get(figure)), interval(base.get(figure))
    if own and other:
        result = "above" if own[1] > other[2] else "below" if own[2] < other[1] else "same"
        return (
            result,
            a - b,
            f"{figure} {signed(a - b)} (intervals {'overlap' if result == 'same' else 'apart'})",
        )
    return "bare", a - b, f"{figure} {signed(a - b)} (no interval)"


def against(row, base, base_name, text_of):
    """One sentence comparing two rows in the three main figures, and in the parts of hr20 where they differ beyond the
    interval; None when nothing can be compared."""
    groups = {}
    for figure in (*FIGURES, *PARTS):
        result = compare(row, base, base_name, figure)
        if result and (figure in FIGURES or result[0] in ("above", "below")):
            groups.setdefault(result[0], []).append(result[2])
    words = {
        "above": "higher beyond the interval in",
        "below": "lower beyond the interval in",
        "same": "not told apart in",
        "bare": "differs by",
    }
    parts = [
        f"{words[key]} {join(groups[key])}" for key in ("above", "below", "same", "bare") if key in groups
    ]
    return f"{text_of}: {'; '.join(parts)}." if parts else None


def counts_and_models(run, head, rows):
    lines = []
    baselines = [row for name, row in run.baselines.items() if name in BASELINES]
    losses, wins, open_ = [], [], []
    for figure in FIGURES:
        models = [row for row in rows.values() if row.num(figure) is not None]
        counts = [row for row in baselines if row.num(figure) is not None]
        if not models or not counts:
            continue
        model = max(models, key=lambda row: row.num(figure))
        count = max(counts, key=lambda row: row.num(figure))
        result, difference, _ = compare(model, count, count.name, figure)
        text = f"{figure} ({model.name} {num(model.num(figure))}, {count.name} {num(count.num(figure))})"
        if result in ("same", "bare"):
            open_.append(text)
        else:
            (wins if difference > 0 else losses).append(text)
    if losses:
        lines.append(("warn", f"Counting beats every model trained here in {join(losses)}."))
    if wins:
        lines.append(("good", f"The best model is above the best counting baseline in {join(wins)}."))
    if open_:
        lines.append(("", f"Model and best counting baseline cannot be told apart in {join(open_)}."))
    return lines


def graph_and_plain(run, head, rows):
    lines = []
    best = run.best_graph(head)
    if best is None:
        return lines
    if "plain" in rows:
        line = against(
            best, rows["plain"], "plain", f"Graph variant best on validation, {best.name}, against plain"
        )
        if line:
            lines.append(("", line))
    if "plain_2x" in rows:
        line = against(best, rows["plain_2x"], "plain_2x", f"{best.name} against plain_2x (equal parameters)")
        if line:
            lines.append(("", line))
    if "plain_pretrained" in rows:
        line = against(
            best,
            rows["plain_pretrained"],
            "plain_pretrained",
            f"{best.name} against plain_pretrained (a plain table that starts from skip-gram vectors)",
        )
        if line:
            lines.append(("", line))
    plain = run.best_valid(head, "plain") if "plain" in rows else None
    if plain:
        reached = run.epochs_to_reach(head, best.name, plain[0])
        figure = VALID_FIGURE.get(head, "figure")
        if reached is None:
            lines.append(
                ("", f"{best.name} never reaches plain's best validation {figure} ({num(plain[0])}).")
            )
        else:
            share = reached / plain[1]
            speed = "faster" if share <= 0.75 else "about as fast" if share <= 1.25 else "slower"
            lines.append(
                (
                    "",
                    f"Speed of learning: {best.name} reaches plain's best validation {figure} "
                    f"({num(plain[0])}) in epoch {reached:.3g}, plain in epoch {plain[1]:.3g}: {speed}.",
                )
            )
    return lines


def residual_share(rows):
    lines = []
    central = rows.get("central")
    for name in ("avg", "gcn"):
        row = rows.get(name)
        if row is None or central is None:
            continue
        line = against(
            row, central, "central", f"The residual's own share ({name} against central, which has none)"
        )
        if line:
            results = [compare(row, central, "central", figure) for figure in FIGURES]
            paired = any(row.over("central", figure) for figure in FIGURES)
            if paired and all(result is None or result[0] == "same" for result in results):
                line += " So central alone does as well here: the gain, if any, is the graph's."
            lines.append(("", line))
        break
    return lines


def envelope(rows):
    plain = rows.get("plain")
    base = plain.num("envelope", "radius95") if plain else None
    if not base:
        return []
    parts = []
    for name in GRAPH:
        value = rows[name].num("envelope", "radius95") if name in rows else None
        if value is not None:
            parts.append(f"{name} {num(value / base, 2)}")
    return (
        [
            (
                "",
                f"Envelope radius (95 %) of an interest relative to plain's: {', '.join(parts)}; "
                "below 1 means that items of one interest lie closer together.",
            )
        ]
        if parts
        else []
    )


def ratios(rows):
    parts = [
        f"{row.name} {num(row.num('ratio'), 2)}" for row in rows.values() if row.num("ratio") is not None
    ]
    return [("", f"Median |residual| : |center| of an item: {', '.join(parts)}.")] if parts else []


def head_lines(run, head):
    """[(kind, sentence)] for one head; kind is warn, good or empty."""
    everything = run.heads[head]
    rows = {name: row for name, row in everything.items() if not row.capped}
    lines = []
    capped = [name for name, row in everything.items() if row.capped]
    if capped:
        lines.append(
            (
                "warn",
                f"{join(capped)} still improved when the limit of epochs was reached (marked \u2020); "
                "nothing said here rests on such rows.",
            )
        )
    if not rows:
        return lines + [("warn", "No row trained to its end: no claim is made.")]
    lines += counts_and_models(run, head, rows)
    lines += graph_and_plain(run, head, rows)
    lines += residual_share(rows)
    lines += envelope(rows)
    lines += ratios(rows)
    return lines


def fit_all_lines(run):
    fit = run.metrics.get("fit_all") or {}
    return [
        (
            "",
            f"{fit.get('folder')}/{model.get('file')} has learned from every user, in {model.get('epochs')} epochs. No "
            f"user is left to test it: the figures here are those of {head} {model.get('variant')} trained without the "
            "validation and test users.",
        )
        for head, model in (fit.get("models") or {}).items()
    ]


def data_lines(run):
    lines = []
    data = run.data
    if run.interrupted:
        lines.append(
            ("warn", "The run was interrupted; rows it did not reach are missing. --resume goes on.")
        )
    lines += fit_all_lines(run)
    split = data.get("split") or {}
    if split.get("by") == "time":
        lines.append(
            (
                "",
                f"Split by time: graph, counts and training see the first {100 * (split.get('cut') or 0):.3g} % of "
                "the events; validation targets lie after them, test targets after those. A target's history holds "
                "all earlier events of its user.",
            )
        )
    n_test = data.get("test_targets")
    if n_test and n_test < 1000:
        lines.append(
            ("warn", f"Only {n_test} test users: look at the intervals before believing a difference.")
        )
    if data.get("unknown_share"):
        lines.append(
            (
                "",
                f"{100 * data['unknown_share']:.2g} % of the test targets were never seen in training and "
                "count as misses in every row.",
            )
        )
    agreement = (data.get("interests") or {}).get("agreement") or {}
    if agreement.get("edge_share") is not None:
        text = (
            f"The log was generated, its interests are known: {100 * agreement['edge_share']:.0f} % of the graph's "
            f"edges join items of one interest ({100 * (agreement.get('edge_share_by_chance') or 0):.0f} % by chance)"
        )
        if agreement.get("nmi") is not None:
            text += f", and the interests found agree with the true ones by {num(agreement['nmi'], 2)} (NMI, 1 = equal)"
        lines.append(("", text + "."))
    if run.config.get("seeds") in (1, [1], None):
        lines.append(
            ("", "One seed: no spread over initializations is known; intervals are over test users only.")
        )
    return lines
