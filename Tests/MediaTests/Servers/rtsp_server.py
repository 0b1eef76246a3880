#!/usr/bin/env python3
"""A small RTSP server on loopback: H.264 in RTP, interleaved in the TCP connection (RFC 2326 10.12, RFC 6184). It shares nothing with FFmpeg.

usage: rtsp_server.py MODE [FILE.h264 [FRAMES]]
The port is printed, then connections are served one after the other until the process is ended.
MODE: play, silent (plays nothing), mute (does not even answer), stall (half of the frames, then silence), 401, 404, udp (refuses TCP),
redirect (to http), drop (half of the frames, then the connection is closed).
"""
import base64
import socket
import struct
import sys


def nal_units(data):
    starts, at = [], data.find(b"\0\0\1")
    while at >= 0:
        starts.append(at)
        at = data.find(b"\0\0\1", at + 3)
    for start, end in zip(starts, starts[1:] + [len(data)]):
        yield data[start + 3:end].rstrip(b"\0")


def access_units(data):
    unit = []
    for nal in nal_units(data):
        kind = nal[0] & 31
        if kind in (7, 8):
            yield_parameters.append(nal)
            continue
        unit.append(nal)
        # one slice a picture: it ends the unit
        if kind in (1, 5):
            yield unit
            unit = []


yield_parameters = []


def packets(unit, sequence, timestamp):
    pieces = []
    for nal in unit:
        if len(nal) <= 1200:
            pieces.append(nal)
            continue
        rest, first = nal[1:], True
        while rest:
            part, rest = rest[:1200], rest[1200:]
            header = (0x80 if first else 0) | (0 if rest else 0x40) | nal[0] & 31
            pieces.append(bytes([nal[0] & 0xE0 | 28, header]) + part)
            first = False
    for index, piece in enumerate(pieces):
        marker = 0x80 if index == len(pieces) - 1 else 0
        rtp = struct.pack("!BBHII", 0x80, marker | 96, (sequence + index) & 0xFFFF, timestamp, 0x1234) + piece
        yield b"$\0" + struct.pack("!H", len(rtp)) + rtp


def serve(connection, mode, units):
    buffer = b""
    port = connection.getsockname()[1]
    while True:
        while b"\r\n\r\n" not in buffer:
            more = connection.recv(4096)
            if not more:
                return
            buffer += more
        request, buffer = buffer.split(b"\r\n\r\n", 1)
        lines = request.decode().split("\r\n")
        method = lines[0].split()[0]
        sequence = next(line.split(":")[1].strip() for line in lines if line.lower().startswith("cseq"))
        transport = next((line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("transport")), "")

        def answer(status="200 OK", headers=(), body=""):
            head = [f"RTSP/1.0 {status}", f"CSeq: {sequence}", "Session: 7", *headers]
            if body:
                head += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
            connection.sendall(("\r\n".join(head) + "\r\n\r\n" + body).encode())

        if mode == "mute":
            continue
        if method == "OPTIONS":
            answer(headers=["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"])
        elif method == "DESCRIBE" and mode in ("401", "404"):
            answer({"401": "401 Unauthorized", "404": "404 Not Found"}[mode], ['WWW-Authenticate: Basic realm="x"'] if mode == "401" else [])
        elif method == "DESCRIBE" and mode == "redirect":
            answer("302 Moved", [f"Location: http://127.0.0.1:{port}/video.mp4"])
        elif method == "DESCRIBE":
            sets = ",".join(base64.b64encode(nal).decode() for nal in yield_parameters[:2])
            body = "\r\n".join([
                "v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=test", "c=IN IP4 127.0.0.1", "t=0 0", "m=video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000",
                f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}", "a=control:track1", ""])
            answer(headers=[f"Content-Base: rtsp://127.0.0.1:{port}/"], body=body)
        elif method == "SETUP":
            if mode == "udp" or "TCP" not in transport:
                answer("461 Unsupported Transport")
            else:
                answer(headers=["Transport: RTP/AVP/TCP;unicast;interleaved=0-1"])
        elif method == "PLAY":
            answer(headers=["RTP-Info: url=track1;seq=1;rtptime=12345"])
            count = {"silent": 0, "stall": len(units) // 2, "drop": len(units) // 2}.get(mode, len(units))
            number = 1
            for index, unit in enumerate(units[:count]):
                # FFmpeg takes a first time of 0 for none
                for packet in packets(unit, number, 12_345 + index * 3600):
                    connection.sendall(packet)
                    number += 1
            if mode in ("play", "drop"):
                return
        else:
            answer()


def main():
    mode = sys.argv[1]
    units = list(access_units(open(sys.argv[2], "rb").read())) if len(sys.argv) > 2 else []
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            try:
                serve(connection, mode, units)
            except OSError:
                pass


main()
