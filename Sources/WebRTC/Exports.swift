// `IceCandidate` is part of the public API; the room's other names are `package`.
@_exported public import ICE
