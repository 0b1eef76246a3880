#!/usr/bin/env python3
"""Writes the seeds that are made by hand to Fuzz/Corpus: small valid inputs, one per thing that a parser knows. Run it again after a change."""
import base64
import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "Corpus"


def seed(target, name, content):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def chunk(frame, index, count, data=b"\xff\xd8\xff\xd9", **more):
    fields = {"type": '"frame_chunk"', "frame_id": frame, "chunk_id": index, "chunks": count, "encoding": '"jpg"', "width": 1280, "height": 720}
    fields["data"] = '"' + base64.b64encode(data).decode() + '"'
    return "{" + ",".join(f'"{key}":{value}' for key, value in {**fields, **more}.items()) + "}"


EOF = '{"type":"frame_eof"}'
seed("frames", "one", chunk(1, 0, 1) + "\n" + EOF)
seed("frames", "chunks", "\n".join([chunk(1, 0, 2), chunk(1, 1, 2), chunk(2, 1, 2), chunk(2, 0, 2), chunk(2, 0, 2), EOF]))
seed("frames", "gap", "\n".join([chunk(1, 0, 1), chunk(3, 0, 1), "9", chunk(2, 0, 1), chunk(4, 5, 2), chunk(5, 0, 0)]))
seed("frames", "odd", "\n".join([chunk(1, 0, 1, data=b"a" * 40, encoding='"png"'), chunk(2, 0, 1, data=b"").replace("==", "=\\/"), "[1]", '{"type":3}', "5"]))
seed("frames", "error", '{"type":"frame_error","error":"failed_to_open"}')
META = '{"frame_id":123,"received_at":"2025-11-11T12:48:10.123456","pts":null,"time_base":null,"declared_fps":20.0,"measured_fps":null}'
seed("results", "answer", '{"video_metadata":' + META + ',"serialized_output_data":{"predictions":{"x":[1,2.5,-3e2]},"count":12},"errors":[]}')
seed("results", "failed", '{"video_metadata":' + META + ',"serialized_output_data":null,"errors":["not a picture",7]}')
seed("results", "end", '{"processing_complete":true,"termination_reason":null,"stages":{"wait":{"p50":1.5,"p99":2}},"errors":[]}')


def datagram(record, to_client=False):
    return struct.pack(">H", len(record) | (0x8000 if to_client else 0)) + record


def record(kind, body, epoch=0, number=0):
    return bytes([kind, 0xFE, 0xFD]) + struct.pack(">HHIH", epoch, 0, number, len(body)) + body


def handshake(kind, body, sequence=0):
    size = len(body).to_bytes(3, "big")
    return bytes([kind]) + size + struct.pack(">H", sequence) + bytes(3) + size + body


HELLO = handshake(1, b"\xfe\xfd" + bytes(32) + b"\0\0" + bytes.fromhex("0002c02b0100") + bytes.fromhex("001c000a00040002001d000b00020100000d00080006040308040401" + "00170000"))
seed("dtls", "hello", datagram(record(22, HELLO)))
seed("dtls", "answers", b"".join(datagram(record(22, handshake(kind, bytes(40), sequence), number=sequence), True) for sequence, kind in enumerate([3, 2, 11, 12, 13, 14])))
seed("dtls", "odds", b"".join(datagram(record(*each)) for each in [(20, b"\1"), (21, b"\2\x28"), (23, bytes(40), 1), (22, bytes(60), 1), (22, HELLO[:20])]))
seed("json", "all", r'{"a":[1,-2,3.25,1e10,true,false,null,"\u00e9\ud834\udd1e\n\"\\"],"":{"b":{}},"c":[]}')
seed("json", "numbers", "[0,-0,9223372036854775807,-9223372036854775808,1e308,1E-308,0.1]")
seed("candidate", "host", "candidate:1 1 UDP 2122317823 192.0.2.2 53211 typ host")
seed("candidate", "srflx", "a=candidate:842163049 1 udp 1677729535 198.51.100.7 46154 typ srflx raddr 10.0.0.17 rport 46154 generation 0 ufrag EsAw network-cost 999")
seed("candidate", "mdns", "candidate:4 1 udp 2113937151 9b36eaac-bb2e-49bb-bb78-21c41c499900.local 51472 typ host")
seed("candidate", "v6", "candidate:2 1 UDP 2130706175 fd00::2 53211 typ host")
seed("candidate", "tcp", "candidate:3 1 tcp 1518280447 192.0.2.2 9 typ host tcptype active")


# RFC 5769 §2.1 to §2.3: a request, a response over IPv4 and one over IPv6.
seed("stun", "rfc5769-request", bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b151263b36"
    "00060009" "6576746a3a6836765920202000080014" "9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"))
seed("stun", "rfc5769-response4", bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"))
seed("stun", "rfc5769-response6", bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"))
seed("stun", "error", bytes.fromhex("0111001c2112a442000102030405060708090a0b" "0009000d" "00000457" "526f6c6520436f6e66000000" "000a0004" "00170018"))
# Addresses, credentials and candidates both ways, then the datagrams one by one with time in between.
SETUP = bytes([1, 0, 1, 2, 3, 4, 5])
seed("ice-agents", "connect", SETUP + bytes([6, 10, 8, 0, 10, 0, 8, 0, 10, 0, 6, 25] * 6 + [7, 40]))
seed("ice-agents", "conflict", bytes([3]) + SETUP[1:] + bytes([8, 0, 10, 0, 6, 50] * 8))
seed("ice-agents", "lite", bytes([9]) + SETUP[1:] + bytes([8, 0, 10, 0, 6, 50] * 8 + [15, 2, 6, 90, 3]))

# TURN: a challenge, an allocation, permission and channel for what is sent; then data, refreshes, the end.
ALLOCATE = bytes([0, 0, 8, 0, 1, 2, 8, 1, 78, 75, 203])
PERMIT = bytes([5, 0, 4, 0x80, 1, 2, 3, 8, 2, 64, 5, 0, 4, 0x80, 1, 2, 3, 8, 3, 64])
CHANNEL_DATA = bytes([7, 8, 0x40, 0, 0, 4, 1, 2, 3, 4])
seed("turn-client", "allocate", ALLOCATE + PERMIT + CHANNEL_DATA + bytes([4, 60, 8, 4, 64, 4, 80, 4, 80, 4, 80]))
seed("turn-client", "close", ALLOCATE + bytes([1, 8, 2, 64, 3, 10]))
seed("turn-client", "redirect", bytes([1, 0, 8, 0, 17, 0, 80, 0, 8, 1, 1, 2, 8, 2, 1, 7, 4, 10]))
seed("turn-client", "stale", ALLOCATE + bytes([4, 135, 8, 2, 65, 5, 8, 3, 66, 75, 4, 200, 4, 200]))
seed("turn-stream", "data", bytes([13, 0x40, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 0x40, 4, 0x41, 0, 0, 0, 0, 40]) + bytes.fromhex("011300002112a4420000000000000000") + bytes(20))
seed("turn-stream", "broken", bytes([7, 0x80, 0, 0, 4, 1, 2, 3, 4]))

# SCTP engines: connect, open, send both ways, lose some, wait, close.
MEET = bytes([0, 0, 2, 0, 5, 0, 2, 0, 5, 0])
TALK = bytes([10, 0, 0, 2, 0, 5, 0, 11, 0, 3, 2, 0, 5, 0, 12, 0, 200, 5, 0, 5, 0, 5, 0, 2, 0])
seed("sctp-engines", "talk", MEET + TALK * 2 + bytes([8, 20, 5, 0, 2, 0] * 4))
seed("sctp-engines", "loss", MEET + TALK + bytes([11, 0, 250, 13, 0, 13, 0, 2, 3, 2, 1, 8, 60, 5, 0, 2, 0, 8, 120, 2, 0, 5, 0]) * 3)
seed("sctp-engines", "collision", bytes([1, 0, 1, 2, 0, 5, 0, 2, 0, 5, 0, 2, 0, 5, 0]) + TALK)
seed("sctp-engines", "partial", MEET + bytes([10, 1, 0x41, 10, 0, 0x85, 2, 0, 5, 0, 11, 0, 99, 11, 1, 99, 13, 0, 13, 0, 8, 100, 2, 0, 5, 0] * 2))
seed("sctp-engines", "close", MEET + TALK + bytes([16, 0, 2, 0, 5, 0, 2, 0, 5, 0, 16, 1, 5, 0, 2, 0, 17, 0, 2, 0, 5, 0, 2, 0, 9, 30]))
seed("sctp-engines", "forged", MEET + TALK + bytes([15, 16, 3, 0, 0, 16]) + bytes(12) + bytes([15, 24, 192, 0, 0, 8, 0, 0, 0, 9, 130, 0, 0, 16]) + bytes(12))


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0x82F63B78 if value & 1 else value >> 1
    return value ^ 0xFFFFFFFF


def sctp(tag, *chunks):
    head = (5000).to_bytes(2, "big") * 2 + tag.to_bytes(4, "big")
    body = b"".join(chunks)
    return head + crc32c(head + bytes(4) + body).to_bytes(4, "little") + body


def sctp_chunk(kind, flags, value):
    data = bytes([kind, flags]) + (4 + len(value)).to_bytes(2, "big") + value
    return data + bytes(-len(data) % 4)


def framed(*packets):
    return b"".join(len(packet).to_bytes(2, "big") + packet for packet in packets)


# RFC 9260 §3.3.2: tag, window, streams out and in, TSN; then supported extensions, FORWARD-TSN, zero checksum.
INIT = bytes.fromhex("0000000100100000ffffffff00000001" "800800098240c1c20f000000" "c0000004" "800100080000000100000000"[:24])
seed("sctp-packets", "init", framed(sctp(0, sctp_chunk(1, 0, INIT))))
seed("sctp-packets", "init-twice", framed(sctp(0, sctp_chunk(1, 0, INIT)), sctp(0, sctp_chunk(1, 0, INIT)), sctp(0, sctp_chunk(10, 0, bytes(64)))))
seed("sctp-packets", "stranger", framed(
    sctp(7, sctp_chunk(0, 3, bytes.fromhex("00000001000000000000003203000000") + b"x")), sctp(7, sctp_chunk(3, 0, bytes(12))),
    sctp(7, sctp_chunk(6, 0, b"")), sctp(7, sctp_chunk(8, 1, b"")), sctp(7, sctp_chunk(130, 0, bytes.fromhex("000d00120000000100000001000000010000")))))


# everyframe.v1's parsers: the first byte chooses, headers are given their length and check by the target.
def messagepack(value):
    if value is None or isinstance(value, bool):
        return bytes([0xC0 if value is None else 0xC2 + value])
    if isinstance(value, int):
        return bytes([value]) if 0 <= value < 128 else b"\xd3" + value.to_bytes(8, "big", signed=True)
    if isinstance(value, str):
        return bytes([0xD9, len(value.encode())]) + value.encode()
    if isinstance(value, list):
        return bytes([0x90 + len(value)]) + b"".join(map(messagepack, value))
    return bytes([0x80 + len(value)]) + b"".join(messagepack(key) + messagepack(each) for key, each in value.items())


TOKEN = "00112233445566778899aabbccddeeff"
COUNTS = {"received": 9, "decoded": 9, "answered": 8, "taken": 7, "failed": 0, "retries": 1, "dropped": {"late": 2}}
CREDIT = {"credit_id": 64, "credit_bytes": 1000000}
MESSAGES = {
    "hello": {"versions": [1], "max_message": 262144, "agent": "x", "format": "json", "encodings": ["jpeg"], "compressions": ["lz4"], "limits": {
        "jobs": 4, "frame_bytes": 1000, "frame_pixels": 99, "frames_in_flight": 8, "bytes_in_flight": 9, "result_bytes": 9, "configurations": 2,
        "configuration_bytes": 9, "tries": 3, "resume_ms": 1000}, "extra": {"models": []}},
    "open": {"job": 1, "encoding": "jpeg", "window": 8, "result_format": "json", "result_window": 9, "time_limit_ms": 5, "drop": {"policy": "max_lag", "ms": 4},
             "parameters": {"a": [1, None, True]}},
    "resume": {"job": 1, "token": TOKEN, "taken": 3, "have": 5},
    "finish": {"job": 1, "last": 9, "dropped": {"late": 1}, "error": "e"},
    "accepted": {"job": 1, "token": TOKEN, "lifetime_ms": 60000, **CREDIT},
    "rejected": {"job": 1, "reason": "protocol", "message": "m"},
    "resumed": {"job": 1, "lifetime_ms": 1, "received": 4, "acknowledged": 3, "taken": 2, "digest": "0123456789abcdef", **CREDIT},
    "ack": {"job": 1, "received": 4, "acknowledged": 3, **CREDIT},
    "retry": {"job": 1, "ids": [1, 2]},
    "progress": {"job": 1, "counts": COUNTS, "elapsed_ms": 5, "stages": {"infer": {"count": 1, "total_us": 5, "p50_us": 5, "p99_us": 5}}},
    "end": {"job": 1, "status": "failed", "reason": "source", "message": "m", "counts": COUNTS, "digest": "0123456789abcdef"},
}
for kind, fields in MESSAGES.items():
    message = {"type": kind, **fields}
    seed("v1-parsers", "text-" + kind, b"\2" + json.dumps(message, separators=(",", ":")).encode())
    if kind in ("hello", "open", "end"):
        seed("v1-parsers", "packed-" + kind, b"\1" + messagepack(message))
seed("v1-parsers", "messagepack", b"\0" + bytes.fromhex("8fa161c0a162c3a163d6070102030401c2a16493cb3fe0000000000000ca3fc00000cfffffffffffffffff") + bytes(30))
seed("v1-parsers", "chunk", b"\3" + bytes.fromhex("11000001000004000000000000000007") + b"bytes")
seed("v1-parsers", "frame", b"\4" + struct.pack(">BBHIQqqqIIIHHBBBBBBBBBBHIQHH", 16, 22, 1, 4, 7, 5, 5, -1 << 63, 1, 25, 1, 8, 8, 3, 1, 0, 1, 6, 1, 1, 1, 1, 0, 0, 0, 9, 1, 1) + b"data")
seed("v1-parsers", "result", b"\5" + struct.pack(">BBHIQQQqqIIQqIIIIIIIHHBBBB", 32, 28, 1, 1, 1, 1, 1, 5, -1 << 63, 1, 25, 9, 0, 1, 2, 3, 4, 5, 6, 1, 8, 8, 0, 1, 1, 1) + b"\xc0j")
seed("v1-parsers", "configuration", b"\6" + struct.pack(">BBHHHHHIIii16s", 18, 12, 1, 1, 8, 8, 0, 3, 0, -99, -99, b"h264") + b"abc")

# The server with a client that behaves at first: hello, open, accept; frames whole, in pieces, damaged, refused; answers; farewell.
GREET = bytes([0, 0, 0, 0, 0, 0])
OPEN = bytes([1, 1, 1, 200, 0, 0, 0, 0, 16, 0, 0, 0])
UNIT = bytes([6, 1, 5, 50, 0, 0, 5, 1])
PIECES = bytes([6, 1, 5, 200, 0, 0, 5, 0, 40, 0, 200, 0, 200, 0, 200])
DAMAGED = bytes([6, 1, 5, 50, 0, 0, 0, 1])
ANSWERS = bytes([19, 1, 2, 0, 3, 0, 18, 1, 1, 19, 1, 1, 0, 30, 0])
TAKEN = bytes([3, 1, 1, 0, 0, 3, 1, 2, 0, 0])
seed("v1-server", "job", bytes([0]) + GREET + OPEN + UNIT + PIECES + ANSWERS + TAKEN + bytes([4, 1, 0, 0, 0, 0, 14, 30, 30, 5, 1, 1, 0, 0]))
seed("v1-server", "retry", bytes([3]) + GREET + OPEN + DAMAGED + UNIT + bytes([6, 1, 5, 50, 0, 225, 5, 1, 21, 1, 2, 3, 14, 100, 250]) + ANSWERS + TAKEN)
seed("v1-server", "resume", bytes([1]) + GREET + OPEN + UNIT + UNIT + ANSWERS + bytes([23, 0]) + GREET + bytes([2, 0, 1, 1, 0, 0, 0, 17, 0]) + UNIT + TAKEN)
seed("v1-server", "source", bytes([1]) + GREET + OPEN[:2] + b"\0" + OPEN[3:] + bytes([11, 9, 1, 1]) + UNIT[:4] + bytes([1]) + UNIT[5:] + bytes([21, 1, 1, 0, 21, 1, 5, 1]) + ANSWERS)
seed("v1-server", "silence", bytes([0]) + GREET + OPEN + UNIT + bytes([14, 250, 250]))

# The client with a server that behaves at first.
GREET = bytes([0, 200, 9, 0, 200, 3, 8, 9, 1, 0, 0, 0])
OPEN = bytes([2, 1, 0, 10, 0, 0, 20, 200, 0, 0])
UNITS = bytes([3, 0, 7, 50, 0, 3, 0, 8, 90, 0, 3, 0, 9, 0, 0])
RESULT = bytes([18, 0, 0, 10, 0, 0, 0, 1])
ACK = bytes([14, 2, 0, 30, 200, 0, 0])
seed("v1-client", "job", bytes([0]) + GREET + OPEN + UNITS + ACK + RESULT + RESULT + bytes([18, 0, 0, 90, 0, 0, 0, 0, 0, 7, 3, 0, 6, 0, 17, 0, 0, 0, 0, 0]))
seed("v1-client", "retry", bytes([3]) + GREET + OPEN + UNITS + bytes([16, 0, 2, 0, 1, 0, 0]) + RESULT + bytes([8, 0, 0, 25, 200, 200]))
seed("v1-client", "resume", bytes([2]) + GREET + OPEN + UNITS + RESULT + bytes([1, 0]) + GREET + bytes([13, 3, 225, 1, 20, 200, 0, 0, 0]) + RESULT + bytes([7, 2, 0]))
seed("v1-client", "ticket", bytes([0]) + GREET + bytes([2, 1, 226, 2, 13, 4, 0, 2, 20, 200, 0, 0, 0]) + UNITS + RESULT)
seed("v1-client", "source", bytes([0]) + GREET + OPEN[:1] + b"\0" + OPEN[2:] + UNITS + ACK + RESULT)

# Both: units, answers in another order, a cut in the middle, damage, a refusal.
SEND, ALL, ANSWER, TAKE = bytes([5, 0, 3]), bytes([2]), bytes([7, 1, 50, 7, 0, 3]), bytes([10, 0, 2])
seed("v1-pair", "job", bytes([0xE0]) + ALL * 3 + SEND + ALL * 2 + ANSWER + ALL + TAKE + ALL + SEND + ALL + ANSWER)
seed("v1-pair", "cut", bytes([0xE7]) + ALL * 3 + SEND + ALL + ANSWER + bytes([0, 2, 1, 13, 0, 3, 90, 14, 1]) + ALL * 3 + SEND + ALL + bytes([13, 0]))
seed("v1-pair", "damage", bytes([0xE1]) + ALL * 3 + SEND + bytes([16, 9, 0, 1, 2]) + SEND + ALL + bytes([12, 0, 0]) + ALL * 2 + ANSWER + TAKE)
seed("v1-pair", "source", bytes([0xE9]) + ALL * 3 + SEND + ALL * 2 + ANSWER + ALL + TAKE + bytes([4, 250, 13, 0, 14, 1]) + ALL * 2 + SEND + ALL)
seed("v1-pair", "cancel", bytes([0x94]) + ALL * 3 + SEND + ALL * 2 + ANSWER + bytes([15, 1, 0]) + ALL * 2 + TAKE)
seed("v1-pair", "unnoticed", bytes([0xE5]) + ALL * 3 + SEND + ALL * 2 + ANSWER + bytes([2, 14, 0]) + ALL * 3 + SEND + ALL + TAKE + bytes([14, 0, 4, 250]) + ALL * 2)
