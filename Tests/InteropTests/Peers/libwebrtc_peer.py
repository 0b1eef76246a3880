"""libwebrtc, through the PyPI package wrtc, as the other end. See README.md."""
import asyncio
from importlib.metadata import version

import webrtc

from peer import commands, emit, end, fail, make, report


def options(command):
    names = {"ordered": "ordered", "maxRetransmits": "max_retransmits", "maxPacketLifeTime": "max_packet_life_time", "protocol": "protocol", "id": "id"}
    chosen = {names[key]: value for key, value in command.items() if key in names}
    if "id" in chosen:
        chosen["negotiated"] = True
    return webrtc.RTCDataChannelInit(**chosen)


async def main():
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue()
    connection = webrtc.RTCPeerConnection()
    channels, echoing = {}, set()

    def attach(channel):
        label = channel.label
        channels[label] = channel
        channel.binary_type = "arraybuffer"
        opened = []

        def on_open(*_):
            if not opened:
                opened.append(1)
                emit(
                    "open", label=label, limit=262144, ordered=channel.ordered, maxRetransmits=channel.max_retransmits,
                    maxPacketLifeTime=channel.max_packet_life_time, protocol=channel.protocol, id=channel.id)

        def on_message(event):
            report(label, event.data)
            if label in echoing:
                channel.send(event.data)

        channel.on("message", on_message)
        channel.on("close", lambda _: emit("closed", label=label))
        channel.on("open", on_open)

    def on_candidate(event):
        if event.candidate is not None and event.candidate.candidate:
            emit("candidate", candidate=event.candidate.candidate, mid=event.candidate.sdp_mid or "0")

    connection.on("icecandidate", on_candidate)
    connection.on("datachannel", lambda event: attach(event.channel))

    async def describe(description):
        await connection.set_local_description(description)
        local = connection.local_description
        kind = local.type if isinstance(local.type, str) else local.type.value
        emit("description", type=kind, sdp=local.sdp)

    async def run(command):
        match command["do"]:
            case "channel":
                attach(connection.create_data_channel(command["label"], options(command)))
            case "offer":
                await describe(await connection.create_offer())
            case "description":
                await connection.set_remote_description(webrtc.RTCSessionDescriptionInit(type=command["type"], sdp=command["sdp"]))
                if command["type"] == "offer":
                    await describe(await connection.create_answer())
            case "candidate":
                await connection.add_ice_candidate(
                    webrtc.RTCIceCandidateInit(candidate=command["candidate"], sdp_mid=command["mid"], sdp_m_line_index=0))
            case "send":
                channels[command["label"]].send(make(command))
            case "echo":
                (echoing.add if command["on"] else echoing.discard)(command["label"])
            case "close":
                channels[command["label"]].close()
            case "quit":
                connection.close()
                await asyncio.sleep(0.3)  # its farewell goes out on a thread of its own
                end()
            case other:
                fail(f"unknown command {other}")

    emit("ready", name="libwebrtc", version=version("wrtc"))
    commands(lambda command: loop.call_soon_threadsafe(queue.put_nowait, command))
    while True:
        await run(await queue.get())


try:
    asyncio.run(main())
except Exception as error:
    fail(f"{type(error).__name__}: {error}")
