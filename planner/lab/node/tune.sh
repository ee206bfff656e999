#!/bin/bash
# Make a plain Debian tree the root of light lab nodes: few units, key login, stand-ins for what belongs to the kernel.
# usage: tune.sh ROOT FAMILY STAND_INS     FAMILY: apt | dnf; ROOT is a mounted overlay; nothing is fetched
set -euo pipefail
root=$1 family=$2 standins=$3
here=$(cd "$(dirname "$0")" && pwd)
units=$root/etc/systemd/system
for unit in getty@tty1.service console-getty.service getty.target systemd-pstore.service \
  apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
  systemd-udevd.service systemd-udev-trigger.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
  systemd-timesyncd.service systemd-resolved.service systemd-networkd.service systemd-update-utmp.service \
  systemd-update-utmp-runlevel.service systemd-sysctl.service systemd-modules-load.service kmod-static-nodes.service \
  sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount dev-mqueue.mount sys-fs-fuse-connections.mount cron.service \
  systemd-remount-fs.service systemd-random-seed.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount \
  dnf-makecache.timer tmp.mount; do
  ln -sf /dev/null "$units/$unit"
done
for unit in slurmctld slurmd munge; do rm -f "$units/multi-user.target.wants/$unit.service"; done
# logind comes through D-Bus when `shutdown -r` asks for it; it need not run before.
rm -f "$root/lib/systemd/system/multi-user.target.wants/systemd-logind.service"
ln -sfn /lib/systemd/system/multi-user.target "$units/default.target"
rm -f "$root"/etc/ssh/ssh_host_*
: > "$root/etc/machine-id"
mkdir -p "$root/etc/systemd/system.conf.d" "$root/etc/systemd/journald.conf.d" "$units/sysinit.target.wants" \
  "$root/etc/planner-lab/fault" "$root/usr/lib/planner-lab" "$root/etc/default"
printf '[Manager]\nDefaultTimeoutStopSec=10s\nShowStatus=no\n' > "$root/etc/systemd/system.conf.d/planner-lab.conf"
printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=4M\nReadKMsg=no\nAudit=no\nForwardToConsole=no\n' \
  > "$root/etc/systemd/journald.conf.d/planner-lab.conf"
printf '%s\n' 'PermitRootLogin prohibit-password' 'PasswordAuthentication no' 'UsePAM no' 'UseDNS no' \
  'MaxStartups 200:30:400' 'MaxSessions 50' > "$root/etc/ssh/sshd_config.d/planner-lab.conf"

install -m 755 "$here/kmod.sh" "$root/usr/lib/planner-lab/kmod"
install -m 755 "$here/package.sh" "$root/usr/lib/planner-lab/package"
install -m 644 "$standins/host.so" "$root/usr/lib/planner-lab/host.so"
for program in modprobe rmmod lsmod modinfo depmod insmod; do
  rm -f "$root/usr/sbin/$program" "$root/usr/bin/$program"
  ln -s /usr/lib/planner-lab/kmod "$root/usr/sbin/$program"
done
cat > "$units/planner-lab-boot.service" <<'UNIT'
[Unit]
Description=Planner lab: load the stand-in modules of the kernel that boots
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/planner-lab/kmod
[Install]
WantedBy=sysinit.target
UNIT
ln -sfn ../planner-lab-boot.service "$units/sysinit.target.wants/planner-lab-boot.service"

if [ "$family" = apt ]; then
  DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get -qq -y --autoremove purge rpm dnf rpm-common \
    -o Dpkg::Options::=--force-unsafe-io > /dev/null
  rm -rf "$root/var/lib/rpm" "$root/etc/dnf" "$root/etc/yum.repos.d"
  rm -f "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/*
  printf '%s\n' 'Acquire::Languages "none";' 'APT::Sandbox::User "root";' 'APT::Install-Recommends "false";' \
    > "$root/etc/apt/apt.conf.d/99planner-lab"
  echo 'deb [signed-by=/usr/share/keyrings/planner-lab.gpg] http://repo.planner-lab:8080/apt stable main' \
    > "$root/etc/apt/sources.list.d/planner-lab.list"
else
  # The packages of this userland are Debian's; the rpm database starts with one package that provides what
  # stand-ins need of a system. Debian's own database is put out of sight.
  mv "$root/var/lib/dpkg/status" "$root/usr/lib/planner-lab/debian-status"
  rm -f "$root"/var/lib/dpkg/status-old "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/*
  mkdir -p "$root/var/lib/rpm" "$root/etc/yum.repos.d" "$root/etc/dnf/vars" "$root/usr/lib64"
  echo 9 > "$root/etc/dnf/vars/releasever"
  echo /usr/lib64 > "$root/etc/ld.so.conf.d/planner-lab.conf"
  printf '%s\n' '[main]' '# Stand-in packages are not signed; the lab bridge is the only way to them.' 'gpgcheck=0' \
    'installonly_limit=3' 'clean_requirements_on_remove=False' 'best=True' > "$root/etc/dnf/dnf.conf"
  printf '%s\n' '[planner-lab]' 'name=Stand-in packages of the planner lab' 'baseurl=http://repo.planner-lab:8080/rpm' \
    'enabled=1' 'gpgcheck=0' 'metadata_expire=1' > "$root/etc/yum.repos.d/planner-lab.repo"
  chroot "$root" rpm --initdb
fi
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/usr/share/doc/* "$root"/usr/share/man/* \
  "$root"/var/log/*.log "$root"/var/log/apt
# Last: from here on every program started in the tree loads it.
echo /usr/lib/planner-lab/host.so > "$root/etc/ld.so.preload"
