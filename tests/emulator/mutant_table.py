# SPDX-License-Identifier: Apache-2.0
"""The verdicts on the mutants, kept in one tab-separated file for each folder of kernels/: file, operator, the line as
changed, which of equal ones, verdict, by what or why not. Verdicts: `caught`; `equivalent`, a survivor whose change
alters no result that is promised; `survived`, any other; `left out`, no switch can be compiled there."""
import os
import re

SHARE, JUDGED = 0.9, 0.8
SURVIVORS = ("survived", "equivalent")


def read(folder):
    """{key: (verdict, by what or why)}"""
    table = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if name.endswith(".tsv"):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                for line in file:
                    row = line.rstrip("\n").split("\t")
                    table[(row[0], row[1], row[2], int(row[3]))] = (row[4], row[5])
    return table


def write(folder, mutants, verdicts):
    """Writes what was judged now, and keeps what was judged before; `mutants` are all there are now."""
    kept, rows = read(folder), {}
    for mutant in mutants:
        key = mutant.key
        verdict, why = verdicts.get(key, kept.get(key, ("", "")))
        if verdict == "survived" and key in kept and kept[key][0] in SURVIVORS:
            verdict, why = kept[key]
        if verdict:
            rows.setdefault(mutant.path.split("/")[1], []).append("\t".join([*map(str, key), verdict, why]) + "\n")
    os.makedirs(folder, exist_ok=True)
    for name, lines in rows.items():
        with open(os.path.join(folder, name + ".tsv"), "w", encoding="utf-8") as file:
            file.writelines(lines)


def test_of(entry):
    """(program, order, test) by which a plain build caught a mutant, or None."""
    found = re.fullmatch(r"plain: (\w+), ([\w:]+): ([\w/]+\.[\w/]+)", entry[1])
    return (found.group(1), found.group(2), found.group(3)) if found and entry[0] == "caught" else None


def summary(verdicts):
    """Prints the counts; whether enough of those are caught that are not equivalent."""
    counts = [verdict for verdict, _ in verdicts.values()]
    n = {verdict: counts.count(verdict) for verdict in ("caught", "survived", "equivalent", "left out")}
    judged = len(counts) - n["left out"]
    real = max(judged - n["equivalent"], 1)
    print(f"{judged} mutants judged: {n['caught']} caught ({100 * n['caught'] / max(judged, 1):.1f} %; "
          f"{100 * n['caught'] / real:.1f} % without the {n['equivalent']} equivalent ones), {n['survived']} survived, "
          f"{n['left out']} left out")
    return n["caught"] >= SHARE * real


def check(folder, mutants):
    """0 when every survivor has its reason, enough are judged, and enough of those are caught. Lines that changed since
    are not judged."""
    table, now = read(folder), [mutant.key for mutant in mutants]
    known = {key: table[key] for key in now if key in table}
    wrong = [f"{' | '.join(map(str, key))}: {verdict}, and no reason is given" for key, (verdict, why) in known.items()
             if verdict != "caught" and not why]
    print("\n".join([*wrong, f"{len(now)} mutants, {len(now) - len(known)} of them not judged"]))
    enough = summary(known)
    return 0 if enough and not wrong and len(known) >= JUDGED * len(now) else 1
