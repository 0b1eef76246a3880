"""aiortc as the other end. See README.md."""
import asyncio

import aiortc
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp

from peer import commands, emit, end, fail, make, report


async def main():
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue()
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    channels, echoing = {}, set()

    def attach(channel):
        label = channel.label
        channels[label] = channel

        def on_message(message):
            report(label, message)
            if label in echoing:
                channel.send(message)

        channel.on("message", on_message)
        channel.on("close", lambda: emit("closed", label=label))
        def on_open():
            emit(
                "open", label=label, limit=None, ordered=channel.ordered, maxRetransmits=channel.maxRetransmits,
                maxPacketLifeTime=channel.maxPacketLifeTime, protocol=channel.protocol, id=channel.id)

        channel.on("open", on_open)
        if channel.readyState == "open":
            on_open()

    connection.on("datachannel", attach)
    connection.on("connectionstatechange", lambda: emit("state", state=connection.connectionState))

    async def run(command):
        match command["do"]:
            case "channel":
                options = {key: command[key] for key in ("ordered", "maxRetransmits", "maxPacketLifeTime", "protocol", "id") if key in command}
                attach(connection.createDataChannel(command["label"], negotiated="id" in options, **options))
            case "offer":
                await connection.setLocalDescription(await connection.createOffer())
                emit("description", type="offer", sdp=connection.localDescription.sdp)
            case "description":
                await connection.setRemoteDescription(RTCSessionDescription(command["sdp"], command["type"]))
                if command["type"] == "offer":
                    await connection.setLocalDescription(await connection.createAnswer())
                    emit("description", type="answer", sdp=connection.localDescription.sdp)
            case "candidate":
                candidate = candidate_from_sdp(command["candidate"].split(":", 1)[1])
                candidate.sdpMid, candidate.sdpMLineIndex = command["mid"], 0
                await connection.addIceCandidate(candidate)
            case "send":
                channels[command["label"]].send(make(command))
            case "echo":
                (echoing.add if command["on"] else echoing.discard)(command["label"])
            case "close":
                channels[command["label"]].close()
            case "quit":
                await asyncio.wait_for(connection.close(), 5)
                end()
            case other:
                fail(f"unknown command {other}")

    emit("ready", name="aiortc", version=aiortc.__version__)
    commands(lambda command: loop.call_soon_threadsafe(queue.put_nowait, command))
    while True:
        await run(await queue.get())


try:
    asyncio.run(main())
except Exception as error:
    fail(f"{type(error).__name__}: {error}")
