"""What `make soak` runs: one server, clients that come and go, and a bad network between them, all on loopback.

usage: soak.py PROGRAM VIDEO SECONDS FOLDER

The network is a relay in this process: it splices the clients' HTTP to the server, puts its own UDP port into the answers, and loses, delays and reorders
datagrams. Its conditions change every 20 seconds, and now and then it is away for some seconds. Three clients run jobs one after the other and check that
every frame was answered once and in order; a fourth is killed (SIGKILL) in the middle of its jobs. SOAK_SEED repeats the choices.
"""
import asyncio
import json
import os
import pathlib
import random
import re
import signal
import socket
import sys
import time

SEED = int(os.environ.get("SOAK_SEED", "1"))
FRAMES = 200
JOB_BOUND = 240


class Network:
    """One way for all datagrams; times in seconds."""

    def __init__(self):
        self.dice = random.Random(SEED)
        self.change()
        self.away_until = 0.0
        self.passed = self.lost = 0

    def change(self):
        self.delay = self.dice.choice([0, 0.002, 0.02, 0.05])
        self.loss = self.dice.choice([0, 0, 0.005, 0.02, 0.05])
        self.reordering = self.dice.choice([0, 0.02])

    def carry(self, deliver):
        if time.monotonic() < self.away_until or self.dice.random() < self.loss:
            self.lost += 1
            return
        self.passed += 1
        delay = self.delay + (0.005 if self.dice.random() < self.reordering else 0)
        if delay:
            asyncio.get_running_loop().call_later(delay, deliver)
        else:
            deliver()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, received):
        self.received = received

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.received(data, address)

    def error_received(self, error):
        pass  # whoever is gone no longer listens


async def udp(received, port=0):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams(received), local_addr=("127.0.0.1", port))
    return transport


def send(transport, data, address):
    if not transport.is_closing():
        transport.sendto(data, address)


class Relay:
    def __init__(self, network, http_port, udp_port):
        self.network, self.http_port, self.server = network, http_port, ("127.0.0.1", udp_port)
        self.backs, self.used = {}, {}

    async def start(self):
        # both ports with five digits, so that rewriting changes no length
        self.front = await udp(self.from_client, free_port(socket.SOCK_DGRAM))
        self.port = self.front.get_extra_info("sockname")[1]
        listener = await asyncio.start_server(self.splice, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"

    def from_client(self, data, client):
        self.used[client] = time.monotonic()
        self.network.carry(lambda: asyncio.ensure_future(self.forward(data, client)))

    async def forward(self, data, client):
        if client not in self.backs:
            def from_server(data, _):
                self.network.carry(lambda: send(self.front, data, client))

            self.backs[client] = asyncio.ensure_future(udp(from_server))
        send(await self.backs[client], data, self.server)

    def forget(self):
        """Sockets of clients that are long gone."""
        for client, used in list(self.used.items()):
            if time.monotonic() - used > 60:
                del self.used[client]
                if (back := self.backs.pop(client, None)) and back.done():
                    back.result().close()

    async def splice(self, reader, writer):
        try:
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self.http_port)
        except OSError:
            writer.close()
            return
        old, new = f" {self.server[1]} typ".encode(), f" {self.port} typ".encode()

        async def pass_on(source, sink, rewrite):
            try:
                while data := await source.read(65536):
                    sink.write(data.replace(old, new) if rewrite else data)
                    await sink.drain()
            except OSError:
                pass
            finally:
                sink.close()

        await asyncio.gather(pass_on(reader, upstream, False), pass_on(upstream_reader, writer, True))


def free_port(kind=socket.SOCK_STREAM):
    while True:
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.bind(("127.0.0.1", 0))
            if (port := probe.getsockname()[1]) >= 10000:
                return port


def end(child, sign):
    """asyncio's own kill() may take the exit status away from its watcher."""
    try:
        os.kill(child.pid, sign)
    except ProcessLookupError:
        pass


def vitals(pid):
    """Resident MiB, descriptors, threads."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    number = lambda name: int(re.search(rf"^{name}:\s+(\d+)", status, re.M).group(1))
    return number("VmRSS") / 1024, len(os.listdir(f"/proc/{pid}/fd")), number("Threads")


class Soak:
    def __init__(self, program, video, seconds, folder):
        self.program, self.video, self.folder = program, video, pathlib.Path(folder)
        self.end = time.monotonic() + seconds
        self.dice = random.Random(SEED + 1)
        self.done = self.killed = self.cuts = 0
        self.troubles, self.samples, self.children = [], [], set()

    def trouble(self, text):
        print(f"soak: {text}", flush=True)
        self.troubles.append(text)

    @property
    def is_over(self):
        return time.monotonic() >= self.end or bool(self.troubles)

    async def run_program(self, log, *arguments):
        with open(self.folder / log, "ab") as output:
            child = await asyncio.create_subprocess_exec(
                self.program, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output)
        self.children.add(child)
        return child

    async def wait(self, child, bound):
        """The exit status; None when the time was not enough, and then the process is ended."""
        try:
            return await asyncio.wait_for(child.wait(), bound)
        except asyncio.TimeoutError:
            end(child, signal.SIGKILL)
            await child.wait()
            return None
        finally:
            self.children.discard(child)

    def arguments(self, name):
        encoding = self.dice.choice([["--encoding", "source"], ["--encoding", "source"], ["--quality", "70"]])
        return [
            "stream", self.video, "--server", self.relay.url, "--frames", str(FRAMES), "--results", str(self.folder / f"{name}.jsonl"), "--quiet", *encoding]

    async def work(self, name):
        while not self.is_over:
            results = self.folder / f"{name}.jsonl"
            results.unlink(missing_ok=True)
            child = await self.run_program(f"{name}.log", *self.arguments(name))
            code = await self.wait(child, JOB_BOUND)
            if code != 0:
                return self.trouble(f"{name}: a job ended with {code} ({self.folder / name}.log)")
            ids = [json.loads(line)["video_metadata"]["frame_id"] for line in results.read_text().splitlines()]
            if ids != list(range(ids[0], ids[0] + FRAMES)):
                return self.trouble(f"{name}: {len(ids)} results of {FRAMES}, or not in order, or twice ({results})")
            self.done += 1

    async def be_killed(self):
        while not self.is_over:
            child = await self.run_program("killed.log", *self.arguments("killed"))
            code = await self.wait_or_kill(child, self.dice.uniform(0.2, 6))
            if code not in (0, -signal.SIGKILL):
                return self.trouble(f"the client that is killed ended by itself with {code}")
            (self.folder / "killed.jsonl").unlink(missing_ok=True)
            self.killed += 1

    async def wait_or_kill(self, child, seconds):
        try:
            return await asyncio.wait_for(child.wait(), seconds)
        except asyncio.TimeoutError:
            end(child, signal.SIGKILL)
            return await child.wait()
        finally:
            self.children.discard(child)

    async def weather(self):
        while not self.is_over:
            await asyncio.sleep(20)
            self.network.change()
            self.relay.forget()
            if self.dice.random() < 0.25:
                self.network.away_until = time.monotonic() + self.dice.choice([1, 4, 12])
                self.cuts += 1

    async def watch(self):
        begin = last = time.monotonic()
        while not self.is_over:
            await asyncio.sleep(1)
            if self.server.returncode is not None:
                return self.trouble(f"the server ended with {self.server.returncode} ({self.folder}/server.log)")
            now = time.monotonic()
            self.samples.append((now - begin, *vitals(self.server.pid)))
            if now - last >= 60:
                last = now
                recent = [sample for sample in self.samples if sample[0] > now - begin - 60]
                memory, descriptors, threads = (max(sample[index] for sample in recent) for index in (1, 2, 3))
                print(
                    f"soak: {(now - begin) / 60:4.0f} min  jobs {self.done}  killed {self.killed}  cuts {self.cuts}  lost {self.network.lost} of "
                    f"{self.network.lost + self.network.passed} datagrams  RSS {memory:.0f} MiB  descriptors {descriptors}  threads {threads}", flush=True)

    def judge(self):
        """The most of the last quarter against the most of the second, when caches are warm."""
        length = self.samples[-1][0] if self.samples else 0
        early = [sample for sample in self.samples if length * 0.25 < sample[0] <= length * 0.5]
        late = [sample for sample in self.samples if sample[0] > length * 0.75]
        if not early or not late:
            return self.trouble("too short to tell growth from warming up")
        for index, what, allowed in ((1, "MiB of memory", lambda most: most * 1.15 + 32), (2, "descriptors", lambda most: most + 16), (3, "threads", lambda most: most + 16)):
            before, after = max(sample[index] for sample in early), max(sample[index] for sample in late)
            print(f"soak: {what}: at most {before:.0f} in the second quarter, {after:.0f} in the last", flush=True)
            if after > allowed(before):
                self.trouble(f"the server's {what} grew from {before:.0f} to {after:.0f}")

    async def run(self):
        http_port, udp_port = free_port(), free_port(socket.SOCK_DGRAM)
        self.network = Network()
        self.relay = Relay(self.network, http_port, udp_port)
        await self.relay.start()
        self.server = await self.run_program(
            "server.log", "serve", "--host", "127.0.0.1", "--port", str(http_port), "--udp-host", "127.0.0.1", "--udp-port", str(udp_port), "--model",
            "synthetic:2", "--resume-time", "20", "--log-level", "warning")
        await self.healthy(http_port)
        await asyncio.gather(*(self.work(f"worker-{number}") for number in range(3)), self.be_killed(), self.weather(), self.watch())
        self.network.loss = self.network.away_until = 0
        self.judge()
        if self.server.returncode is None:
            end(self.server, signal.SIGTERM)
            if (code := await self.wait(self.server, 30)) != 0:
                self.trouble(f"the server did not end in order: {code}")

    async def healthy(self, port):
        for _ in range(300):
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n")
                answer = await asyncio.wait_for(reader.read(12), 5)
                writer.close()
                if answer == b"HTTP/1.1 200":
                    return
            except OSError:
                pass
            await asyncio.sleep(0.1)
        raise SystemExit("soak: the server is not ready after 30 s")


def main():
    program, video, seconds, folder = sys.argv[1:]
    soak = Soak(program, video, float(seconds), folder)
    for log in soak.folder.glob("*.log"):
        log.unlink()
    try:
        asyncio.run(soak.run())
    finally:
        for child in soak.children:
            if child.returncode is None:
                end(child, signal.SIGKILL)
    print(f"soak: {soak.done} jobs of {FRAMES} frames, {soak.killed} clients killed: " + ("; ".join(soak.troubles) or "nothing lost, nothing grew"))
    sys.exit(1 if soak.troubles else 0)


main()
