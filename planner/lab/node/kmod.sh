#!/bin/sh
# Stand-in for kmod's programs: this machine's kernel takes no modules. What is loaded is a table under /run, lost at a
# reboot as a real one is. A module file is text with version=, flavour= and license= lines.
loaded=/run/planner-lab/mod
fault=/etc/planner-lab/fault
mkdir -p "$loaded"

module_file() { # RELEASE NAME: where dkms puts it on Debian's side and on Red Hat's
  for folder in updates/dkms extra; do
    [ -e "/lib/modules/$1/$folder/$2.ko" ] && { echo "/lib/modules/$1/$folder/$2.ko"; return; }
  done
}

value() { sed -n "s/^$2=//p" "$1"; }

show() { # NAME FILE: what a loaded module shows in /sys and /proc
  version=$(value "$2" version)
  mkdir -p "/sys/module/$1"
  echo "$version" > "/sys/module/$1/version"
  [ "$1" = nvidia ] || return 0
  mkdir -p /proc/driver/nvidia
  if [ "$(value "$2" flavour)" = open ]; then kind='UNIX Open Kernel Module for x86_64'; else kind='UNIX x86_64 Kernel Module'; fi
  printf 'NVRM version: NVIDIA %s  %s  Release Build  (planner lab stand-in)\nGCC version:  none (planner lab stand-in)\n' \
    "$kind" "$version" > /proc/driver/nvidia/version
}

load() {
  [ -e "$loaded/$1" ] && return 0
  file=$(module_file "$(uname -r)" "$1")
  if [ -z "$file" ]; then
    echo "modprobe: FATAL: Module $1 not found in directory /lib/modules/$(uname -r)" >&2
    return 1
  fi
  if [ -e "$fault/modprobe-fail" ]; then
    echo "modprobe: ERROR: could not insert '$1': Key was rejected by service" >&2
    return 1
  fi
  [ "$1" = nvidia ] || load nvidia || return 1
  value "$file" version > "$loaded/$1"
  show "$1" "$file"
}

users() { # NAME: who keeps it from being unloaded
  [ -e "$fault/module-busy" ] && echo a-process
  if [ "$1" = nvidia ]; then
    for other in "$loaded"/nvidia_*; do [ -e "$other" ] && basename "$other"; done
    [ -e /run/planner-lab/fabric ] && echo nv-fabricmanager
  fi
  return 0
}

unload() {
  if [ ! -e "$loaded/$1" ]; then
    echo "rmmod: ERROR: Module $1 is not currently loaded" >&2
    return 1
  fi
  if [ -n "$(users "$1")" ]; then
    echo "rmmod: ERROR: Module $1 is in use by: $(users "$1" | tr '\n' ' ')" >&2
    return 1
  fi
  rm -rf "$loaded/$1" "/sys/module/$1"
  [ "$1" != nvidia ] || rm -rf /proc/driver/nvidia
}

list() {
  echo "Module                  Size  Used by"
  for entry in "$loaded"/*; do
    [ -e "$entry" ] || continue
    name=$(basename "$entry")
    printf '%-20s 9900032  %s %s\n' "$name" "$(users "$name" | wc -l)" "$(users "$name" | grep ^nvidia_ | paste -sd, -)"
  done
}

still() { # driver VERSION | kernel RELEASE: what an upgrade without a reboot leaves - other packages, and what ran before
  if [ "$1" = kernel ]; then
    echo "$2" > /run/planner-lab/kernel-release
    return
  fi
  old=$(cat "$loaded/nvidia")
  for entry in "$loaded"/*; do
    echo "$2" > "$entry"
    echo "$2" > "/sys/module/$(basename "$entry")/version"
  done
  told=$(sed "s/ $old / $2 /" /proc/driver/nvidia/version)
  echo "$told" > /proc/driver/nvidia/version
}

info() {
  release=$(uname -r) field='' name=''
  while [ $# -gt 0 ]; do
    case $1 in
      -k) release=$2; shift;;
      -F) field=$2; shift;;
      -*) ;;
      *) name=$1;;
    esac
    shift
  done
  file=$(module_file "$release" "$name")
  if [ -z "$file" ]; then
    echo "modinfo: ERROR: Module $name not found." >&2
    return 1
  fi
  case $field in
    '') printf 'filename:       %s\n' "$file"; sed -n 's/^\([a-z]*\)=\(.*\)/\1:        \2/p' "$file"
        printf 'vermagic:       %s SMP mod_unload\n' "$release";;
    filename) echo "$file";;
    *) value "$file" "$field";;
  esac
}

case $(basename "$0") in
  modprobe)
    act=load name=''
    for word; do
      case $word in -r|--remove) act=unload;; -*) ;; *) name=$(echo "$word" | tr - _);; esac
    done
    if [ "$act" = unload ] && [ ! -e "$loaded/$name" ]; then exit 0; fi
    $act "$name";;
  rmmod) unload "$(echo "$1" | tr - _)";;
  lsmod) list;;
  modinfo) info "$@";;
  depmod|insmod) exit 0;;
  kmod)   # at boot: what udev and modules-load.d would do
    [ "${1:-}" != still ] || { still "$2" "$3"; exit; }
    [ -z "$(module_file "$(uname -r)" nvidia)" ] || { load nvidia && load nvidia_uvm; }
    exit 0;;
esac
