"""What the benches share: where things are, both ends of a job with their processor time and memory, tables and verdicts."""
import contextlib
import json
import os
import pathlib
import resource
import signal
import socket
import statistics
import subprocess
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "out/bench"
BENCH = pathlib.Path(os.environ.get("EVERYFRAME_BENCH", ROOT / "../shared/bench")).resolve()
PROGRAMS = pathlib.Path(os.environ.get("BENCH_BIN", ROOT / ".build/release")).resolve()
REPEATS = int(os.environ.get("BENCH_REPEATS", "3"))
DEPS = pathlib.Path(os.environ.get("EVERYFRAME_DEPS", ROOT / ".deps")).resolve()
FOOTAGE = DEPS / "footage/vtest.mp4"
BEGIN = time.monotonic()


# ---------------------------------------------------------------- figures

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


def middle(runs, name):
    return median(run[name] for run in runs)


def number(value, digits=1):
    return "-" if value is None else f"{value:.{digits}f}"


def machine_busy():
    """CPU seconds of all processes since the machine started."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


BUSY_BEFORE = machine_busy()
# CPU seconds of ours that the system does not count as our children's
elsewhere = 0.0


def others():
    """How many cores processes that are none of ours used while this program ran."""
    used = sum(usage.ru_utime + usage.ru_stime for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)))
    return max(0, machine_busy() - BUSY_BEFORE - used - elsewhere) / (time.monotonic() - BEGIN)


def heading(text, repeats=REPEATS):
    of = f"; medians of {repeats}" if repeats > 1 else ""
    print(f"\n{text}{of}; other programs used {others():.1f} of {os.cpu_count()} cores")


def verdict(name, value, bound, at_least=True, digits=2):
    """One line of what was asked for and what came out; False where it was missed."""
    reached = value is not None and (value >= bound if at_least else value <= bound)
    asked = f"asked: {'at least' if at_least else 'at most'} {bound:g}"
    print(f"  {name}: {number(value, digits)} ({asked}) {'reached' if reached else 'MISSED'}", flush=True)
    return reached


def hold(name, is_so):
    """The same for what is so or not."""
    print(f"  {name}: {'yes' if is_so else 'no, MISSED'}", flush=True)
    return is_so


def record(part, figures):
    (OUT / f"{part}.json").write_text(json.dumps({"others_cores": others(), **figures}, indent=1))


# ---------------------------------------------------------------- processes

def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def memory(pid):
    """Resident megabytes now and at most; None when the process is gone."""
    with contextlib.suppress(OSError, KeyError):
        fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
        return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return None


class Server:
    def __init__(self, pid, port):
        self.pid = pid
        self.address = f"http://127.0.0.1:{port}"

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def server(*options):
    """Our server on a free port; ended by its own id."""
    port = free_port()
    log = open(OUT / "server.log", "wb")
    process = subprocess.Popen([PROGRAMS / "everyframe", "serve", "--host", "127.0.0.1", "--port", str(port), *options], stdout=log, stderr=log)
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
        yield Server(process.pid, port)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        log.close()


def stream(serving, video, *options, limit=600, stdin=None, watch=None):
    """One job of ours: its summary, with the CPU seconds of both ends. `watch` is called with the client's id ten times a second."""
    summary, log = OUT / "summary.json", OUT / "client.log"
    summary.unlink(missing_ok=True)
    before = serving.cpu()
    with open(log, "wb") as errors:
        client = subprocess.Popen([PROGRAMS / "everyframe", "stream", str(video), "--server", serving.address, "--summary", str(summary), *options],
                                  stdin=stdin, stdout=subprocess.DEVNULL, stderr=errors)
        # the bound is a timer's, since wait4, which tells the CPU seconds of this process alone, has none
        bound = threading.Timer(limit, client.kill)
        bound.start()
        over = threading.Event()
        watcher = threading.Thread(target=lambda: [watch(client.pid) for _ in iter(lambda: over.wait(0.1), True)] if watch else None)
        watcher.start()
        _, status, usage = os.wait4(client.pid, 0)
        client.returncode = os.waitstatus_to_exitcode(status)
        bound.cancel()
        over.set()
        watcher.join()
    if client.returncode or not summary.exists():
        raise SystemExit(f"error: everyframe stream: code {client.returncode}: {log.read_text(errors='replace')[-800:]}")
    result = json.loads(summary.read_text())
    if not result["ok"]:
        raise SystemExit(f"error: everyframe stream: {result['proof']}")
    result["server_cpu"] = serving.cpu() - before
    result["client_cpu"] = usage.ru_utime + usage.ru_stime
    result["cpu"] = result["server_cpu"] + result["client_cpu"]
    return result


def reference(*options):
    """The same job with the prototype's reference client and server on aiortc."""
    done = subprocess.run([str(BENCH / "prototype/run.sh"), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=900)
    if done.returncode:
        raise SystemExit(f"error: the reference: code {done.returncode}: {done.stderr.decode(errors='replace')[-800:]}")
    result = json.loads(done.stdout)
    client, serving = result["client"]["cpu_s"], result["server"]["cpu_s"]
    global elsewhere
    elsewhere += serving  # nobody waits for it
    return {"fps": result["fps"], "client_cpu": client, "server_cpu": serving, "cpu": client + serving,
            "bytes_sent": result["wire_mb_per_s"] * result["seconds"] * 1e6}


def clip():
    """The reference clip: 2,400 frames 1280x720, H.264."""
    return subprocess.run([str(BENCH / "prototype/run.sh"), "clip"], stdout=subprocess.PIPE, text=True, check=True, timeout=900).stdout.strip()


def engine_bench(mode, *arguments):
    done = subprocess.run([str(PROGRAMS / "engine-bench"), mode, *map(str, arguments)], stdout=subprocess.PIPE, check=True, timeout=600)
    return json.loads(done.stdout)
