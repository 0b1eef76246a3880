"""libdatachannel, through its Python binding, as the other end. See README.md."""
import threading
from importlib.metadata import version

from pylibdatachannel import Candidate, Configuration, Description, DescriptionType, PeerConnection

from peer import commands, emit, end, fail, make, report

# libdatachannel sends no message longer than its own limit, which the binding cannot change.
LIMIT = 262144

connection = PeerConnection(Configuration(ice_servers=[]))
channels, echoing, opened = {}, set(), set()


def attach(channel):
    label = channel.label
    channels[label] = channel

    def on_open():
        if label not in opened:
            opened.add(label)
            emit("open", label=label, limit=LIMIT)

    def on_message(message):
        report(label, message)
        if label in echoing:
            channel.send(message)

    channel.on_message(on_message)
    channel.on_closed(lambda: emit("closed", label=label))
    channel.on_error(lambda text: emit("error", text=text))
    channel.on_open(on_open)
    if channel.is_open:
        on_open()


def on_description(description):
    kind = "offer" if description.type == DescriptionType.OFFER else "answer"
    emit("description", type=kind, sdp=description.description)


connection.on_local_description(on_description)
connection.on_local_candidate(lambda candidate: emit("candidate", candidate=candidate.candidate.removeprefix("a="), mid=candidate.mid or "0"))
connection.on_data_channel(attach)
gone = threading.Event()


def on_state(state):
    emit("state", state=state.name.lower())
    if state.name == "CLOSED":
        gone.set()


connection.on_state_change(on_state)


def run(command):
    match command["do"]:
        case "channel":
            attach(connection.create_data_channel(command["label"]))  # makes the offer by itself
        case "offer":
            pass
        case "description":
            connection.set_remote_description(Description(command["sdp"], DescriptionType.from_string(command["type"])))
        case "candidate":
            connection.add_remote_candidate(Candidate(command["candidate"], command["mid"]))
        case "send":
            channels[command["label"]].send(make(command))
        case "echo":
            (echoing.add if command["on"] else echoing.discard)(command["label"])
        case "close":
            channels[command["label"]].close()
        case "quit":
            connection.close()
            gone.wait(3)  # its farewell goes out on a thread of its own
            end()
        case other:
            fail(f"unknown command {other}")


emit("ready", name="libdatachannel", version=version("pylibdatachannel"))
commands(run)
threading.Event().wait()
