#!/bin/bash
# Runs as pid 1 of a node's fresh namespaces: builds the node's root from its layers and becomes its systemd.
# usage: init.sh NODE_DIR LOWER
set -eu
dir=$1 lower=$2 name=$(basename "$1")
mount --make-rprivate /
root=$dir/root
mkdir -p "$root" "$dir/disk/upper" "$dir/disk/work"
mount -t overlay -o "nodev,lowerdir=$lower,upperdir=$dir/disk/upper,workdir=$dir/disk/work,xino=off" planner-lab "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o mode=755,size=1m,nodev tmpfs "$root/sys/module"
[ ! -d "$root/sys/bus/pci/devices" ] || mount -t tmpfs -o mode=755,size=1m,nodev tmpfs "$root/sys/bus/pci/devices"
[ ! -d "$root/proc/driver" ] || mount -t tmpfs -o mode=755,size=1m,nodev tmpfs "$root/proc/driver"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755,size=4m,nosuid tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  : > "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -p "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,size=64m,nodev tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for pair in stdin:0 stdout:1 stderr:2; do ln -s "fd/${pair#*:}" "$root/dev/${pair%:*}"; done
mount -t tmpfs -o mode=755,size=64m,nodev tmpfs "$root/run"
mkdir -p "$root/run/planner-lab" "$root/run/lock"

# Null devices where GPUs would be (Slurm asks for devices), and what PCI would show.
pci() { # SLOT CLASS DEVICE
  [ -d "$root/sys/bus/pci/devices" ] || return 0
  mkdir -p "$root/sys/bus/pci/devices/$1"
  echo 0x10de > "$root/sys/bus/pci/devices/$1/vendor"
  echo "$2" > "$root/sys/bus/pci/devices/$1/class"
  echo "$3" > "$root/sys/bus/pci/devices/$1/device"
}
gpus=$(cat "$root/etc/planner-lab/gpus")
for ((i = 0; i < gpus; i++)); do
  mknod -m 666 "$root/dev/nvidia$i" c 1 3
  pci "$(printf '0000:%02x:00.0' $((16 + i)))" 0x030200 0x0000
done
if [ "$gpus" -gt 0 ]; then mknod -m 666 "$root/dev/nvidiactl" c 1 3; mknod -m 666 "$root/dev/nvidia-uvm" c 1 3; fi
if [ -e "$root/etc/planner-lab/nvswitch" ]; then
  pci 0000:f0:00.0 0x068000 0x0000
  [ ! -d "$root/proc/driver" ] || mkdir -p "$root/proc/driver/nvidia-nvswitch"
fi

# What the boot loader would start: the entry that is set, else the newest kernel.
release=$(cat "$root/etc/planner-lab/kernel-pin" 2>/dev/null) || release=
entry=$(sed -n 's/^GRUB_DEFAULT=//p' "$root/etc/default/grub" 2>/dev/null | tr -d "\"'") || entry=
newest=
while read -r image; do
  newest=$image
  if [ -z "$release" ] && [ -n "$entry" ] && [ "$entry" != 0 ]; then
    case $entry in *"$image"*) release=$image;; esac
  fi
done < <(find "$root/boot" -maxdepth 1 -name 'vmlinuz-*' -printf '%f\n' | sed 's/^vmlinuz-//' | sort -V)
release=${release:-$newest}
if [ -n "$release" ]; then
  echo "$release" > "$root/run/planner-lab/kernel-release"
  echo "Linux version $release (planner lab stand-in) on $(uname -r)" > "$root/run/planner-lab/proc-version"
  mount --bind "$root/run/planner-lab/proc-version" "$root/proc/version"
fi

# What would reach the real machine is closed.
[ ! -e "$root/proc/sysrq-trigger" ] || mount --bind /dev/null "$root/proc/sysrq-trigger"
for part in kernel vm fs; do
  mount --bind "$root/proc/sys/$part" "$root/proc/sys/$part"
  mount -o remount,bind,ro "$root/proc/sys/$part"
done
mount --bind "$dir/boot_id" "$root/proc/sys/kernel/random/boot_id"     # after the read-only bind, which would hide it
[ -z "$release" ] || mount --bind "$root/run/planner-lab/kernel-release" "$root/proc/sys/kernel/osrelease"
hostname "$name"

# From here on only the node's own tree is there; the machine's leaves this mount namespace.
cd "$root"
pivot_root . .
umount -l .
cd /
exec env -i container=planner-lab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=linux \
  setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio,-syslog,-mac_admin,-wake_alarm,-mknod \
  /lib/systemd/systemd --log-target=null --show-status=0
