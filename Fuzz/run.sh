#!/bin/bash
# Runs every fuzz target for a bounded time. usage: Fuzz/run.sh [SECONDS [TARGET ...]]   (default: 60 seconds each, all targets)
# What it learns goes to .build-fuzz/corpus; a crash is saved under Fuzz/Crashes/TARGET, where the tests replay it, and fails the run.
source "$(dirname "$0")/../scripts/common.sh"
cd "$ROOT"
limit=${1:-60}
[ $# -gt 0 ] && shift
export EVERYFRAME_FUZZ=1
swift build -c release --scratch-path .build-fuzz --product fuzzer
FUZZER=$ROOT/.build-fuzz/release/fuzzer
[ $# -gt 0 ] || mapfile -t all < <("$FUZZER")
targets=("${@:-${all[@]}}")

failed=0
for target in "${targets[@]}"; do
    learned=.build-fuzz/corpus/$target
    crashes=Fuzz/Crashes/$target
    mkdir -p "$learned" "$crashes" ".build-fuzz/log"
    log=.build-fuzz/log/$target.log
    code=0
    # Swift's own crash report would come before libFuzzer has saved the input; it is made below, from the saved input.
    SWIFT_BACKTRACE=enable=no EVERYFRAME_FUZZ_TARGET=$target timeout --kill-after=10 $((limit + 60)) "$FUZZER" -max_total_time="$limit" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
        -artifact_prefix="$crashes/" -print_final_stats=1 "$learned" "Fuzz/Corpus/$target" >"$log" 2>&1 || code=$?
    rmdir --ignore-fail-on-non-empty "$crashes"
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ "$code" -eq 0 ]; then
        printf '%-20s %10s runs in %s s, nothing found\n' "$target" "${runs:-?}" "$limit"
    else
        failed=1
        printf '%-20s FOUND SOMETHING (code %s, log %s)\n' "$target" "$code" "$log"
        grep -E '^(==|SUMMARY|Fatal|artifact_prefix)|Fatal error' "$log" | head -20 || true
        for input in "$crashes"/*; do
            [ -e "$input" ] || continue
            say "again: $input"
            SWIFT_BACKTRACE=enable=yes,color=no,limit=24,images=none,registers=none EVERYFRAME_FUZZ_TARGET=$target timeout 60 "$FUZZER" "$input" 2>&1 | grep -vE '^(INFO|Running)' | head -60 || true
        done
    fi
done
exit "$failed"
