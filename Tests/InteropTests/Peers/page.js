'use strict';
// What the Chromium peer runs. See README.md.
const out = (event, fields = {}) => peerOut(JSON.stringify({event, ...fields}));
const connection = new RTCPeerConnection();
const channels = {}, echoing = {};

const table = new Uint32Array(256).map((_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xEDB88320 : n >>> 1;
  return n;
});
const crc32 = bytes => {
  let crc = 0xFFFFFFFF;
  for (const byte of bytes) crc = table[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xFFFFFFFF) >>> 0;
};
const rule = (i, seed) => (i * 31 + (i >> 8) * 7 + seed) & 255;
const binary = (size, seed) => Uint8Array.from({length: size}, (_, i) => rule(i, seed));
const text = (size, seed) => {
  const front = size >= 6 ? 'é𝄞' : '';
  const rest = Uint8Array.from({length: size - (front ? 6 : 0)}, (_, i) => 97 + rule(i, seed) % 26);
  return front + new TextDecoder().decode(rest);
};

function attach(channel) {
  channels[channel.label] = channel;
  channel.binaryType = 'arraybuffer';
  channel.onmessage = event => {
    const isText = typeof event.data === 'string';
    const bytes = isText ? new TextEncoder().encode(event.data) : new Uint8Array(event.data);
    out('message', {label: channel.label, kind: isText ? 'text' : 'binary', size: bytes.length, crc: crc32(bytes)});
    if (echoing[channel.label]) channel.send(event.data);
  };
  let isOpen = false;
  const opened = () => {
    if (!isOpen) {
      const {label, ordered, maxRetransmits, maxPacketLifeTime, protocol, id} = channel;
      out('open', {label, limit: connection.sctp.maxMessageSize, ordered, maxRetransmits, maxPacketLifeTime, protocol, id});
    }
    isOpen = true;
  };
  channel.onopen = opened;
  channel.onclose = () => out('closed', {label: channel.label});
  channel.onerror = event => out('note', {text: String(event.error)});
  if (channel.readyState === 'open') opened();
}
connection.ondatachannel = event => attach(event.channel);
connection.onconnectionstatechange = () => out('state', {state: connection.connectionState});
connection.onicecandidate = event => {
  if (event.candidate && event.candidate.candidate) out('candidate', {candidate: event.candidate.candidate, mid: event.candidate.sdpMid});
};

const actions = {
  channel: command => {
    const {ordered, maxRetransmits, maxPacketLifeTime, protocol, id} = command;
    attach(connection.createDataChannel(command.label, {ordered, maxRetransmits, maxPacketLifeTime, protocol, id, negotiated: id !== undefined}));
  },
  offer: async () => {
    await connection.setLocalDescription();
    out('description', {type: 'offer', sdp: connection.localDescription.sdp});
  },
  description: async command => {
    await connection.setRemoteDescription({type: command.type, sdp: command.sdp});
    if (command.type !== 'offer') return;
    await connection.setLocalDescription();
    out('description', {type: 'answer', sdp: connection.localDescription.sdp});
  },
  candidate: command => connection.addIceCandidate({candidate: command.candidate, sdpMid: command.mid}),
  send: command => channels[command.label].send((command.kind === 'text' ? text : binary)(command.size, command.seed)),
  echo: command => { echoing[command.label] = command.on; },
  close: command => channels[command.label].close(),
  quit: () => connection.close(),
};
// One command after the other, as the other peers do.
let last = Promise.resolve();
const perform = command => {
  last = last.then(() => actions[command.do](command)).catch(error => out('error', {text: `${command.do}: ${error}`}));
};
