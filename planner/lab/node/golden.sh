#!/bin/bash
# Bring a node's first state into a layer: kernel, packages, links. Called by layer.sh with $ROOT.
# usage: golden.sh FAMILY KERNEL REPOSITORY_ADDRESS PACKAGE... -- LINK=TARGET...
set -euo pipefail
family=$1 kernel=$2 address=$3
shift 3
packages=() links=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do packages+=("$1"); shift; done
[ $# -eq 0 ] || { shift; links=("$@"); }
inside() { DEBIAN_FRONTEND=noninteractive chroot "$ROOT" "$@"; }

if [ -n "$kernel" ] && [ ! -e "$ROOT/boot/vmlinuz-$kernel" ]; then
  echo "planner lab stand-in, no kernel" > "$ROOT/boot/vmlinuz-$kernel"
  mkdir -p "$ROOT/lib/modules/$kernel"
fi
cp "$ROOT/etc/hosts" "$ROOT/run/hosts-before" 2>/dev/null || : > "$ROOT/run/hosts-before"
printf '127.0.0.1 localhost\n%s repo.planner-lab\n' "$address" > "$ROOT/etc/hosts"
echo "${kernel:-none}" > "$ROOT/run/kernel"
mkdir -p "$ROOT/run/planner-lab"
[ -z "$kernel" ] || echo "$kernel" > "$ROOT/run/planner-lab/kernel-release"
if [ "$family" = apt ]; then
  inside apt-get -qq update
  [ ${#packages[@]} -eq 0 ] || inside apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io \
    --no-install-recommends install "${packages[@]}"
  rm -rf "$ROOT"/var/cache/apt/archives/*.deb "$ROOT"/var/cache/apt/*.bin "$ROOT"/var/log/apt "$ROOT"/var/log/dpkg.log
else
  inside dnf -q -y --setopt=keepcache=0 --setopt=install_weak_deps=False install planner-lab-userland "${packages[@]}"
  rm -rf "$ROOT"/var/log/dnf* "$ROOT"/var/log/hawkey.log
fi
for pair in "${links[@]}"; do
  link=${pair%%=*} target=${pair#*=}
  case $(readlink "$ROOT$link" 2>/dev/null) in
    /etc/alternatives/*) inside update-alternatives --set "$(basename "$(readlink "$ROOT$link")")" "$target";;
    *) mkdir -p "$(dirname "$ROOT$link")"; ln -sfn "$target" "$ROOT$link";;
  esac
done
cp "$ROOT/run/hosts-before" "$ROOT/etc/hosts"
