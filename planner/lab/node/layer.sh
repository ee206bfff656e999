#!/bin/bash
# Run a script over an overlay and keep what it wrote as a layer. Mounts live in a namespace of their own and go with it.
# usage: layer.sh LOWER OUT COMMAND...      COMMAND sees the tree as $ROOT
set -euo pipefail
lower=$1 out=$2
shift 2
if [ -z "${PLANNER_LAB_INSIDE:-}" ]; then
  PLANNER_LAB_INSIDE=1 exec unshare --mount --pid --fork --kill-child=KILL bash "$0" "$lower" "$out" "$@"
fi
mount --make-rprivate /
mkdir -p "$out/upper" "$out/work" "$out/root"
ROOT=$out/root
export ROOT
mount -t overlay -o "lowerdir=$lower,upperdir=$out/upper,workdir=$out/work,xino=off" planner-lab-layer "$ROOT"
mount -t proc proc "$ROOT/proc"
mount -t tmpfs -o mode=755,size=4m tmpfs "$ROOT/dev"
for device in null zero full random urandom; do
  : > "$ROOT/dev/$device"
  mount --bind "/dev/$device" "$ROOT/dev/$device"
done
ln -s /proc/self/fd "$ROOT/dev/fd"
mount -t tmpfs -o mode=755,size=16m tmpfs "$ROOT/run"
mount -t tmpfs -o mode=1777,size=256m tmpfs "$ROOT/tmp"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 SYSTEMD_OFFLINE=1 HOME=/root
"$@"
umount -R "$ROOT"
