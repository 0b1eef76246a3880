extension VideoFrame {
    /// The picture at another size as BGR, each pixel mixed from the four nearest of the source, nothing else looked at: what TensorFlow's
    /// `ResizeBilinear` does (without aligned corners or half-pixel centres). Detection graphs were trained on such pictures. Planes are
    /// sampled as they are, so a frame in I420 needs no conversion of all its pixels first.
    package func sampled(width newWidth: Int, height newHeight: Int) -> VideoFrame {
        let columns = taps(from: width, to: newWidth)
        let rows = taps(from: height, to: newHeight)
        let planes = self.planes
        return withUnsafeBytes { source in
            VideoFrame(.bgr24, width: newWidth, height: newHeight, pts: pts, timeBase: timeBase) { target in
                guard let from = source.bindMemory(to: UInt8.self).baseAddress, let to = target.bindMemory(to: UInt8.self).baseAddress else { return }
                switch format {
                case .bgr24:
                    sampleInterleaved(from, bytesPerRow: planes[0].bytesPerRow, columns, rows, to)
                case .i420:
                    sampleLuma(from, bytesPerRow: planes[0].bytesPerRow, columns, rows, to)
                    let chroma = Chroma(cb: from + planes[1].offset, cr: from + planes[2].offset, step: 1, bytesPerRow: planes[1].bytesPerRow)
                    colourIn(to, chroma, columns, rows)
                case .nv12:
                    sampleLuma(from, bytesPerRow: planes[0].bytesPerRow, columns, rows, to)
                    let chroma = Chroma(cb: from + planes[1].offset, cr: from + planes[1].offset + 1, step: 2, bytesPerRow: planes[1].bytesPerRow)
                    colourIn(to, chroma, columns, rows)
                }
            }
        }
    }

    /// Turns (luma, luma, luma) into colour, with the chroma sample that the upper left pixel lies in.
    private func colourIn(_ to: UnsafeMutablePointer<UInt8>, _ chroma: Chroma, _ columns: [Tap], _ rows: [Tap]) {
        let weights = colour.matrix.weights
        let limited = colour.range == .limited
        let (lumaScale, chromaScale) = limited ? (255.0 / 219, 255.0 / 224) : (1, 1)
        func fixed(_ value: Double) -> Int32 { Int32((value * 65_536).rounded()) }
        let luma = fixed(lumaScale)
        let zero: Int32 = limited ? 16 : 0
        let redFromCr = fixed(2 * (1 - weights.red) * chromaScale)
        let blueFromCb = fixed(2 * (1 - weights.blue) * chromaScale)
        let green = 1 - weights.red - weights.blue
        let greenFromCb = fixed(-weights.blue * 2 * (1 - weights.blue) / green * chromaScale)
        let greenFromCr = fixed(-weights.red * 2 * (1 - weights.red) / green * chromaScale)
        var place = to
        for row in rows {
            let line = (row.first / 2) * chroma.bytesPerRow
            for column in columns {
                let offset = line + (column.first / 2) * chroma.step
                let (cb, cr) = (Int32(chroma.cb[offset]) &- 128, Int32(chroma.cr[offset]) &- 128)
                let y = (Int32(place[0]) &- zero) &* luma &+ 32_768
                place[0] = clamped((y &+ cb &* blueFromCb) >> 16)
                place[1] = clamped((y &+ cb &* greenFromCb &+ cr &* greenFromCr) >> 16)
                place[2] = clamped((y &+ cr &* redFromCr) >> 16)
                place += 3
            }
        }
    }
}

private struct Chroma {
    var cb, cr: UnsafePointer<UInt8>
    var step, bytesPerRow: Int
}

/// Two neighbours and the second one's share in 2048ths.
private struct Tap {
    var first, second: Int
    var share: Int32
}

private func taps(from old: Int, to new: Int) -> [Tap] {
    let scale = Double(old) / Double(new)
    return (0..<new).map { index in
        let position = Double(index) * scale
        let first = min(old - 1, Int(position))
        return Tap(first: first, second: min(old - 1, first + 1), share: Int32(((position - Double(first)) * 2048).rounded()))
    }
}

private func mix(_ upperLeft: UInt8, _ upperRight: UInt8, _ lowerLeft: UInt8, _ lowerRight: UInt8, _ x: Int32, _ y: Int32) -> UInt8 {
    let upper = Int32(upperLeft) &* (2048 &- x) &+ Int32(upperRight) &* x
    let lower = Int32(lowerLeft) &* (2048 &- x) &+ Int32(lowerRight) &* x
    return UInt8(truncatingIfNeeded: (upper &* (2048 &- y) &+ lower &* y &+ (1 << 21)) >> 22)
}

private func clamped(_ value: Int32) -> UInt8 { UInt8(truncatingIfNeeded: max(0, min(255, value))) }

private func sampleInterleaved(
    _ from: UnsafePointer<UInt8>, bytesPerRow: Int, _ columns: [Tap], _ rows: [Tap], _ to: UnsafeMutablePointer<UInt8>
) {
    var place = to
    for row in rows {
        let (upper, lower) = (from + row.first * bytesPerRow, from + row.second * bytesPerRow)
        for column in columns {
            let (left, right) = (3 &* column.first, 3 &* column.second)
            place[0] = mix(upper[left], upper[right], lower[left], lower[right], column.share, row.share)
            place[1] = mix(upper[left &+ 1], upper[right &+ 1], lower[left &+ 1], lower[right &+ 1], column.share, row.share)
            place[2] = mix(upper[left &+ 2], upper[right &+ 2], lower[left &+ 2], lower[right &+ 2], column.share, row.share)
            place += 3
        }
    }
}

/// Writes luma into the first of each three bytes.
private func sampleLuma(
    _ from: UnsafePointer<UInt8>, bytesPerRow: Int, _ columns: [Tap], _ rows: [Tap], _ to: UnsafeMutablePointer<UInt8>
) {
    var place = to
    for row in rows {
        let (upper, lower) = (from + row.first * bytesPerRow, from + row.second * bytesPerRow)
        for column in columns {
            place[0] = mix(upper[column.first], upper[column.second], lower[column.first], lower[column.second], column.share, row.share)
            place += 3
        }
    }
}
