# SPDX-License-Identifier: Apache-2.0
"""The page that tests/gpu/check prints: steps, shares of the copy bandwidth, ratios to the baselines, profile."""
import csv
import io
import json
import re

# What the forward is held to (share: of the copy bandwidth, logical bytes; ratio: of times).
LEAST_SHARE = {128: 0.70, 256: 0.85, 512: 0.85, 1024: 0.85}


def parts(name):
    """A benchmark's name as a dictionary: group, form, dim, ..., way, cold."""
    name = re.sub(r"/(iterations:\d+|manual_time)", "", name)
    words = name.split("/")
    found = {"group": words[1], "types": words[2], "way": words[-2], "state": words[-1], "random": "random" in words}
    for word in words[3:-2]:
        key, _, value = word.partition(":")
        found[key] = value
    found["case"] = "/".join(words[1:-2])
    return found


def read_report(path):
    """Google Benchmark's JSON; of a program that was cut, the cases that it had done."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    try:
        return json.loads(text)
    except ValueError:
        pass
    end = text.rfind("\n    }")
    try:
        return json.loads(text[:end] + "\n    }\n  ]\n}")
    except ValueError:
        return {"context": {}, "benchmarks": []}


def read_ncu(text, case):
    """Rows of `ncu --csv --page raw`: one dictionary a launch, numbers where they are numbers."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        return []
    rows = []
    for row in csv.DictReader(io.StringIO("\n".join(lines[start:]))):
        if not (row.get("ID") or "").strip().isdigit():
            continue  # the line of units
        launch = {"case": case, "kernel": row.get("Kernel Name", "")}
        for key, value in row.items():
            if key and ("__" in key):
                try:
                    launch[key] = float((value or "").replace(",", ""))
                except ValueError:
                    pass
        rows.append(launch)
    return rows


def limiter(launch):
    """The unit that is busiest, of those that were asked for."""
    units = {"HBM": "dram__throughput.avg.pct_of_peak_sustained_elapsed",
             "L2": "lts__t_sectors.avg.pct_of_peak_sustained_elapsed",
             "L1": "l1tex__throughput.avg.pct_of_peak_sustained_elapsed",
             "SM": "sm__throughput.avg.pct_of_peak_sustained_elapsed"}
    known = {unit: launch[key] for unit, key in units.items() if key in launch}
    if not known:
        return "?"
    busiest = max(known, key=known.get)
    return f"{busiest} {known[busiest]:.0f} %" + (" (latency)" if known[busiest] < 60 else "")


def shares(results):
    lines = ["| row bytes | form | GB/s | of copy | needs |", "|---|---|---|---|---|"]
    for result in results:
        p = parts(result["name"])
        if p["group"] != "rows" or p["way"] != "fused" or p["state"] != "cold" or "copy_frac" not in result:
            continue
        row_bytes = int(p["dim"]) * 2
        least = f"{LEAST_SHARE[row_bytes]:.2f}" if row_bytes in LEAST_SHARE else "-"
        if p["form"] != "none":
            least = "-, half of its bytes are centers out of the cache"
        lines.append(f"| {row_bytes} | {p['form']} | {result['GBps']:.0f} | {result['copy_frac']:.2f} | {least} |")
    return lines if len(lines) > 2 else []


def need(p):
    """(how the case is compared, at most) for 4,096 and 65,536 centers of R1."""
    if p["group"] != "r1" or p.get("centers") not in ("4Ki", "64Ki"):
        return "", ""
    if "coherent" in p:
        return "x single", "1.10" if p["zipf"] == "0" else "1.25"
    if p["zipf"] == "0" and p["centers"] == "4Ki":
        return "x single", "1.35"
    return "x two", "0.60"


def ratios(results):
    times = {}
    for result in results:
        p = parts(result["name"])
        if p["state"] == "cold" and "us" in result:
            times.setdefault(p["case"], {"parts": p})[p["way"]] = result["us"]
    lines = ["| case | us | x single | x two | x materialized | needs at most |", "|---|---|---|---|---|---|"]
    for case, row in times.items():
        if row["parts"]["group"] == "rows" or "single" not in row or "fused" not in row:
            continue
        cells = [f"{row['fused'] / row[way]:.2f}" if row.get(way) else "-" for way in ("single", "two", "materialized")]
        what, most = need(row["parts"])
        lines.append(f"| {case} | {row['fused']:.0f} | " + " | ".join(cells) + f" | {(what + ' ' + most).strip() or '-'} |")
    return lines if len(lines) > 2 else []


def peers(results):
    times = {}
    for result in results:
        p = parts(result["name"])
        if p["state"] == "cold" and "us" in result and p["way"] in ("fused", "cuembed"):
            times.setdefault(p["case"], {})[p["way"]] = result["us"]
    return [f"- {case}: our gather at {row['cuembed'] / row['fused']:.2f}x of cuEmbed's speed"
            for case, row in times.items() if "cuembed" in row and row.get("fused")]


def trained(results):
    """Plan, backward and step beside what each is held to; `x` of a way: our time over its."""
    rows = {}
    for result in results:
        p = parts(result["name"])
        if "us" in result:
            rows.setdefault(p["case"], {"parts": p})[p["way"]] = result
    lines = ["| case | plan us | sort's share | backward us | x least | x atomics | x reduce_by_key | step us | of copy | "
             "with plan | x single | x two | needs |", "|" + "---|" * 13]
    for case, row in rows.items():
        if not {"plan", "backward", "step", "plan_step"} <= set(row):
            continue
        group = row["parts"]["group"]

        def ratio(way, other, row=row):
            return f"{row[way]['us'] / row[other]['us']:.2f}" if other in row and row[other]["us"] else "-"
        needs = {"w1": "x least 1.25, x atomics 1.05", "w3": "of copy 0.60", "r1": "x single 1.25",
                 "r2": f"x neighbor bytes 1.20, is {row['backward'].get('x_neighbor_bytes', 0):.2f}"}.get(group, "-")
        if "plan_two_sorts" in row:
            needs += f"; plan with one sort {ratio('plan', 'plan_two_sorts')} of two"
        if "cuembed" in row:
            needs += f"; backward {ratio('backward', 'cuembed')} of cuEmbed's kernel, at most 1.05"
        if "cuembed_transpose" in row:
            both = (row["plan"]["us"] + row["backward"]["us"]) / max(row["cuembed_transpose"]["us"], 1e-9)
            needs += f"; plan and backward {both:.2f} of cuEmbed's transpose and backward, below 1"
        lines.append(
            f"| {case} | {row['plan']['us']:.0f} | {row['plan'].get('sort_share', 0):.0%} | {row['backward']['us']:.0f} | "
            f"{row['backward'].get('x_least', 0):.2f} | {ratio('backward', 'atomics')} | "
            f"{ratio('backward', 'reduce_by_key')} | {row['step']['us']:.0f} | {row['step']['copy_frac']:.2f} | "
            f"{row['plan_step']['copy_frac']:.2f} | {ratio('step', 'single')} | {ratio('plan_step', 'two')} | {needs} |")
    return lines if len(lines) > 2 else []


def profiled(rows):
    lines = ["| kernel | us | HBM MB | sectors/request | warps active | limiter |", "|---|---|---|---|---|---|"]
    for launch in rows:
        requests = launch.get("l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum", 0)
        sectors = launch.get("l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum", 0)
        lines.append(
            f"| {launch['kernel'][:60]} | {launch.get('gpu__time_duration.sum', 0) / 1e3:.0f} | "
            f"{(launch.get('dram__bytes_read.sum', 0) + launch.get('dram__bytes_write.sum', 0)) / 1e6:.0f} | "
            + (f"{sectors / requests:.1f}" if requests else "-")
            + f" | {launch.get('sm__warps_active.avg.pct_of_peak_sustained_active', 0):.0f} % | {limiter(launch)} |")
    return lines if len(lines) > 2 else []


def read_adapter(path):
    """What bench/torch/run wrote; empty where it wrote nothing."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"tiny": {}, "cases": []}


def adapter_times(adapter):
    lines = ["| PyTorch | ms | x resembed |", "|---|---|---|"]
    for name, row in adapter["tiny"].items():
        lines.append(f"| tiny call: {name} | {row['median_us'] / 1e3:.4f} | "
                     f"{row['over_F.embedding_bag']:.2f} x F.embedding_bag |")
    for case in adapter["cases"]:
        for phase, found in {"forward": case.get("forward", {}), **{
                f"training, {phase}": found for phase, found in case.get("training", {}).items()}}.items():
            for name, row in found.items():
                lines.append(f"| {phase}, {case['rows']:,} rows, dim {case['dim']}, zipf {case['zipf']}: {name} | "
                             f"{row['median_ms']:.3f} | {row.get('over_resembed', 1):.2f} |")
    return lines if len(lines) > 2 else []


def summary(run, results, rows, training=(), adapter=None):
    title = "a rehearsal with the emulator: no time below means anything" if run["emulated"] else run["gpu"]
    copy = max((r["copy_GBps"] for r in results if "copy_GBps" in r), default=0)
    text = [f"# resembed {run['commit']} on {title}, {run['date']}", "",
            f"{run['minutes']:.1f} minutes. Copy bandwidth in the same process: {copy:.0f} GB/s read + written.", ""]
    text += [f"- {step['name']}: {step['status']}: {step['detail']}" for step in run["steps"]] + [""]
    for heading, lines in (("Distinct ids, cold", shares(results)), ("Residual forward, cold", ratios(results)),
                           ("Beside cuEmbed", peers(results)), ("Training, cold", trained(training)),
                           ("Profile", profiled(rows)),
                           ("PyTorch adapter", adapter_times(adapter) if adapter else [])):
        if lines:
            text += [f"## {heading}", ""] + lines + [""]
    return "\n".join(text)
