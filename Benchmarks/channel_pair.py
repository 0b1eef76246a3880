"""Two channel-workers, one channel, descriptions through their pipes: the bench of other stacks in small, for what that bench does not ask."""
import queue
import subprocess
import threading
import time


def run(worker, arguments, prefix_send=(), prefix_receive=(), limit=110):
    """What both ended with: MB/s, CPU s/GB, and the sender's `control` round trips in ms. Raises where they did not end."""
    def start(role, prefix):
        words = [*prefix, str(worker), f"role={role}", f"deadline={limit}", *(f"{key}={value}" for key, value in arguments.items())]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    ends = {"send": start("send", prefix_send), "recv": start("recv", prefix_receive)}
    lines = queue.Queue()

    def read(role):
        for line in ends[role].stdout:
            if line.startswith("@"):
                lines.put((role, line[1:].split()))
        lines.put((role, ["eof"]))

    def tell(role, *words):
        ends[role].stdin.write(" ".join(words) + "\n")
        ends[role].stdin.flush()

    for role in ends:
        threading.Thread(target=read, args=(role,), daemon=True).start()
    ready, opened, result = 0, 0, {}
    end = time.monotonic() + limit
    try:
        while not {"finished", "sender_cpu"} <= result.keys():
            role, words = lines.get(timeout=max(0.1, end - time.monotonic()))
            match words[0]:
                case "ready":
                    ready += 1
                    if ready == 2:
                        tell("recv", "start")
                        tell("send", "start")
                case "sdp" | "cand": tell("recv" if role == "send" else "send", *words)
                case "open":
                    opened += 1
                    if opened == 2:
                        tell("send", "go")
                case "control": result["control"] = [int(word) / 1000 for word in words[1:]]
                case "rtt": result["rtt"] = [int(word) / 1e6 for word in words[1:]]
                case "xfer-start": result["began"] = int(words[1])
                case "xfer": result |= {"finished": int(words[1]), "receiver_cpu": float(words[2]), "bytes": int(words[3])}
                case "sent": result["sender_cpu"] = float(words[2])
                case "error" | "eof": raise RuntimeError(f"{role}: {' '.join(words)}")
    except queue.Empty:
        raise RuntimeError(f"not done after {limit} s") from None
    finally:
        for process in ends.values():
            process.kill()
            process.wait()
    seconds, gigabytes = (result["finished"] - result["began"]) / 1e9, result["bytes"] / 1e9
    result["mb_per_s"] = result["bytes"] / 1e6 / seconds
    result["cpu_s_per_gb"] = (result["sender_cpu"] + result["receiver_cpu"]) / gigabytes
    return result
