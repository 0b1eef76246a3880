import NIOCore
import Testing
import Wire

@testable import FrameTransport

@Suite struct V1SimulationTests {
    static let seeds = Array(UInt64(1)...40)

    @Test("everyframe.v1: without faults each unit is answered once, in order, and proved", arguments: Array(seeds.prefix(20)))
    func plain(seed: UInt64) {
        var plan = V1World.Plan()
        plan.format = seed % 2 == 0 ? .json : .messagePack
        plan.jobs = Int(seed % 3) + 1
        let world = V1World(plan, seed: seed)
        world.run()
        expectAll(world, seed)
        #expect(world.jobs.allSatisfy { $0.end?.proof == .proved })
        #expect(world.stallCount == 0)
    }

    @Test("everyframe.v1: connections cut at random: each unit is answered once, in order, and proved", arguments: seeds)
    func cuts(seed: UInt64) {
        var plan = V1World.Plan()
        plan.cuts = 20...400
        plan.jobs = Int(seed % 3) + 1
        plan.silent = seed % 4 == 0 ? 0.2 : 0
        let world = V1World(plan, seed: seed)
        world.run()
        expectAll(world, seed)
        #expect(world.jobs.allSatisfy { $0.end?.proof == .proved })
    }

    @Test("everyframe.v1: the client's process restarts with its tokens and its source", arguments: seeds)
    func restarts(seed: UInt64) {
        var plan = V1World.Plan()
        plan.cuts = 30...400
        plan.restarts = 0.7
        plan.jobs = Int(seed % 2) + 1
        let world = V1World(plan, seed: seed)
        world.run()
        expectAll(world, seed)
    }

    @Test("everyframe.v1: access units whose pictures come in another order, with cuts and restarts", arguments: seeds)
    func source(seed: UInt64) {
        var plan = V1World.Plan()
        plan.encoding = .source
        plan.limits.framesInFlight = 48
        plan.units = 60
        plan.cuts = seed % 2 == 0 ? 30...400 : nil
        plan.restarts = 0.5
        let world = V1World(plan, seed: seed)
        world.run()
        expectAll(world, seed)
        for job in world.jobs {
            #expect(job.results.map(\.picture).filter { $0 > 0 } == Array(1...job.results.count { $0.answer.status == .ok }))
            #expect(job.results.count { $0.answer.status == .noPicture } == 60 / 7)
        }
    }

    @Test("everyframe.v1: damaged payloads are asked for again; what never arrives intact is an error of that unit alone", arguments: seeds)
    func damage(seed: UInt64) {
        var plan = V1World.Plan()
        plan.damage = 0.25
        plan.undecodable = seed % 3 == 0 ? 0.2 : 0
        plan.cuts = seed % 4 == 0 ? 50...500 : nil
        plan.settings.maximumChunkBytes = 16_384
        plan.rate = 5_000_000
        let world = V1World(plan, seed: seed)
        world.run()
        expectAll(world, seed, allowsFailures: true)
        #expect(world.damaged > 0)
        let retries = world.jobs[0].end?.counts.retries ?? 0
        #expect(retries > 0)
        for result in world.jobs[0].results where result.answer.status.isFailure {
            #expect(result.answer.tries == plan.limits.tries)
        }
    }

    @Test("everyframe.v1: an application that stops reading costs its window and loses nothing", arguments: Array(seeds.prefix(20)))
    func slowReader(seed: UInt64) {
        var plan = V1World.Plan()
        plan.pause = 50...60_000
        plan.units = 200
        plan.limits.framesInFlight = 10
        let world = V1World(plan, seed: seed)
        world.run(limit: .seconds(50))
        #expect(world.jobs[0].nextUnit <= world.jobs[0].results.count + 10 + plan.settings.readAhead + 2, "the window closed")
        #expect(world.stallCount == 0, "a slow reader is no stall")
        world.faults.removeAll { $0.contains("nothing to wait for") }
        while !world.isOver, world.now < Instant.zero + .seconds(300) { world.step() }
        expectAll(world, seed)
    }

    @Test("everyframe.v1: a slow model closes the window; memory stays bounded", arguments: Array(seeds.prefix(10)))
    func slowModel(seed: UInt64) {
        var plan = V1World.Plan()
        plan.inferTime = 500...1500
        plan.sizes = 20_000...60_000
        let world = V1World(plan, seed: seed)
        world.run()
        expectAll(world, seed)
        #expect(world.stallCount == 0)
    }

    @Test("everyframe.v1: a cancelled job ends on both sides at once", arguments: Array(seeds.prefix(20)))
    func cancel(seed: UInt64) {
        var plan = V1World.Plan()
        plan.units = 1000
        plan.cancelAfter = 15
        plan.cuts = seed % 2 == 0 ? 20...200 : nil
        let world = V1World(plan, seed: seed)
        world.run()
        #expect(world.faults.isEmpty, "seed \(seed): \(world.faults.prefix(5))")
        #expect(world.jobs[0].end?.status == .cancelled)
        #expect(world.jobs[0].results.count == 15)
        #expect(world.jobs[0].serverEnd?.status == .cancelled)
        #expect(world.server?.jobNumbers.isEmpty ?? true)
        #expect(world.client.jobKeys.isEmpty)
    }

    @Test("everyframe.v1: a channel that stands still is noticed within five seconds and healed", arguments: Array(seeds.prefix(20)))
    func stall(seed: UInt64) {
        var plan = V1World.Plan()
        plan.cuts = 100...101
        plan.silent = 1
        plan.units = 100
        plan.rate = 1_000_000
        let world = V1World(plan, seed: seed)
        for index in world.jobs.indices { world.jobs[index].key = world.client.open(world.jobs[index].request, at: world.now) }
        world.connect()
        world.schedule(.cut, in: 100...101)
        while world.stallCount == 0, world.now < Instant.zero + .seconds(20) { world.step() }
        #expect(world.stallCount == 1)
        #expect((world.now - Instant.zero) <= .milliseconds(5101), "noticed after \((world.now - Instant.zero))")
        world.actions.removeAll { if case .cut = $0.action { true } else { false } }
        while !world.isOver, world.now < Instant.zero + .seconds(100) { world.step() }
        expectAll(world, seed)
    }

    @Test("everyframe.v1: a job nobody comes back for is forgotten after its lifetime")
    func lifetime() {
        var plan = V1World.Plan()
        plan.limits.resumeLifetime = .seconds(3)
        let world = V1World(plan, seed: 1)
        world.jobs[0].key = world.client.open(world.jobs[0].request, at: world.now)
        world.connect()
        while world.jobs[0].results.count < 5 { world.step() }
        world.park()
        world.isCut = true
        world.actions.removeAll()
        world.client.disconnected(at: world.now)
        while world.parked.count > 0, world.now < Instant.zero + .seconds(10) { world.step() }
        #expect(world.parked.count == 0)
        #expect(world.jobs[0].serverEnd?.status == .failed)
        world.connect()
        let limit = world.now + .seconds(10)
        while !world.isOver, world.now < limit { world.step() }
        #expect(world.jobs[0].end?.reason == .unknownToken)
    }

    private func expectAll(_ world: V1World, _ seed: UInt64, allowsFailures: Bool = false) {
        #expect(world.faults.isEmpty, "seed \(seed): \(world.faults.prefix(5))")
        #expect(world.failures.isEmpty, "seed \(seed): \(world.failures)")
        for (index, job) in world.jobs.enumerated() {
            #expect(job.end?.status == .completed, "seed \(seed): \(String(describing: job.end))")
            #expect(job.end?.proof != .differs)
            #expect(job.results.map(\.sequence) == Array(1...world.plan.units), "seed \(seed): each once, in order")
            #expect(job.results.map(\.id).sorted() == Array(1...world.plan.units), "seed \(seed): each unit once")
            for result in job.results {
                #expect(result.pts == Int64(result.id) * 40 || result.answer.status == .damaged)
                if allowsFailures, result.answer.status.isFailure { continue }
                let payload = V1World.payload(job: index, unit: result.id, sizes: world.plan.sizes)
                #expect(result.digest == XXH64.digest(payload))
                if result.answer.status == .ok { #expect(result.answer.value?["unit"]?.integer == result.id) }
                if result.id % 5 == 0, result.answer.status == .ok {
                    #expect(result.answer.image?.bytes == V1World.payload(job: 99, unit: result.id, sizes: 0...50_000))
                }
            }
            #expect(job.end?.counts.answered == world.plan.units)
            if !allowsFailures { #expect(job.end?.counts.failed == 0) }
        }
        #expect(world.client.jobKeys.isEmpty && world.client.heldBytes == 0)
    }
}
