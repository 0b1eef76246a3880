#!/usr/bin/env python3
"""Writes everyframe-v1.json, the test vectors of docs/protocol.md. An implementation of the byte layout of its own, without dependencies.

usage: make-vectors.py            (writes the file beside it)
       make-vectors.py --check    (fails where the file differs)
"""
import json
import pathlib
import struct
import sys

MASK = (1 << 64) - 1
P1, P2, P3, P4, P5 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def xxh64(data: bytes, seed: int = 0) -> int:
    def rotate(value, bits):
        return (value << bits | value >> (64 - bits)) & MASK

    def round_(lane, word):
        return rotate((lane + word * P2) & MASK, 31) * P1 & MASK

    at, count = 0, len(data)
    if count >= 32:
        lanes = [(seed + P1 + P2) & MASK, (seed + P2) & MASK, seed, (seed - P1) & MASK]
        while at + 32 <= count:
            lanes = [round_(lane, word) for lane, word in zip(lanes, struct.unpack_from("<4Q", data, at))]
            at += 32
        value = sum(rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18))) & MASK
        for lane in lanes:
            value = ((value ^ round_(0, lane)) * P1 + P4) & MASK
    else:
        value = (seed + P5) & MASK
    value = (value + count) & MASK
    while at + 8 <= count:
        value = (rotate(value ^ round_(0, struct.unpack_from("<Q", data, at)[0]), 27) * P1 + P4) & MASK
        at += 8
    if at + 4 <= count:
        value = (rotate(value ^ struct.unpack_from("<I", data, at)[0] * P1 & MASK, 23) * P2 + P3) & MASK
        at += 4
    while at < count:
        value = rotate(value ^ data[at] * P5 & MASK, 11) * P1 & MASK
        at += 1
    value = (value ^ value >> 33) * P2 & MASK
    value = (value ^ value >> 29) * P3 & MASK
    return value ^ value >> 32


def checked(header: bytes) -> bytes:
    return header + struct.pack(">I", xxh64(header) & 0xFFFFFFFF)


def pack(value) -> bytes:
    """MessagePack, each value in its shortest form."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        for low, high, prefix, code in ((0, 0x7F, b"", ">B"), (-32, -1, b"", ">b"), (0, 0xFF, b"\xcc", ">B"), (0, 0xFFFF, b"\xcd", ">H"),
                                        (0, 0xFFFFFFFF, b"\xce", ">I"), (0, MASK, b"\xcf", ">Q"), (-0x80, -1, b"\xd0", ">b"),
                                        (-0x8000, -1, b"\xd1", ">h"), (-0x80000000, -1, b"\xd2", ">i"), (-1 << 63, -1, b"\xd3", ">q")):
            if low <= value <= high:
                return prefix + struct.pack(code, value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        size = len(data)
        head = bytes([0xA0 | size]) if size < 32 else b"\xd9" + bytes([size]) if size < 256 else b"\xda" + struct.pack(">H", size)
        return head + data
    size = len(value)
    if isinstance(value, list):
        head = bytes([0x90 | size]) if size < 16 else b"\xdc" + struct.pack(">H", size)
        return head + b"".join(map(pack, value))
    head = bytes([0x80 | size]) if size < 16 else b"\xde" + struct.pack(">H", size)
    return head + b"".join(pack(key) + pack(item) for key, item in value.items())


NONE = -(1 << 63)


def frame(fields: dict, first: bytes) -> bytes:
    f = {"dts": None, "pts": None, "capture_time": None, "duration": 0, "pixel_format": 0, "compression": 0, "flags": 0, "orientation": 1,
         "range": 0, "matrix": 2, "primaries": 2, "transfer": 2, "attempt": 0, "configuration": 0, "uncompressed_length": 0,
         "aspect": [1, 1]} | fields
    times = [NONE if f[name] is None else f[name] for name in ("pts", "dts", "capture_time")]
    return checked(struct.pack(
        ">BBHIQqqqIIIHHBBBBBBBBBBHIQHH", 0x10, 22, f["job"], f["length"], f["id"], *times, *f["time_base"], f["duration"], f["width"], f["height"],
        f["encoding"], f["pixel_format"], f["compression"], f["flags"], f["orientation"], f["range"], f["matrix"], f["primaries"], f["transfer"],
        f["attempt"], f["configuration"], f["uncompressed_length"], int(f["digest"], 16), *f["aspect"])) + first


def chunk(kind: int, job: int, offset: int, number: int, data: bytes) -> bytes:
    return struct.pack(">BBHIQ", kind, 0, job, offset, number) + data


def configuration(f: dict, extradata: bytes) -> bytes:
    return checked(struct.pack(
        ">BBHHHHHIIii16s", 0x12, 12, f["job"], f["number"], f["width"], f["height"], 0, len(extradata), f["tag"], f["profile"], f["level"],
        f["codec"].encode())) + extradata


def result(f: dict, body: bytes, image: bytes) -> bytes:
    return checked(struct.pack(
        ">BBHIQQQqqIIQq6IIHHBBBB", 0x20, 28, f["job"], len(body), f["sequence"], f["id"], f["picture"],
        NONE if f["pts"] is None else f["pts"], NONE if f["capture_time"] is None else f["capture_time"], *f["time_base"], int(f["digest"], 16),
        NONE if f["received_at"] is None else f["received_at"], *f["times"], len(image), *f["image_size"], f["status"], f["format"],
        f["image_encoding"], f["tries"])) + body + image


def digest(data: bytes) -> str:
    return f"{xxh64(data):016x}"


def vectors() -> dict:
    count_up = bytes(index & 0xFF for index in range(300))
    jpeg = bytes.fromhex("ffd8ffe000104a464946") + bytes(30) + bytes.fromhex("ffd9")
    raw = bytes((index * 7) & 0xFF for index in range(64 * 32 * 3 // 2))
    rolling, steps = 0, []
    for number, data in ((1, jpeg), (2, raw), (3, None)):
        value = 0 if data is None else xxh64(data)
        rolling = xxh64(struct.pack(">QQQ", rolling, number, value))
        steps.append({"id": number, "digest": f"{value:016x}", "rolling": f"{rolling:016x}"})

    frames = []

    def add_frame(name, fields, data, first):
        fields = fields | {"length": len(data), "digest": digest(data)}
        messages = [frame(fields, data[:first])]
        at = first
        while at < len(data):
            messages.append(chunk(0x11, fields["job"], at, fields["id"], data[at:at + 1024]))
            at += 1024
        frames.append({"name": name, "fields": fields, "payload": data.hex(), "messages": [message.hex() for message in messages]})

    add_frame("a JPEG in one message", {"job": 1, "id": 1, "pts": 0, "time_base": [1, 20], "duration": 1, "width": 1280, "height": 720,
                                        "encoding": 1, "flags": 1}, jpeg, len(jpeg))
    add_frame("an I420 picture in three messages, sent for the second time",
              {"job": 2, "id": 2, "pts": -3600, "time_base": [1, 90000], "capture_time": 1762865290123456, "width": 64, "height": 32, "encoding": 3,
               "pixel_format": 1, "range": 1, "matrix": 1, "primaries": 1, "transfer": 1, "attempt": 1, "flags": 1}, raw, 1024)
    add_frame("an access unit with decoding time, of a file that a phone took upright",
              {"job": 3, "id": 7, "pts": 3003, "dts": 2002, "time_base": [1, 30000], "duration": 1001, "width": 1920, "height": 1080, "encoding": 0,
               "flags": 0, "orientation": 6, "configuration": 2, "aspect": [4, 3]}, bytes.fromhex("0000000209f0"), 6)

    avcc = bytes.fromhex("0142c01effe1000467 42c01e010004 68ce3c80".replace(" ", ""))
    setting = {"job": 3, "number": 2, "codec": "h264", "width": 1920, "height": 1080, "tag": 0x31637661, "profile": 66, "level": 30}

    body = pack({"count": 1, "predictions": [{"class": "car", "confidence": 0.5}]})
    ok = {"job": 1, "sequence": 1, "id": 1, "picture": 1, "pts": 0, "capture_time": None, "time_base": [1, 20], "digest": digest(jpeg),
          "received_at": 1762865290200000, "times": [10, 2000, 30, 75000, 40, 5], "image_size": [1280, 720], "status": 0, "format": 1,
          "image_encoding": 1, "tries": 1}
    failure = {"job": 1, "sequence": 3, "id": 3, "picture": 3, "pts": None, "capture_time": None, "time_base": [1, 1000000], "digest": "0" * 16,
               "received_at": None, "times": [0] * 6, "image_size": [0, 0], "status": 2, "format": 2, "image_encoding": 0, "tries": 3}
    failure_body = b'{"message":"given up"}'

    token = "00112233445566778899aabbccddeeff"
    counts = {"sent": 3, "received": 3, "decoded": 3, "answered": 3, "taken": 3, "failed": 1, "without_picture": 0, "retries": 2,
              "payload_bytes": 4200, "dropped": {"superseded": 4}}
    limits = {"jobs": 16, "frame_bytes": 67108864, "frame_pixels": 67108864, "frames_in_flight": 64, "bytes_in_flight": 67108864,
              "result_bytes": 67108864, "configurations": 8, "configuration_bytes": 16336, "tries": 3, "resume_ms": 60000}
    control = [
        {"type": "hello", "versions": [1], "agent": "client/1", "max_message": 262144, "format": "msgpack",
         "encodings": ["source", "jpeg", "png", "raw"], "compressions": []},
        {"type": "hello", "versions": [1], "agent": "server/1", "max_message": 262144, "format": "msgpack",
         "encodings": ["source", "jpeg", "png", "raw"], "compressions": ["lz4"], "limits": limits, "extra": {"models": ["yolox_s"]}},
        {"type": "goodbye", "reason": "protocol", "message": "too long"},
        {"type": "ping", "n": 1},
        {"type": "pong", "n": 1},
        {"type": "open", "job": 1, "encoding": "jpeg", "result_format": "msgpack", "result_window": 67108864, "drop": {"policy": "max_lag", "ms": 200},
         "parameters": {"model": "yolox_s"}, "window": 8, "time_limit_ms": 60000},
        {"type": "accepted", "job": 1, "token": token, "lifetime_ms": 60000, "credit_id": 64, "credit_bytes": 67108864},
        {"type": "rejected", "job": 2, "reason": "too_many_jobs", "message": "1 at a time"},
        {"type": "resume", "job": 1, "token": token, "taken": 10, "have": 12},
        {"type": "resumed", "job": 1, "lifetime_ms": 60000, "received": 20, "acknowledged": 18, "taken": 10, "digest": "0123456789abcdef",
         "credit_id": 74, "credit_bytes": 67100000},
        {"type": "ack", "job": 1, "received": 21, "acknowledged": 20, "credit_id": 80, "credit_bytes": 70000000},
        {"type": "retry", "job": 1, "ids": [17, 19]},
        {"type": "taken", "job": 1, "sequence": 13},
        {"type": "finish", "job": 1, "last": 2400, "dropped": {"late": 2}},
        {"type": "finish", "job": 1, "last": 24, "dropped": {}, "error": "the camera is gone"},
        {"type": "cancel", "job": 1},
        {"type": "progress", "job": 1, "counts": counts, "elapsed_ms": 1500, "idle_ms": 250, "blocked_ms": 100,
         "stages": {"infer": {"count": 3, "total_us": 225000, "p50_us": 75000, "p99_us": 76000}}},
        {"type": "end", "job": 1, "status": "completed", "reason": "", "message": "", "counts": counts, "digest": f"{rolling:016x}"},
        {"type": "bye", "job": 1},
    ]
    return {
        "about": "Test vectors of everyframe.v1 (docs/protocol.md). Bytes are hexadecimal. Written by make-vectors.py.",
        "digests": [{"bytes": data.hex(), "xxh64": digest(data)} for data in
                    (b"", b"a", b"abc", count_up[:31], count_up[:32], count_up[:33], count_up[:44], count_up[:100], count_up)],
        "rolling": steps,
        "frames": frames,
        "configurations": [{"fields": setting, "extradata": avcc.hex(), "message": configuration(setting, avcc).hex()}],
        "results": [
            {"fields": ok, "body": body.hex(), "image": jpeg.hex(), "message": result(ok, body, jpeg).hex()},
            {"fields": failure, "body": failure_body.hex(), "image": "", "message": result(failure, failure_body, b"").hex()},
        ],
        "control": [{"json": json.dumps(message, separators=(",", ":")), "msgpack": (b"\x01" + pack(message)).hex()} for message in control],
    }


def main() -> int:
    path = pathlib.Path(__file__).with_name("everyframe-v1.json")
    text = json.dumps(vectors(), indent=1) + "\n"
    if "--check" in sys.argv:
        return 0 if path.read_text() == text else 1
    path.write_text(text)
    return 0


sys.exit(main())
