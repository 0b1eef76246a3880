"""What the peer scripts share: JSON lines, and the messages that both sides make by rule (README.md)."""
import json
import os
import sys
import threading
import zlib

LIFETIME = float(os.environ.get("PEER_LIFETIME", "120"))
at_end = []  # what to do before the process ends
_lock, _ending = threading.Lock(), threading.Lock()


def emit(event, **fields):
    line = (json.dumps({"event": event, **fields}) + "\n").encode()
    with _lock:
        while line:
            line = line[os.write(1, line):]


def end(code=0):
    if _ending.acquire(blocking=False):
        for action in at_end:
            action()
        os._exit(code)
    threading.Event().wait(10)  # another thread is at it


def fail(text):
    if not _ending.locked():
        emit("error", text=str(text)[:500])
    end(1)


def binary(size, seed):
    return bytes((i * 31 + (i >> 8) * 7 + seed) & 255 for i in range(size))


def text(size, seed):
    front = "é𝄞" if size >= 6 else ""
    rest = size - len(front.encode())
    return front + bytes(97 + ((i * 31 + (i >> 8) * 7 + seed) & 255) % 26 for i in range(rest)).decode()


def make(command):
    return (text if command["kind"] == "text" else binary)(command["size"], command["seed"])


def report(label, message):
    kind, data = ("text", message.encode()) if isinstance(message, str) else ("binary", bytes(message))
    emit("message", label=label, kind=kind, size=len(data), crc=zlib.crc32(data))


def commands(handle):
    """Calls `handle` with each command, on a thread of its own. The end of the input, or too long a life, ends the process."""

    def read():
        for line in sys.stdin:
            if line.strip():
                try:
                    handle(json.loads(line))
                except Exception as error:  # whatever it was: the test must see it
                    fail(f"{line.strip()[:80]}: {type(error).__name__}: {error}")
        end()

    def expire():
        fail(f"the peer outlived {LIFETIME:.0f} s")

    timer = threading.Timer(LIFETIME, expire)
    timer.daemon = True
    timer.start()
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
