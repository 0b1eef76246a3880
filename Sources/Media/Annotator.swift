/// Draws boxes with labels into a picture.
package struct Annotator: Sendable {
    /// A box in pixels, its label written above it (or inside, at the picture's edge).
    package struct Mark: Sendable {
        package var x, y, width, height: Double
        package var label: String
        package var colour: RGB

        package init(x: Double, y: Double, width: Double, height: Double, label: String, colour: RGB) {
            self.x = x
            self.y = y
            self.width = width
            self.height = height
            self.label = label
            self.colour = colour
        }
    }

    package struct RGB: Hashable, Sendable {
        package var red, green, blue: UInt8

        package init(_ red: UInt8, _ green: UInt8, _ blue: UInt8) {
            self.red = red
            self.green = green
            self.blue = blue
        }

        /// Tells classes apart: the same number gives the same colour, neighbours differ.
        package static func ofClass(_ id: Int) -> RGB { palette[Int(UInt(bitPattern: id) % UInt(palette.count))] }

        private static let palette = [
            RGB(54, 162, 235), RGB(255, 99, 71), RGB(60, 200, 90), RGB(255, 193, 37), RGB(171, 99, 250), RGB(0, 204, 204), RGB(255, 105, 180),
            RGB(150, 190, 30), RGB(255, 140, 0), RGB(120, 144, 255),
        ]
        /// Black or white, whichever can be read on this.
        var ink: RGB { 299 * Int(red) + 587 * Int(green) + 114 * Int(blue) > 140_000 ? RGB(0, 0, 0) : RGB(255, 255, 255) }
    }

    /// A bar of text over the top left corner; empty: none.
    package var caption = ""

    package init() {}

    /// `frame` as BGR with the marks on it.
    package func draw(_ marks: [Mark], on frame: VideoFrame, converter: PixelConverter = PixelConverter()) throws(MediaError) -> VideoFrame {
        let bgr = try converter.convert(frame, to: .bgr24)
        return bgr.withUnsafeBytes { source in
            VideoFrame(.bgr24, width: bgr.width, height: bgr.height, colour: bgr.colour, pts: bgr.pts, timeBase: bgr.timeBase) { pixels in
                pixels.copyMemory(from: source)
                var canvas = Canvas(pixels: pixels, width: bgr.width, height: bgr.height)
                for mark in marks { draw(mark, on: &canvas) }
                if !caption.isEmpty { canvas.text(caption, x: 0, y: 0, ink: RGB(255, 255, 255), paper: RGB(0, 0, 0)) }
            }
        }
    }

    private func draw(_ mark: Mark, on canvas: inout Canvas) {
        let values = [mark.x, mark.y, mark.width, mark.height]
        guard values.allSatisfy({ $0.isFinite && abs($0) < 1e6 }) else { return }
        let (left, top) = (Int(mark.x.rounded()), Int(mark.y.rounded()))
        let (right, bottom) = (Int((mark.x + mark.width).rounded()), Int((mark.y + mark.height).rounded()))
        let line = max(1, canvas.scale)
        canvas.fill(left, top, right, top + line, mark.colour)
        canvas.fill(left, bottom - line, right, bottom, mark.colour)
        canvas.fill(left, top, left + line, bottom, mark.colour)
        canvas.fill(right - line, top, right, bottom, mark.colour)
        guard !mark.label.isEmpty else { return }
        let above = top - canvas.textHeight
        let shift = max(0, min(left, canvas.width - canvas.textWidth(mark.label)))
        canvas.text(mark.label, x: left < 0 ? left : shift, y: above >= 0 ? above : top, ink: mark.colour.ink, paper: mark.colour)
    }
}

/// BGR pixels to paint on; everything is clipped.
private struct Canvas {
    let pixels: UnsafeMutableRawBufferPointer
    let width, height: Int

    /// Letters grow with the picture.
    var scale: Int { max(1, min(height, width) / 400 + (height >= 500 ? 1 : 0)) }
    var textHeight: Int { (BitmapFont.height + 2) * scale }

    func textWidth(_ text: String) -> Int { text.prefix(Self.longest).count * (BitmapFont.width + 1) * scale + scale }
    private static let longest = 200

    func fill(_ left: Int, _ top: Int, _ right: Int, _ bottom: Int, _ colour: Annotator.RGB) {
        let (left, right) = (max(0, left), min(width, right))
        for row in max(0, top)..<max(0, top, min(height, bottom)) where left < right {
            for column in left..<right { put(column, row, colour) }
        }
    }

    mutating func text(_ text: String, x: Int, y: Int, ink: Annotator.RGB, paper: Annotator.RGB) {
        let scale = scale
        let advance = (BitmapFont.width + 1) * scale
        let letters = text.prefix(Self.longest)
        fill(x, y, x + textWidth(text), y + textHeight, paper)
        for (index, letter) in letters.enumerated() {
            for (row, bits) in BitmapFont.rows(of: letter).enumerated() {
                for column in 0..<BitmapFont.width where bits & (1 << (BitmapFont.width - 1 - column)) != 0 {
                    let left = x + scale + index * advance + column * scale
                    let top = y + (row + 1) * scale
                    fill(left, top, left + scale, top + scale, ink)
                }
            }
        }
    }

    private func put(_ column: Int, _ row: Int, _ colour: Annotator.RGB) {
        let offset = 3 * (row * width + column)
        pixels[offset] = colour.blue
        pixels[offset + 1] = colour.green
        pixels[offset + 2] = colour.red
    }
}
