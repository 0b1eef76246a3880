#!/usr/bin/env python3
"""The rules of the rooms (docs/architecture.md), checked by reading the sources.

A room without IO is told the time and handed its randomness: the patterns below would let a clock, a task, an event loop
or global randomness in, or let a peer's bytes end the process. What is left over stands in scripts/rooms-allowed.txt as
"FILE RULE COUNT"; a count that is higher than the list says fails, and so does one that is lower: shrink the list then.

usage: rooms.py [--list]     (--list prints what an allow-list for the present state would be)
"""
import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SANS_IO = ["Wire", "ICE", "SCTP", "WebRTC", "FrameTransport", "NetworkSimulator", "Ciphers", "DTLS"]
# Which modules a room may import. SwiftPM checks this for targets; here the system's own modules are covered too.
IMPORTS = {
    "Wire": {"NIOCore"},
    "Ciphers": {"Wire", "COpenSSL", "NIOCore", "Synchronization"},
    "ICE": {"Wire", "Ciphers", "NIOCore"},
    "DTLS": {"Wire", "Ciphers", "COpenSSL", "NIOCore"},
    "SCTP": {"Wire", "NIOCore"},
    "RTP": {"Wire", "Ciphers", "CSRTP", "NIOCore"},
    "WebRTC": {"Wire", "Ciphers", "ICE", "DTLS", "SCTP", "RTP", "NIOCore"},
    "FrameTransport": {"Wire", "NIOCore"},
    "NetworkSimulator": {"Wire", "NIOCore"},
}
# Foreign libraries are imported in one room only (OpenSSL in two).
DOORS = {
    "COpenSSL": {"Ciphers", "DTLS"}, "CSRTP": {"RTP"}, "CFFmpeg": {"Media"}, "CTurboJPEG": {"Media"}, "CLZ4": {"Media"}, "CZstd": {"Media"},
    "COpenVINO": {"Inference"}, "CMalloc": {"everyframe-cli"},
}

RULES = {
    "clock": r"\.now\b|\b(?:ContinuousClock|SuspendingClock|NIODeadline)\b|\b(?:clock_gettime|gettimeofday)\b",
    "task": r"\bTask\s*(?:<|\{|\(|\.)|\basync\b|\bawait\b|\bactor\b",
    "event-loop": r"\bEventLoop\w*",
    "lock": r"\b(?:Mutex|NIOLock\w*|NIOLockedValueBox|DispatchQueue|pthread_\w+)\b",
    "global-random": r"\bSystemRandomNumberGenerator\b|\b(?:random|randomElement|shuffled|shuffle)\((?![^()]*\busing\b)(?=in:|\))",
    "force-unwrap": r"(?<=[\w)\]}>\"])!(?![=\w])",
    "force-try": r"\btry!",
    "force-cast": r"\bas!",
    "fatal-error": r"\bfatalError\b",
    "unchecked-sendable": r"@unchecked\s+Sendable|nonisolated\(unsafe\)",
    "print": r"(?<![\w.])(?:debugPrint|print)\(",
}
# Outside the rooms without IO these still hold.
EVERYWHERE = ["force-try", "force-cast", "fatal-error"]


QUOTE = re.compile(r'(#*)("""|")')


def code_only(text: str) -> str:
    """The text with comments and string literals blanked, line numbers kept. Interpolations count as text."""
    out, index, depth = [], 0, 0
    while index < len(text):
        if depth:
            if text.startswith("/*", index):
                depth, index = depth + 1, index + 2
            elif text.startswith("*/", index):
                depth, index = depth - 1, index + 2
            else:
                out.append("\n" if text[index] == "\n" else " ")
                index += 1
        elif text.startswith("//", index):
            index = text.find("\n", index) if "\n" in text[index:] else len(text)
        elif text.startswith("/*", index):
            depth, index = 1, index + 2
        elif match := QUOTE.match(text, index):
            stop = end_of_string(text, match.end(), match[2], match[1])
            out.append('""' + "\n" * text.count("\n", index, stop))
            index = stop
        else:
            out.append(text[index])
            index += 1
    return "".join(out)


def end_of_string(text: str, index: int, quote: str, hashes: str) -> int:
    """The index behind a literal whose first character stands at `index`."""
    escape, parentheses = "\\" + hashes, 0
    while index < len(text):
        if text.startswith(escape + "(", index):
            parentheses, index = 1, index + len(escape) + 1
            while index < len(text) and parentheses:
                if inner := QUOTE.match(text, index):
                    index = end_of_string(text, inner.end(), inner[2], inner[1])
                    continue
                parentheses += (text[index] == "(") - (text[index] == ")")
                index += 1
        elif text.startswith(escape, index):
            index += len(escape) + 1
        elif text.startswith(quote + hashes, index):
            return index + len(quote + hashes)
        else:
            index += 1
    return len(text)


def findings():
    """(file, rule, line, text) of everything that breaks a rule."""
    for room in sorted(path for path in (ROOT / "Sources").iterdir() if path.is_dir()):
        for file in sorted(room.rglob("*.swift")):
            name = str(file.relative_to(ROOT))
            source = file.read_text()
            code = code_only(source)
            lines = source.splitlines()

            def at(match):
                line = code.count("\n", 0, match.start()) + 1
                return line, lines[line - 1].strip() if line <= len(lines) else ""

            for rule in RULES if room.name in SANS_IO else EVERYWHERE:
                for match in re.finditer(RULES[rule], code):
                    yield (name, rule, *at(match))
            for match in re.finditer(r"^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:public|package|internal|private|fileprivate)\s+)?import\s+(?:(?:struct|class|enum|protocol|func|var|let|typealias)\s+)?(\w+)", code, re.M):
                module = match[1]
                if room.name in IMPORTS and module not in IMPORTS[room.name]:
                    yield (name, f"import-{module}", *at(match))
                elif module in DOORS and room.name not in DOORS[module]:
                    yield (name, f"import-{module}", *at(match))


def main() -> int:
    found = collections.defaultdict(list)
    for name, rule, line, text in findings():
        found[(name, rule)].append((line, text))
    if "--list" in sys.argv:
        for (name, rule), hits in sorted(found.items()):
            print(name, rule, len(hits))
        return 0
    allowed = {}
    for entry in (ROOT / "scripts/rooms-allowed.txt").read_text().splitlines():
        entry = entry.split("#")[0].split()
        if entry:
            allowed[(entry[0], entry[1])] = int(entry[2])
    failed = False
    for key in sorted(set(found) | set(allowed)):
        hits, limit = found.get(key, []), allowed.get(key, 0)
        if len(hits) > limit:
            failed = True
            for line, text in hits:
                print(f"{key[0]}:{line}: {key[1]}: {text}")
        elif len(hits) < limit:
            failed = True
            print(f"{key[0]}: {key[1]}: {limit} allowed, {len(hits)} left: shrink scripts/rooms-allowed.txt")
    if failed:
        return 1
    print(f"rooms: {len(SANS_IO)} rooms without IO keep their rules ({sum(allowed.values())} allowed exceptions)")
    return 0


sys.exit(main())
