#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The text of the study, from what run.py wrote.

  write.py FOLDER            FOLDER/study.json -> FOLDER/runs.md, regimes.md and *.svg; and study.md when nothing is missing
  write.py FOLDER --publish  the same into docs/study.md and docs/results/study
  write.py --check           fails when docs/study.md does not say what docs/results/study/study.json holds

docs/study/text.in is the text; every figure in it is looked up: {{retail_user dot avg auc}} is a mean,
{{retail_user dot avg over central auc}} a difference with its interval, {{table retail_user dot}} a table.
"""
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import tables  # noqa: E402 (beside this file)

DOCS = HERE.parent
PUBLISHED = DOCS / "results/study"


def text_of(study, pictures):
    """docs/study/text.in with its figures; KeyError names what the study does not have."""
    template = (HERE / "text.in").read_text(encoding="utf-8")
    return re.sub(r"\{\{([^}]*)\}\}", lambda found: tables.look_up(study, found.group(1), pictures), template)


def check():
    study = tables.load(PUBLISHED / "study.json")
    if (DOCS / "study.md").read_text(encoding="utf-8") != text_of(study, "results/study/"):
        sys.exit("write.py: docs/study.md differs from docs/study/text.in with the figures of docs/results/study/study.json; "
                 "needs write.py docs/results/study --publish")


def main():
    if sys.argv[1:] == ["--check"]:
        return check()
    if len(sys.argv) < 2 or sys.argv[2:] not in ([], ["--publish"]):
        sys.exit(__doc__)
    import pictures  # needs matplotlib
    folder = pathlib.Path(sys.argv[1])
    study = tables.load(folder / "study.json")
    publish = bool(sys.argv[2:])
    out, text, prefix = (PUBLISHED, DOCS / "study.md", "results/study/") if publish else (folder, folder / "study.md", "")
    out.mkdir(parents=True, exist_ok=True)
    if out.resolve() != folder.resolve():
        (out / "study.json").write_bytes((folder / "study.json").read_bytes())
    for group in tables.axes(study):
        pictures.draw(study, group, out / f"{group}.svg")
    (out / "runs.md").write_text(tables.runs(study), encoding="utf-8")
    (out / "regimes.md").write_text(tables.regimes_page(study), encoding="utf-8")
    try:
        text.write_text(text_of(study, prefix), encoding="utf-8")
    except KeyError as missing:  # for instance without --data
        print(f"no study.md: docs/study/text.in asks for {missing}, which these runs do not hold")
        if publish:
            sys.exit(1)
    print(f"wrote {out / 'runs.md'}")


main()
