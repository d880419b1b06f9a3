#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""study_small_test.py TRAINER SOURCE: the study's small setting, from its runs to its text; run twice it keeps them."""
import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import matplotlib  # noqa: F401
except ImportError:
    print("skipped: matplotlib is not installed")
    sys.exit(77)


def main():
    trainer, study = sys.argv[1], pathlib.Path(sys.argv[2]) / "docs/study"
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder)
        command = [sys.executable, "-B", study / "run.py", trainer, folder, "--small"]
        subprocess.run(command, check=True)
        first = json.loads((out / "study.json").read_text(encoding="utf-8"))
        kept = (out / "generated/mlp/metrics.json").read_text(encoding="utf-8")
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        assert first["experiments"] == json.loads((out / "study.json").read_text(encoding="utf-8"))["experiments"]
        assert json.loads(kept)["heads"] == json.loads((out / "generated/mlp/metrics.json").read_text(encoding="utf-8"))["heads"]
        subprocess.run([sys.executable, "-B", study / "write.py", folder], check=True)
        text = (out / "runs.md").read_text(encoding="utf-8")
        for name, experiment in first["experiments"].items():
            for head, rows in experiment["heads"].items():
                part = text[text.index(f"### {name if experiment['value'] is None else experiment['group']}, {head}\n"):]
                for row in rows:
                    assert f"| `{row}` |" in part, (name, head, row)
        regimes = (out / "regimes.md").read_text(encoding="utf-8")
        assert "of 8 cases" in regimes and regimes.count("over `") == 5, regimes
        assert not (out / "study.md").exists()  # its text is about runs that are not here
        tuned = first["experiments"]["generated"]["heads"]["mlp"]["avg"]["tuned"]
        assert tuned["lr"] > 0 and tuned["lambda"] is not None, tuned
        assert first["experiments"]["generated_time"]["heads"]["mlp"]["avg"]["tuned"]["lr"] == tuned["lr"]
        assert len(first["experiments"]["generated"]["heads"]["mlp"]["avg"]["over"]["plain_pretrained"]["auc"]) == 3
        for picture in ("fraction.svg", "lambda.svg"):
            assert (out / picture).stat().st_size > 1000


main()
