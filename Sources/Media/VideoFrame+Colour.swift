extension VideoFrame {
    /// The same colours written with other numbers, planes only. Chroma stays at half size: pixels that meet a luma sample of another
    /// matrix use the chroma sample they lie in.
    package func withColour(_ target: Colour) -> VideoFrame {
        guard format == .i420, colour != target else { return self }
        return withUnsafeBytes { source in
            VideoFrame(.i420, width: width, height: height, colour: target, pts: pts, timeBase: timeBase) { output in
                guard let from = source.bindMemory(to: UInt8.self).baseAddress, let to = output.bindMemory(to: UInt8.self).baseAddress else { return }
                let change = ColourChange(from: colour, to: target)
                let luma = width * height
                let chroma = ((width + 1) / 2) * ((height + 1) / 2)
                if colour.matrix == target.matrix {
                    change.scaleLuma(from, to, count: luma)
                    change.scaleChroma(from + luma, to + luma, count: 2 * chroma)
                } else {
                    change.mixLuma(from, to, width: width, height: height)
                    change.mixChroma(from + luma, to + luma, count: chroma)
                }
            }
        }
    }
}

/// A linear map of (Y, Cb, Cr) in 14-bit fixed point. The luma row needs all three, the chroma rows only chroma: grey stays grey.
private struct ColourChange {
    var inputZero, outputZero: Int32
    var lumaFromLuma, lumaFromCb, lumaFromCr: Int32
    var cbFromCb, cbFromCr, crFromCb, crFromCr: Int32

    init(from source: Colour, to target: Colour) {
        let (a, b) = (source.matrix.weights, target.matrix.weights)
        // normalised: Y in 0…1, Cb and Cr in -0.5…0.5. R = Y + r·Cr, B = Y + c·Cb, G follows from the weights
        let (r, c) = (2 * (1 - a.red), 2 * (1 - a.blue))
        let green = 1 - a.red - a.blue
        let (gFromCb, gFromCr) = (-a.blue * c / green, -a.red * r / green)
        let targetGreen = 1 - b.red - b.blue
        // Y' of the target matrix = Y + these
        let lumaCb = b.blue * c + targetGreen * gFromCb
        let lumaCr = b.red * r + targetGreen * gFromCr
        let (blueScale, redScale) = (2 * (1 - b.blue), 2 * (1 - b.red))
        let (inLuma, inChroma) = source.range.scale
        let (outLuma, outChroma) = target.range.scale
        func fixed(_ value: Double) -> Int32 { Int32((value * 16_384).rounded()) }
        inputZero = source.range == .limited ? 16 : 0
        outputZero = target.range == .limited ? 16 : 0
        lumaFromLuma = fixed(outLuma / inLuma)
        lumaFromCb = fixed(lumaCb * outLuma / inChroma)
        lumaFromCr = fixed(lumaCr * outLuma / inChroma)
        cbFromCb = fixed((c - lumaCb) / blueScale * outChroma / inChroma)
        cbFromCr = fixed(-lumaCr / blueScale * outChroma / inChroma)
        crFromCb = fixed(-lumaCb / redScale * outChroma / inChroma)
        crFromCr = fixed((r - lumaCr) / redScale * outChroma / inChroma)
    }

    // Whole planes in one flat loop each: the compiler turns these into vector code.

    func scaleLuma(_ from: UnsafePointer<UInt8>, _ to: UnsafeMutablePointer<UInt8>, count: Int) {
        // 7 bits are enough within one matrix and let 16-bit lanes do: off by 0.1 at most
        let scale = UInt16(truncatingIfNeeded: (lumaFromLuma &+ 64) >> 7)
        let (zero, bias) = (UInt8(truncatingIfNeeded: inputZero), UInt16(truncatingIfNeeded: outputZero << 7 &+ 64))
        for index in 0..<count {
            let value = (UInt16(max(from[index], zero) &- zero) &* scale &+ bias) >> 7
            to[index] = UInt8(truncatingIfNeeded: min(255, value))
        }
    }

    func mixLuma(_ from: UnsafePointer<UInt8>, _ to: UnsafeMutablePointer<UInt8>, width: Int, height: Int) {
        let (halfWidth, halfHeight) = ((width + 1) / 2, (height + 1) / 2)
        let cbPlane = from + width * height
        let crPlane = cbPlane + halfWidth * halfHeight
        let bias = (outputZero << 14) &+ 8192
        for row in 0..<height {
            let (input, output) = (from + row * width, to + row * width)
            let (cb, cr) = (cbPlane + (row / 2) * halfWidth, crPlane + (row / 2) * halfWidth)
            for pair in 0..<width / 2 {
                let mix = (Int32(cb[pair]) &- 128) &* lumaFromCb &+ (Int32(cr[pair]) &- 128) &* lumaFromCr &+ bias
                let first = ((Int32(input[2 &* pair]) &- inputZero) &* lumaFromLuma &+ mix) >> 14
                let second = ((Int32(input[2 &* pair &+ 1]) &- inputZero) &* lumaFromLuma &+ mix) >> 14
                output[2 &* pair] = UInt8(truncatingIfNeeded: max(0, min(255, first)))
                output[2 &* pair &+ 1] = UInt8(truncatingIfNeeded: max(0, min(255, second)))
            }
            if width % 2 == 1 {
                let mix = (Int32(cb[halfWidth - 1]) &- 128) &* lumaFromCb &+ (Int32(cr[halfWidth - 1]) &- 128) &* lumaFromCr &+ bias
                let value = ((Int32(input[width - 1]) &- inputZero) &* lumaFromLuma &+ mix) >> 14
                output[width - 1] = UInt8(truncatingIfNeeded: max(0, min(255, value)))
            }
        }
    }

    /// Chroma within one matrix: each by itself.
    func scaleChroma(_ from: UnsafePointer<UInt8>, _ to: UnsafeMutablePointer<UInt8>, count: Int) {
        let scale = Int16(truncatingIfNeeded: (cbFromCb &+ 64) >> 7)
        for index in 0..<count {
            let value = ((Int16(from[index]) &- 128) &* scale &+ 64) >> 7 &+ 128
            to[index] = UInt8(truncatingIfNeeded: max(0, min(255, value)))
        }
    }

    func mixChroma(_ from: UnsafePointer<UInt8>, _ to: UnsafeMutablePointer<UInt8>, count: Int) {
        let (cbPlane, crPlane) = (from, from + count)
        let (cbOutput, crOutput) = (to, to + count)
        let bias: Int32 = (128 << 14) &+ 8192
        for index in 0..<count {
            let (cb, cr) = (Int32(cbPlane[index]) &- 128, Int32(crPlane[index]) &- 128)
            let newCb = (cb &* cbFromCb &+ cr &* cbFromCr &+ bias) >> 14
            let newCr = (cb &* crFromCb &+ cr &* crFromCr &+ bias) >> 14
            cbOutput[index] = UInt8(truncatingIfNeeded: max(0, min(255, newCb)))
            crOutput[index] = UInt8(truncatingIfNeeded: max(0, min(255, newCr)))
        }
    }
}

extension Colour.Matrix {
    /// Red's and blue's share of luma (ITU-R BT.601, BT.709, BT.2020).
    var weights: (red: Double, blue: Double) {
        switch self {
        case .bt601: (0.299, 0.114)
        case .bt709: (0.2126, 0.0722)
        case .bt2020: (0.2627, 0.0593)
        }
    }
}

extension Colour.Range {
    fileprivate var scale: (luma: Double, chroma: Double) { self == .full ? (255, 255) : (219, 224) }
}
