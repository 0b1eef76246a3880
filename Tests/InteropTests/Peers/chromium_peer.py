"""A page in headless Chromium as the other end, driven over the browser's debugging pipe: no port, no network. See README.md."""
import fcntl
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

import peer

ORIGIN = "http://localhost"  # never fetched: the request is answered here; a page needs a secure origin
FLAGS = [
    "--headless", "--no-sandbox", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions",
    "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost", "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows",
]


class Browser:
    """The process and its pipe: requests with an id, answers, and notifications."""

    def __init__(self, hide_addresses):
        program = next((path for path in (os.environ.get("CHROMIUM"), "/usr/lib/chromium/chromium", shutil.which("chromium")) if path and os.path.exists(path)), None)
        if not program:
            peer.fail("chromium is not installed")
        self.profile = tempfile.mkdtemp(prefix="everyframe-chromium-")
        to_read, self.to = os.pipe()
        self.answers, from_write = os.pipe()
        flags = FLAGS + [f"--user-data-dir={self.profile}"]
        if not hide_addresses:
            flags.append("--disable-features=WebRtcHideLocalIpsWithMdns")

        def wire():
            # The browser wants its pipe on descriptors 3 and 4; copies first, for either may be one of ours.
            read, write = fcntl.fcntl(to_read, fcntl.F_DUPFD, 20), fcntl.fcntl(from_write, fcntl.F_DUPFD, 20)
            os.dup2(read, 3)
            os.dup2(write, 4)
            os.close(read)
            os.close(write)

        self.process = subprocess.Popen(
            [program, *flags], preexec_fn=wire, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True)
        os.close(to_read)
        os.close(from_write)
        self.ids, self.waiting, self.lock = itertools.count(1), {}, threading.Lock()
        self.session = None
        peer.at_end.append(self.end)
        threading.Thread(target=self.read, daemon=True).start()

    def call(self, method, wait=True, session=True, **parameters):
        number = next(self.ids)
        request = {"id": number, "method": method, "params": parameters}
        if session and self.session:
            request["sessionId"] = self.session
        slot = self.waiting[number] = [threading.Event(), None] if wait else None
        data = json.dumps(request).encode() + b"\0"
        with self.lock:
            while data:
                data = data[os.write(self.to, data):]
        if not wait:
            return None
        if not slot[0].wait(30):
            peer.fail(f"the browser does not answer {method}")
        del self.waiting[number]
        if "error" in slot[1]:
            peer.fail(f"{method}: {slot[1]['error'].get('message')}")
        return slot[1]["result"]

    def read(self):
        rest = b""
        while True:
            data = os.read(self.answers, 1 << 20)
            if not data:
                peer.fail("the browser closed its pipe")
            *messages, rest = (rest + data).split(b"\0")
            for message in messages:
                self.handle(json.loads(message))

    def handle(self, message):
        if "id" in message:
            if slot := self.waiting.get(message["id"]):
                slot[1] = message
                slot[0].set()
            return
        match message.get("method"):
            case "Runtime.bindingCalled":
                fields = json.loads(message["params"]["payload"])
                peer.emit(fields.pop("event"), **fields)
            case "Fetch.requestPaused":
                known = message["params"]["request"]["url"] == ORIGIN + "/"
                self.call(
                    "Fetch.fulfillRequest", wait=False, requestId=message["params"]["requestId"], responseCode=200 if known else 404, body="",
                    responseHeaders=[{"name": "content-type", "value": "text/html"}])
            case "Inspector.targetCrashed":
                peer.fail("the page crashed")

    def run(self, script, wait=True):
        result = self.call("Runtime.evaluate", wait=wait, expression=script)
        if wait and "exceptionDetails" in result:
            peer.fail("script: " + str(result["exceptionDetails"].get("exception", {}).get("description")))
        return result

    def end(self):
        """Ends the browser: its own process group, by its id."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sign)
                self.process.wait(3)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        shutil.rmtree(self.profile, ignore_errors=True)


def main():
    browser = Browser(hide_addresses="--mdns" in sys.argv)
    signal.signal(signal.SIGTERM, lambda *_: peer.end(1))
    version = browser.call("Browser.getVersion")["product"].split("/")[-1]
    if "--mdns" not in sys.argv:
        # With these a page may list all interfaces; without, it tries the default route only.
        browser.call("Browser.grantPermissions", origin=ORIGIN, permissions=["audioCapture", "videoCapture"])
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Fetch", "Page", "Runtime"):
        browser.call(f"{domain}.enable")
    browser.call("Runtime.addBinding", name="peerOut")
    browser.call("Page.navigate", url=ORIGIN + "/")
    for _ in range(200):
        state = browser.run("location.href + ' ' + document.readyState")
        if state["result"].get("value") == ORIGIN + "/ complete":
            break
        threading.Event().wait(0.05)
    else:
        peer.fail("the page did not load")
    browser.run((pathlib.Path(__file__).parent / "page.js").read_text())
    peer.emit("ready", name="chromium", version=version)

    def run(command):
        browser.run(f"perform({json.dumps(command)})", wait=command["do"] == "quit")
        if command["do"] == "quit":
            peer.end()

    peer.commands(run)
    threading.Event().wait()


try:
    main()
except Exception as error:
    peer.fail(f"{type(error).__name__}: {error}")
