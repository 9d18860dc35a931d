#!/bin/sh
# On a machine with an NVIDIA GPU: runs what `cmake -DSMELT_NVCC=$(command -v nvcc)` and the target metal_cuda built of the
# Metal backend's kernels. Results against the reference backend, memory errors and races by compute-sanitizer, then
# the decode kernels' use of memory as CSV.
# usage: bench/metal_on_cuda.sh BIN OUT     BIN: folder of the three programs; OUT: where logs and the table go
set -u
bin=$1 out=$2
mkdir -p "$out"
export LD_LIBRARY_PATH="$bin:${LD_LIBRARY_PATH:-}"
status=0
step() { # name, seconds, command...
    name=$1 limit=$2
    shift 2
    start=$(date +%s)
    if timeout "$limit" "$@" >"$out/$name.log" 2>&1; then result=ok; else result="FAILED ($?)" status=1; fi
    echo "== $name: $result, $(($(date +%s) - start)) s"
    grep -E 'ERROR SUMMARY|RACECHECK SUMMARY|\[  PASSED|\[  FAILED|[Ww]orst error|WRONG|results agree' "$out/$name.log" | tail -6
}
# Of the device's own tests, those whose threadgroups are whole and that do not look at adopted memory.
device='Metal.*-Metal.ThreadgroupsAtTheEdge*:Metal.BuffersAreZeroed*:Metal.HalfBfloat*'
step device_test 60 "$bin/metal_cuda_device_test" --gtest_filter="$device"
step bench_check 60 "$bin/metal_cuda_bench" --check
step bench 150 "$bin/metal_cuda_bench"
cat "$out/bench.log"
step ops_test 200 "$bin/metal_cuda_ops_test"
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        check="compute-sanitizer --tool $tool --error-exitcode 9"
        step "$tool-device_test" 60 $check "$bin/metal_cuda_device_test" --gtest_filter="$device"
        step "$tool-bench_check" 100 $check "$bin/metal_cuda_bench" --check
        # Minutes of the processor for the most part: in pieces beside each other.
        export GTEST_TOTAL_SHARDS="${SHARDS:-7}"
        pieces=""
        for GTEST_SHARD_INDEX in $(seq 0 $((GTEST_TOTAL_SHARDS - 1))); do
            export GTEST_SHARD_INDEX
            (step "$tool-ops_test-$GTEST_SHARD_INDEX" 600 $check "$bin/metal_cuda_ops_test"; exit $status) &
            pieces="$pieces $!"
        done
        for piece in $pieces; do wait "$piece" || status=1; done
        unset GTEST_TOTAL_SHARDS GTEST_SHARD_INDEX
    done
else
    echo "compute-sanitizer is not installed"
    status=1
fi
exit $status
