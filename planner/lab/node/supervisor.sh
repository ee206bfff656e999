#!/bin/bash
# One lab node: power on -> systemd as pid 1 -> reboot or power off, for ever, until NODE_DIR/stop is there.
# usage: supervisor.sh NODE_DIR LOWER NETNS
# NODE_DIR: disk/ (a tmpfs, the node's own disk), power (on|off|cycle), boot-delay (seconds of firmware), noboot (exists:
# never comes back), boots (a count), boot_id, log.
set -u
dir=$1 lower=$2 netns=$3
here=$(cd "$(dirname "$0")" && pwd)
cgroups=/sys/fs/cgroup/unified
[ -e $cgroups/cgroup.procs ] || cgroups=/sys/fs/cgroup
boots=0
echo $$ > "$dir/supervisor.part"
mv "$dir/supervisor.part" "$dir/supervisor"
exec 9<> <(:)     # something to wait on without starting a process
while [ ! -e "$dir/stop" ]; do
  if [ "$(cat "$dir/power")" = off ] || [ -e "$dir/noboot" ]; then
    read -rt 0.2 -u 9
    continue
  fi
  [ "$(cat "$dir/power")" = on ] || echo on > "$dir/power"
  boots=$((boots + 1))
  echo $boots > "$dir/boots"
  [ $boots -eq 1 ] || read -rt "$(cat "$dir/boot-delay")" -u 9
  [ ! -e "$dir/stop" ] || break
  cat /proc/sys/kernel/random/uuid > "$dir/boot_id"
  mkdir -p "$cgroups/$netns-$boots"
  rmdir "$cgroups/$netns-$((boots - 1))" 2>/dev/null
  uptime=$(cut -d. -f1 /proc/uptime)
  (
    echo $BASHPID > "$cgroups/$netns-$boots/cgroup.procs"
    exec 9<&-
    exec nsenter --net="/run/netns/$netns" unshare --mount --uts --ipc --cgroup --pid --time --boottime "-$uptime" \
      --fork --kill-child=KILL bash "$here/init.sh" "$dir" "$lower"
  ) >> "$dir/log" 2>&1
  # reboot(2) in a pid namespace ends its pid 1: by SIGHUP for a reboot, by SIGINT for halt and power off.
  case $? in
    129) echo "boot $boots: reboot" >> "$dir/log";;
    130) echo "boot $boots: power off" >> "$dir/log"; echo off > "$dir/power";;
    *) echo "boot $boots: power cut" >> "$dir/log"; read -rt 0.3 -u 9;;
  esac
done
