// Descriptions and candidates are part of this room's public API.
@_exported public import WebRTC
