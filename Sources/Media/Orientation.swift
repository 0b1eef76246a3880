import CFFmpeg

/// How a stored picture must be turned to stand upright: first mirrored left to right if `mirrored`, then turned clockwise.
package struct Orientation: Hashable, Sendable {
    package enum Turn: Int, Sendable {
        case none = 0
        case quarter = 90
        case half = 180
        case threeQuarters = 270
    }
    package var turn: Turn
    package var mirrored: Bool

    package init(_ turn: Turn, mirrored: Bool = false) {
        self.turn = turn
        self.mirrored = mirrored
    }

    package static let upright = Orientation(.none)
    package var swapsSides: Bool { turn == .quarter || turn == .threeQuarters }

    /// From the matrix (a b u; c d v; x y w) that takes (x, y) to (ax + cy, bx + dy); odd angles go to the nearest quarter.
    init(displayMatrix m: UnsafePointer<Int32>) {
        let (a, b, c, d) = (Int64(m[0]), Int64(m[1]), Int64(m[3]), Int64(m[4]))
        mirrored = a * d - b * c < 0
        // with the mirror taken out, (a, b) is where the x axis goes; y points down, so that is the clockwise angle
        let (x, y) = mirrored ? (-a, -b) : (a, b)
        turn =
            if abs(x) >= abs(y) { x >= 0 ? .none : .half } else { y >= 0 ? .quarter : .threeQuarters }
    }
}

extension VideoFrame {
    /// The same picture turned upright: pixels move, nothing is only declared.
    package func turned(_ orientation: Orientation) -> VideoFrame {
        guard orientation != .upright else { return self }
        let (newWidth, newHeight) = orientation.swapsSides ? (height, width) : (width, height)
        let sources = planes
        let targets = format.planes(width: newWidth, height: newHeight)
        let pixelSizes = format == .bgr24 ? [3] : format == .i420 ? [1, 1, 1] : [1, 2]
        return withUnsafeBytes { source in
            VideoFrame(format, width: newWidth, height: newHeight, colour: colour, pts: pts, timeBase: timeBase) { target in
                for index in sources.indices {
                    turnPlane(from: source, sources[index], to: target, targets[index], pixelSize: pixelSizes[index], orientation)
                }
            }
        }
    }
}

/// Walks the target row by row; in the source that is a walk with a constant step.
private func turnPlane(
    from source: UnsafeRawBufferPointer, _ from: Plane, to target: UnsafeMutableRawBufferPointer, _ to: Plane, pixelSize: Int,
    _ orientation: Orientation
) {
    guard let input = source.baseAddress?.advanced(by: from.offset), let output = target.baseAddress?.advanced(by: to.offset) else { return }
    let (columns, rows) = (from.bytesPerRow / pixelSize, from.rows)
    // where the target's first pixel lies in the source, and where one step right and one step down lead to, each as (column, row)
    typealias Step = (column: Int, row: Int)
    var (start, right, down): (Step, Step, Step) =
        switch orientation.turn {
        case .none: ((0, 0), (1, 0), (0, 1))
        case .quarter: ((0, rows - 1), (0, -1), (1, 0))
        case .half: ((columns - 1, rows - 1), (-1, 0), (0, -1))
        case .threeQuarters: ((columns - 1, 0), (0, 1), (-1, 0))
        }
    if orientation.mirrored {
        start.column = columns - 1 - start.column
        right.column.negate()
        down.column.negate()
    }
    func bytes(_ step: Step) -> Int { step.column * pixelSize + step.row * from.bytesPerRow }
    let stepRight = bytes(right)
    let outputColumns = to.bytesPerRow / pixelSize
    for row in 0..<to.rows {
        var place = row * to.bytesPerRow
        var position = bytes(start) + row * bytes(down)
        for _ in 0..<outputColumns {
            for byte in 0..<pixelSize {
                output.storeBytes(of: input.load(fromByteOffset: position + byte, as: UInt8.self), toByteOffset: place + byte, as: UInt8.self)
            }
            position += stepRight
            place += pixelSize
        }
    }
}
