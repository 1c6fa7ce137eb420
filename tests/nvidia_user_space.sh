#!/bin/sh
# oomph against NVIDIA's own user-space libraries on a machine without their kernel driver.
#
# Opt-in: it needs the network, apt-get and dpkg-deb (Debian or Ubuntu), and no root. Debian's packages of
# libcuda and libnvidia-ml (non-free) are downloaded through apt with a configuration of this
# script's own, unpacked into a temporary folder, put before oomph by LD_LIBRARY_PATH, and removed.
#
#     cargo build && sh tests/nvidia_user_space.sh target/debug/oomph
#
# Every command must end with exit code 4 and say what is the matter. The output is recorded in
# docs/guide/probe.md.
set -eu

oomph=$(realpath "${1:-target/debug/oomph}")
suite=${SUITE:-bookworm}
mirror=${MIRROR:-http://deb.debian.org/debian}
if [ -e /proc/driver/nvidia/version ]; then
    echo "this machine has NVIDIA's kernel driver: nothing to see here" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/debs" "$work/root"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite non-free" >"$work/sources.list"
apt() {
    apt-get -q -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work" -o APT::Sandbox::User="$(id -un)" "$@"
}
apt update >"$work/apt.log" 2>&1 || { cat "$work/apt.log" >&2; exit 1; }
(cd "$work/debs" && apt download libcuda1 libnvidia-ml1 >>"$work/apt.log" 2>&1) || { cat "$work/apt.log" >&2; exit 1; }
for deb in "$work"/debs/*.deb; do
    echo "$(basename "$deb") $(sha256sum "$deb" | cut -d' ' -f1)"
    dpkg-deb -x "$deb" "$work/root"
done
# Debian keeps them beside alternatives that only an installation would link.
libraries=$work/libraries
mkdir "$libraries"
for name in libcuda.so libnvidia-ml.so; do
    real=$(find "$work/root" -name "$name.[0-9][0-9]*.[0-9]*" -type f | head -n 1)
    [ -n "$real" ] || { echo "no $name in the packages" >&2; find "$work/root" -name '*.so*' >&2; exit 1; }
    ln -s "$real" "$libraries/$name.1"
    ln -s "$real" "$libraries/$name"
done

failed=0
ask() {
    words=$1
    shift
    echo
    echo "\$ oomph $*"
    code=0
    (cd "$work" && LD_LIBRARY_PATH="$libraries" "$oomph" "$@") >"$work/out" 2>&1 || code=$?
    cat "$work/out"
    echo "exit code $code"
    if [ "$code" != 4 ]; then
        echo "FAILED: exit code 4 was expected" >&2
        failed=1
    fi
    if ! grep -q -- "$words" "$work/out"; then
        echo "FAILED: no word of '$words'" >&2
        failed=1
    fi
}
ask "driver" gpus
ask "driver" gpus --select 1 --min-free 1GiB
ask "driver" probe gpt2 --seq-len 64
ask "driver" plan gpt2 --seq-len 64 --effective-batch 8
ask "driver" check gpt2 --seq-len 64 --micro-batch 1
ask "driver" wait --min-free 1GiB --timeout 5s
exit "$failed"
