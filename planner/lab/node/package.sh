#!/bin/sh
# What the stand-in packages' scripts do on a lab node. Outside a lab this file is missing, so they refuse to install.
#   dkms-build VERSION FLAVOUR FOLDER | dkms-remove VERSION FLAVOUR | kernel RELEASE | service UNIT yes|no |
#   service-gone UNIT [after] | libraries | toolkit DOTTED | toolkit-gone DOTTED
set -e
fault=/etc/planner-lab/fault
record=/var/lib/planner-lab/dkms

build() { # RELEASE VERSION FLAVOUR FOLDER
  if [ "$3" = open ]; then licence='Dual MIT/GPL'; else licence=NVIDIA; fi
  mkdir -p "/lib/modules/$1/$4"
  for module in nvidia nvidia_uvm; do
    printf 'planner lab stand-in, no module\nversion=%s\nflavour=%s\nlicense=%s\n' "$2" "$3" "$licence" \
      > "/lib/modules/$1/$4/$module.ko"
  done
}

case $1 in
  dkms-build)
    [ ! -e $fault/dkms-seconds ] || sleep "$(cat $fault/dkms-seconds)"
    if [ -e $fault/dkms-fail ]; then
      echo "Error! Bad return status for module build on kernel: $(uname -r) (x86_64)" >&2
      exit 10
    fi
    mkdir -p "$(dirname $record)"
    echo "$2 $3 $4" > $record
    for image in /boot/vmlinuz-*; do
      [ ! -e "$image" ] || build "${image#/boot/vmlinuz-}" "$2" "$3" "$4"
    done;;
  dkms-remove)    # another package may have built its own modules already; those stay
    for file in /lib/modules/*/updates/dkms/nvidia*.ko /lib/modules/*/extra/nvidia*.ko; do
      [ -e "$file" ] || continue
      if grep -qx "version=$2" "$file" && grep -qx "flavour=$3" "$file"; then rm -f "$file"; fi
    done
    case $(cat $record 2>/dev/null) in "$2 $3 "*) rm -f $record;; esac;;
  kernel)
    if [ -e $fault/kernel-post-fail ]; then
      echo "update-initramfs: failed for /boot/initrd.img-$2 with 1." >&2
      exit 1
    fi
    mkdir -p "/lib/modules/$2"
    if [ -e $record ]; then
      read -r version flavour folder < $record
      build "$2" "$version" "$flavour" "$folder"
    fi
    [ ! -d /run/systemd/system ] || echo '*** System restart required ***' > /run/reboot-required;;
  service)
    [ "$3" = no ] || systemctl enable "$2" >/dev/null 2>&1 || true
    if [ -d /run/systemd/system ]; then
      systemctl daemon-reload || true
      [ "$3" = no ] || systemctl restart "$2" || true
    fi;;
  service-gone)   # after a change of names the unit may be another package's already
    if [ "${3:-}" = after ] && [ -e "/usr/lib/systemd/system/$2" ]; then exit 0; fi
    if [ -d /run/systemd/system ]; then systemctl stop "$2" || true; fi
    systemctl disable "$2" >/dev/null 2>&1 || true;;
  libraries) ldconfig;;
  toolkit) update-alternatives --install /usr/local/cuda cuda "/usr/local/cuda-$2" "$(echo "$2" | tr -d .)";;
  toolkit-gone) update-alternatives --remove cuda "/usr/local/cuda-$2";;
  *) echo "planner-lab package: unknown word $1" >&2; exit 2;;
esac
