#!/usr/bin/env python3
"""Prints what a demo run left in a folder: the summary as a table, and where to look. usage: demo-report.py FOLDER"""
import collections
import json
import pathlib
import shutil
import subprocess
import sys


def detections(node):
    """The list of detections in one frame's outputs, wherever it is nested: the objects that have a class and a confidence."""
    if isinstance(node, dict):
        if "class" in node and "confidence" in node:
            yield node
        for value in node.values():
            yield from detections(value)
    elif isinstance(node, list):
        for value in node:
            yield from detections(value)


def main() -> int:
    out = pathlib.Path(sys.argv[1])
    try:
        summary = json.loads((out / "summary.json").read_text())
    except (OSError, ValueError) as error:
        print(f"error: no summary: {error}", file=sys.stderr)
        return 1
    results = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines() if line]
    ids = [result["video_metadata"]["frame_id"] for result in results]
    per_frame = [list(detections(result.get("serialized_output_data"))) for result in results]
    classes = collections.Counter(found["class"] for found_here in per_frame for found in found_here)

    rows = [(name.replace("_", " "), summary[name]) for name in ("frames_decoded", "frames_sent", "results_received", "frames_failed") if name in summary]
    rows += [("frames/s", f"{summary.get('fps', 0):.1f}"), ("seconds", f"{summary.get('seconds', 0):.1f}"), ("MB sent", f"{summary.get('bytes_sent', 0) / 1e6:.1f}")]
    rows += [("set-up ms", f"{summary.get('setup_ms', 0):.0f}")]
    for stage, times in summary.get("stages", {}).items():
        values = [times.get(key) if times.get(key) is not None else times.get(key + "_ms") for key in ("p50", "p99")]
        rows.append((f"{stage} ms p50 / p99", " / ".join("-" if value is None else f"{value:.2f}" for value in values)))
    rows += [("detections", ", ".join(f"{count} {name}" for name, count in classes.most_common(5)) or "none")]
    width = max(len(name) for name, _ in rows)
    print()
    for name, value in rows:
        print(f"  {name.ljust(width)}  {value}")

    picture, video = out / "annotated.jpg", out / "annotated.mp4"
    if video.exists() and per_frame and shutil.which("ffmpeg"):
        busiest = max(range(len(per_frame)), key=lambda index: len(per_frame[index]))
        subprocess.run(
            ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(video), "-vf", f"select=eq(n\\,{busiest})", "-frames:v", "1", "-q:v", "2", str(picture)],
            check=False, timeout=120)
    print()
    for what, path in (("results", out / "results.jsonl"), ("summary", out / "summary.json"), ("annotated video", video), ("annotated picture", picture)):
        print(f"  {what.ljust(17)}  {path if path.exists() else 'missing'}")
    complete = ids == list(range(1, summary.get("frames_decoded", -1) + 1)) and summary.get("ok") is True
    print(f"\n  {'every frame answered, in order, once' if complete else 'NOT every frame was answered in order'}: {len(ids)} results\n")
    return 0 if complete and classes and video.exists() and picture.exists() else 1


sys.exit(main())
