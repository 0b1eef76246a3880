#!/usr/bin/env python3
"""Writes the seeds that are made by hand to Fuzz/Corpus: small valid inputs, one per thing that a parser knows. Run it again after a change."""
import base64
import pathlib

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
