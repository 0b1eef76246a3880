#!/bin/bash
# `make bench`: our figures beside others', taken in the same run. usage: Benchmarks/run.sh [PART ...]   (default: all; README.md says what each is)
# Needs root for the network namespaces of `peers`, and the benches of the other stacks: EVERYFRAME_BENCH (default ../shared/bench).
source "$(dirname "$0")/../scripts/common.sh"
cd "$ROOT"
export EVERYFRAME_BENCH=${EVERYFRAME_BENCH:-$ROOT/../shared/bench}
[ -d "$EVERYFRAME_BENCH/peers" ] || die "the other stacks' benches are not at $EVERYFRAME_BENCH: set EVERYFRAME_BENCH"
[ $# -gt 0 ] || set -- peers idle control congestion job wire flight engine latency long
mkdir -p out/bench
code=0
for part in "$@"; do
    case $part in
    peers)
        step 1800 "the other stacks" "$EVERYFRAME_BENCH/peers/install.sh" ${BENCH_PEERS:-aiortc libdatachannel wrtc reactor chromium}
        step 2400 "build channel-worker" swift build -c release --package-path Benchmarks --product channel-worker
        ;;
    idle | control)
        [ -n "${BENCH_BIN:-}" ] || step 2400 "build channel-worker" swift build -c release --package-path Benchmarks --product channel-worker
        ;;
    congestion)
        step 2400 "build congestion-bench" swift build -c release --product congestion-bench
        timeout --kill-after=30 1200 .build/release/congestion-bench | tee out/bench/congestion.md || code=$?
        continue
        ;;
    job | wire | flight | engine | latency | long)
        # BENCH_BIN: a folder with both programs, for measuring what was built elsewhere
        if [ -z "${BENCH_BIN:-}" ]; then
            step 900 "set-up" scripts/setup system engine model footage
            step 2400 "build everyframe" swift build -c release --product everyframe
            case $part in wire | engine) step 2400 "build engine-bench" swift build -c release --product engine-bench ;; esac
        fi
        ;;
    *) die "there is no part called '$part': peers, idle, control, congestion, job, wire, flight, engine, latency, long" ;;
    esac
    # One bench at a time: they are about the machine's two or more cores.
    timeout --kill-after=30 3600 python3 Benchmarks/bench.py "$part" || code=$?
done
exit "$code"
