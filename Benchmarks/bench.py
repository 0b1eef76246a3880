#!/usr/bin/env python3
"""Takes one set of figures and prints it as a table with ratios. usage: bench.py peers|job|engine   (called by run.sh, which builds first)

Machines are noisy: everything that is compared runs in turns within this run, three times each, and the medians are compared.
"""
import contextlib
import json
import os
import pathlib
import resource
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "out/bench"
BENCH = pathlib.Path(os.environ.get("EVERYFRAME_BENCH", ROOT / "../shared/bench")).resolve()
PEERS = os.environ.get("BENCH_PEERS", "aiortc libdatachannel wrtc reactor chromium").split()
REPEATS = int(os.environ.get("BENCH_REPEATS", "3"))
EVERYFRAME = ROOT / ".build/release/everyframe"


def table(head, rows):
    rows = [[str(cell) for cell in row] for row in [head, *rows]]
    width = [max(len(row[column]) for row in rows) for column in range(len(head))]
    rows.insert(1, ["-" * size for size in width])
    for row in rows:
        print("| " + " | ".join(cell.ljust(size) for cell, size in zip(row, width)) + " |")
    print(flush=True)


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def number(value, digits=1):
    return "-" if value is None else f"{value:.{digits}f}"


def verdict(name, value, bound, at_least=True):
    """One line of what was asked for and what came out; False where it was missed."""
    reached = value is not None and (value >= bound if at_least else value <= bound)
    print(f"  {name}: {number(value, 2)} (asked: {'at least' if at_least else 'at most'} {bound:g}) {'reached' if reached else 'MISSED'}")
    return reached


# ---------------------------------------------------------------- channels beside other stacks

def peers():
    worker = ROOT / "Benchmarks/.build/release/channel-worker"
    lines = OUT / "peers.jsonl"
    lines.unlink(missing_ok=True)
    command = [BENCH / "peers/run.sh", "--add", f"everyframe={worker}", "everyframe", *PEERS, "--suite", "loopback", "--sizes", "65536",
               "--reps", str(REPEATS), "--out", lines]
    subprocess.run([str(part) for part in command], stdout=subprocess.DEVNULL, check=False, timeout=3000)
    runs = [json.loads(line) for line in lines.read_text().splitlines()]
    figures = {}
    for run in runs:
        if "error" not in run:
            figures.setdefault(run["peer"], []).append(run)
    summary = {
        peer: {
            "MB/s": median(run["mb_per_s"] for run in mine), "CPU s/GB": median(run.get("cpu_s_per_gb") for run in mine),
            "set-up ms": median(run["setup_ms"] for run in mine), "RTT µs": median(run.get("rtt_us", {}).get("p50") for run in mine),
        } for peer, mine in figures.items()}
    columns = ["MB/s", "CPU s/GB", "set-up ms", "RTT µs"]
    print("\nOne ordered reliable channel over loopback, 64 KiB messages, two processes; medians")
    table(["stack", *columns], [[peer, *(number(values[column]) for column in columns)] for peer, values in summary.items()])
    (OUT / "peers.json").write_text(json.dumps(summary, indent=1))
    ours = summary.get("everyframe")
    others = [values for peer, values in summary.items() if peer != "everyframe"]
    if not ours or not others:
        print("error: no figures of ours" if not ours else "error: no figures of others")
        return False
    fastest = max(others, key=lambda values: values["MB/s"])
    leanest = min((values for values in others if values["CPU s/GB"]), key=lambda values: values["CPU s/GB"])
    return all([
        verdict("MB/s, times the best of the others", ours["MB/s"] / fastest["MB/s"], 2),
        verdict("CPU per GB, share of the leanest of the others", ours["CPU s/GB"] / leanest["CPU s/GB"], 0.5, at_least=False),
        verdict("set-up, times the quickest of the others", ours["set-up ms"] / min(values["set-up ms"] for values in others), 1, at_least=False),
    ])


# ---------------------------------------------------------------- the main job

def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server(*options):
    """Our server on a free port; ended by its own id. Yields its address and a way to ask for its CPU seconds."""
    port = free_port()
    log = open(OUT / "server.log", "wb")
    process = subprocess.Popen([EVERYFRAME, "serve", "--host", "127.0.0.1", "--port", str(port), *options], stdout=log, stderr=log)
    try:
        for _ in range(300):
            if process.poll() is not None:
                raise SystemExit(f"error: the server ended early: {OUT / 'server.log'}")
            with contextlib.suppress(OSError):
                if urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).status == 200:
                    break
            time.sleep(0.1)
        else:
            raise SystemExit("error: the server is not ready after 30 s")

        def cpu():
            fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        yield f"http://127.0.0.1:{port}", cpu
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        log.close()


def stream(address, cpu, video, *options):
    """One job of ours: its summary, with the CPU seconds of both ends."""
    summary = OUT / "summary.json"
    summary.unlink(missing_ok=True)
    server_before, before = cpu(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([str(EVERYFRAME), "stream", str(video), "--server", address, "--summary", str(summary), *options],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or not summary.exists():
        raise SystemExit(f"error: everyframe stream: code {done.returncode}: {done.stderr.decode(errors='replace')[-800:]}")
    result = json.loads(summary.read_text())
    result["server_cpu"] = cpu() - server_before
    result["client_cpu"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return result


def reference(*options):
    """The same job with the prototype's reference client and server on aiortc."""
    done = subprocess.run([str(BENCH / "prototype/run.sh"), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=900)
    if done.returncode:
        raise SystemExit(f"error: the reference: code {done.returncode}: {done.stderr.decode(errors='replace')[-800:]}")
    result = json.loads(done.stdout)
    return {"fps": result["fps"], "client_cpu": result["client"]["cpu_s"], "server_cpu": result["server"]["cpu_s"]}


def job():
    clip = subprocess.run([str(BENCH / "prototype/run.sh"), "clip"], stdout=subprocess.PIPE, text=True, check=True, timeout=900).stdout.strip()
    ours, theirs = [], []
    with server("--model", "synthetic:0ms") as (address, cpu):
        for _ in range(REPEATS):
            theirs.append(reference("--infer-ms", "0", "--quality", "85"))
            ours.append(stream(address, cpu, clip, "--wire", "prototype", "--quality", "85"))
    print(f"\nMain job, {clip}: synthetic:0ms, JPEG quality 85, prototype wire; medians of {REPEATS}")
    names = ["fps", "client_cpu", "server_cpu"]
    rows = [[who, *(number(median(run[name] for run in runs)) for name in names)] for who, runs in (("everyframe", ours), ("aiortc reference", theirs))]
    table(["", "frames/s", "client CPU s", "server CPU s"], rows)
    (OUT / "job.json").write_text(json.dumps({"everyframe": ours, "reference": theirs}, indent=1))
    return verdict("frames/s, times the reference", median(run["fps"] for run in ours) / median(run["fps"] for run in theirs), 3)


# ---------------------------------------------------------------- the real model

def engine():
    video = ROOT / ".deps/footage/vtest.mp4"
    ours, alone = [], []
    with server() as (address, cpu):
        for _ in range(REPEATS):
            done = subprocess.run([str(ROOT / ".build/release/engine-bench"), str(video)], stdout=subprocess.PIPE, check=True, timeout=600)
            alone.append(json.loads(done.stdout))
            ours.append(stream(address, cpu, video))
    print(f"\nThe real model on {video.name}, medians of {REPEATS}: through client, channel and server, and the engine alone on the same decoded frames")
    table(["", "frames/s"], [["engine alone", number(median(run["fps"] for run in alone))], ["main job", number(median(run["fps"] for run in ours))]])
    (OUT / "engine.json").write_text(json.dumps({"everyframe": ours, "engine": alone}, indent=1))
    return verdict("frames/s, share of the engine alone", median(run["fps"] for run in ours) / median(run["fps"] for run in alone), 0.95)


if len(sys.argv) != 2 or sys.argv[1] not in ("peers", "job", "engine"):
    raise SystemExit(__doc__)
OUT.mkdir(parents=True, exist_ok=True)
# A missed mark is a figure like any other: only a bench that could not run fails.
{"peers": peers, "job": job, "engine": engine}[sys.argv[1]]()
