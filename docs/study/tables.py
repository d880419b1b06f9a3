# SPDX-License-Identifier: Apache-2.0
"""Tables and single figures of the study, as Markdown. A study is what run.py wrote: experiments by name, of each its
rows by head; an interval is [mean, low, high]."""
import json

FIGURES = ("auc", "auc_pop", "hr20", "hr20_new")
RIVALS = ("central", "plain_2x", "plain_pretrained", "itemknn_seen")  # all of them have to be beaten
ALSO = "central_pretrained"  # what the residual adds where centers are pretrained as well
WITH_RESIDUAL = ("avg", "att", "avg_pretrained", "att_pretrained")
VALID = {"mlp": "auc", "din": "auc", "dot": "hr20"}
TITLES = {
    "retail_user": "online_retail_ii, split by user", "retail_time": "online_retail_ii, split by time",
    "generated": "generated, the default", "generated_time": "generated, split by time",
    "half": "generated, half as many users and items",
    "retail_fraction": "online_retail_ii, share of the training users", "fraction": "generated, share of the training users",
    "retail_lambda": "online_retail_ii, lambda", "lambda": "generated, lambda", "noise": "generated, share of noise",
    "items": "generated, items of 40 interests",
}
# Where another experiment is a point of an axis: group -> (experiment, value).
SHARED = {"retail_fraction": ("retail_user", 1.0), "fraction": ("half", 1.0), "noise": ("half", 0.1), "items": ("half", 2000)}


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def number(value, digits=3):
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def signed(interval, bold=True):
    """"+.003 (+.001 to +.005)", set in bold where the interval leaves out zero."""
    if not interval or interval[1] is None:
        return "-"
    text = "{} ({} to {})".format(*(f"{value:+.3f}".replace("0.", ".", 1) for value in interval))
    return f"**{text}**" if bold and (interval[1] > 0 or interval[2] < 0) else text


def over(row, rival, figure):
    return row["over"].get(rival, {}).get(figure)


def axes(study):
    """Groups whose experiments have places on an axis."""
    return list(dict.fromkeys(e["group"] for e in study["experiments"].values() if e["value"] is not None))


def points(study, group):
    """(value, experiment) of a group, values rising."""
    found = [(e["value"], e) for e in study["experiments"].values() if e["group"] == group]
    name, value = SHARED.get(group, (None, None))
    if name in study["experiments"]:
        found.append((value, study["experiments"][name]))
    return sorted(found, key=lambda point: point[0])


def heads_of(study, group):
    return list(points(study, group)[0][1]["heads"])


def rows_of(study, group, head):
    """Rows of the group's experiments, in the order they were trained, with their (value, row) points."""
    rows = {}
    own = {e["value"] for e in study["experiments"].values() if e["group"] == group}
    for value, experiment in points(study, group):
        for name, row in experiment["heads"].get(head, {}).items():
            rows.setdefault(name, []).append((value, row))
    return {name: found for name, found in rows.items() if any(value in own for value, _ in found)}


def best_residual(rows):
    """The variant of center + residual that is best on validation, or None."""
    found = [name for name in WITH_RESIDUAL if name in rows]
    return max(found, key=lambda name: rows[name]["valid"]) if found else None


def rows_table(experiment, head):
    lines = ["| row | auc | auc_pop | hr20 | hr20_new | logloss | gap | residual : center | radius | epochs | lr, lambda |",
             "|---|---|---|---|---|---|---|---|---|---|---|"]
    for name, row in experiment["baselines"].items():
        lines.append(f"| {name} | {' | '.join(number(row[figure]) for figure in FIGURES)} | | | | | | |")
    for name, row in experiment["heads"][head].items():
        cells = [number(row[figure]) for figure in FIGURES]
        cells += [number(row.get(key)) for key in ("logloss", "gap", "ratio", "radius")]
        tuned = row.get("tuned")
        cells += [f"{row['best_epoch']:.1f}{'*' if row['capped'] else ''}",
                  f"{tuned['lr']:g}{' (edge)' if tuned['edge'] else ''}, {tuned['lambda'] if tuned['lambda'] is not None else '-'}"
                  if tuned else ""]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return lines


def axis_table(study, group, head):
    """auc / hr20 of every row at every value."""
    values = [value for value, experiment in points(study, group) if head in experiment["heads"]]
    lines = ["| row | " + " | ".join(f"{value:g}" for value in values) + " |", "|---" * (1 + len(values)) + "|"]
    for name, found in rows_of(study, group, head).items():
        at = dict(found)
        cells = [f"{number(at[value]['auc'])} / {number(at[value]['hr20'])}" if value in at else "" for value in values]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    counted = [experiment["baselines"]["itemknn_seen"] for _, experiment in points(study, group) if head in experiment["heads"]]
    lines.append("| itemknn_seen | " + " | ".join(f"{number(row['auc'])} / {number(row['hr20'])}" for row in counted) + " |")
    return lines


def regimes(study):
    """Every experiment and head with all rivals: (name, head, the residual row chosen on validation, whether it is ahead of
    every rival there, the figures in which it is ahead of each on test with zero outside the interval, differences to the
    rivals and to ALSO)."""
    found = []
    for name, experiment in study["experiments"].items():
        for head, rows in experiment["heads"].items():
            chosen = best_residual(rows)
            if chosen is None or any(rival not in rows for rival in (*RIVALS, ALSO) if rival != "itemknn_seen"):
                continue
            row = rows[chosen]
            counted = experiment["baselines"]["itemknn_seen"]["valid"].get(VALID[head])
            rivals = [rows[rival]["valid"] for rival in RIVALS if rival in rows] + ([counted] if counted is not None else [])
            parts = {figure: [over(row, rival, figure) for rival in (*RIVALS, ALSO)] for figure in FIGURES}
            wins = [figure for figure in FIGURES if all(part and part[1] > 0 for part in parts[figure][:-1])]
            found.append((name, head, chosen, row["valid"] > max(rivals), wins, parts))
    return found


def summary(study):
    found = regimes(study)
    ahead = [regime for regime in found if regime[3]]
    confirmed = [f"`{name}` {head} (`{chosen}`: {', '.join(wins)})" for name, head, chosen, _, wins, _ in ahead if wins]
    beyond = [f"`{name}` {head} ({', '.join(figure for figure in wins if parts[figure][-1][1] > 0)})"
              for name, head, _, _, wins, parts in ahead if any(parts[figure][-1][1] > 0 for figure in wins)]
    return {"regimes": str(len(found)), "ahead": str(len(ahead)), "n_confirmed": str(len(confirmed)),
            "confirmed": "; ".join(confirmed) if confirmed else "none", "n_beyond": str(len(beyond)),
            "beyond": "; ".join(beyond) if beyond else "none", "minutes": f"{study['minutes']:.0f}",
            "seeds": str(study["seeds"]), "experiments": str(len(study["experiments"])),
            "rows": str(sum(len(rows) for e in study["experiments"].values() for rows in e["heads"].values()) * study["seeds"])}


def regimes_lines(study, only_confirmed):
    lines = ["| experiment, head | row | figure | " + " | ".join(f"over `{rival}`" for rival in (*RIVALS, ALSO)) + " |",
             "|---" * (4 + len(RIVALS)) + "|"]
    for name, head, chosen, ahead, wins, parts in regimes(study):
        if only_confirmed and not (ahead and wins):
            continue
        for figure in FIGURES:
            where = f"{name}, {head}{' (ahead on validation)' if ahead and not only_confirmed else ''}" if figure == FIGURES[0] else ""
            lines.append(f"| {where} | `{chosen}` | {figure} | " + " | ".join(signed(part) for part in parts[figure]) + " |")
    return lines


def regimes_page(study):
    facts = summary(study)
    return "\n".join([
        "# Center + residual against its rivals", "",
        "In each experiment and head the row with a residual that is best on validation, minus each rival, on test. Intervals are 95 %, over test "
        "users, paired, of means over seeds, not corrected for their number; bold: zero lies outside.", "",
        f"It is ahead of {', '.join(f'`{rival}`' for rival in RIVALS)} on validation in {facts['ahead']} of {facts['regimes']} cases. Of those it is ahead of all "
        f"of them on test, zero outside every interval, in {facts['n_confirmed']}: {facts['confirmed']}. Of these it is ahead of `{ALSO}` as well in "
        f"{facts['n_beyond']}: {facts['beyond']}.", "", *regimes_lines(study, False), ""])


def command_of(study, experiment, head):
    tuned = f" --tuned {experiment['tuned']}/{head}/metrics.json" if experiment["tuned"] else ""
    return f"`resembed-train {experiment['arguments']}{tuned} --head {head} --seeds {study['seeds']}`"


def runs(study):
    text = ["# The runs of the study", "", f"{len(study['experiments'])} experiments, {study['seeds']} seeds, {study['minutes']:.0f} minutes. lr, "
            "lambda: as tuned; edge: the lowest or highest rate tried. epochs: the one kept; * the last allowed.", ""]
    for name, experiment in study["experiments"].items():
        if experiment["value"] is not None:
            continue
        data = experiment["data"]
        text += [f"## {name}: {TITLES[experiment['group']]}", "", f"{data['users']} users, {data['items']} items, {data['events']} events; "
                 f"{data['train_users']} users train, {data['test_users']} test.", ""]
        for head in experiment["heads"]:
            text += [f"### {name}, {head}", "", command_of(study, experiment, head), "", *rows_table(experiment, head), ""]
    for group in axes(study):
        text += [f"## {group}: {TITLES[group]}", "", f"![{TITLES[group]}]({group}.svg)", "", "auc / hr20 by value.", ""]
        first = next(e for e in study["experiments"].values() if e["group"] == group)
        for head in heads_of(study, group):
            text += [f"### {group}, {head}", "", command_of(study, first, head) + " and so on", "", *axis_table(study, group, head), ""]
    return "\n".join(text)


def look_up(study, words, pictures):
    """What stands between {{ and }} in docs/study/text.in."""
    parts = words.split()
    facts = summary(study)
    if len(parts) == 1 and parts[0] in facts:
        return facts[parts[0]]
    if parts[0] == "picture":
        return f"![{TITLES[parts[1]]}]({pictures}{parts[1]}.svg)"
    if parts[0] == "confirmed-table":
        return "\n".join(regimes_lines(study, True))
    if parts[0] == "table":
        return "\n".join(rows_table(study["experiments"][parts[1]], parts[2]))
    if parts[0] == "axis":
        return "\n".join(axis_table(study, parts[1], parts[2]))
    experiment = study["experiments"][parts[0]]
    if parts[1] == "data":
        return f"{experiment['data'][parts[2]]:,}"
    if parts[1] in experiment["baselines"]:
        return number(experiment["baselines"][parts[1]][parts[2]])
    row = experiment["heads"][parts[1]][parts[2]]
    if parts[3] == "over":
        return signed(row["over"][parts[4]][parts[5]], bold=False)
    if parts[3] in ("lr", "lambda"):
        return f"{row['tuned'][parts[3]]:g}"
    return number(row[parts[3]])
