#!/bin/sh
# A systemd of its own, as process 1 of its own namespaces, for a test of our unit. Nothing it does is seen outside: every file
# system of the machine is read-only there, what is written is memory of its own, and it knows no unit but those below.
# Usage: systemd-boot.sh CGROUP TREE NODE
set -eu
cgroup=$1 tree=$2 node=$3

if [ "${4:-}" = '' ]; then
  # Outside: a cgroup of our own in each hierarchy that systemd keeps, so that it takes no process but its own for its own.
  for hierarchy in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
    [ -e "$hierarchy/cgroup.procs" ] || continue
    mkdir -p "$hierarchy/$cgroup"
    echo $$ >"$hierarchy/$cgroup/cgroup.procs"
  done
  exec unshare --pid --fork --kill-child --mount --propagation private --uts --ipc --cgroup -- \
    "$0" "$cgroup" "$tree" "$node" inside
fi

# Memory first, over everything that anybody writes to.
for place in /tmp /var/tmp /var/lib /var/log /var/cache /dev/shm /opt /run; do
  [ ! -d "$place" ] || mount -t tmpfs -o mode=0755 tmpfs "$place"
done
chmod 1777 /tmp /var/tmp
mkdir -p /run/lock /run/etc/upper /run/etc/work /run/systemd/system /opt/walcast
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
mount --bind "$tree" /opt/walcast
[ "$node" -ef /usr/bin/node ] || mount --bind "$node" /usr/bin/node
mount -t proc proc /proc
umount -R /sys/fs/cgroup
mount -t tmpfs tmpfs /sys/fs/cgroup
if [ "$(grep -c name=systemd /proc/self/cgroup)" = 1 ]; then
  mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
  mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
  mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
else
  umount /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
# Then nothing else can be written.
mount --bind /proc/sys /proc/sys
awk '{ print $2 }' /proc/self/mounts | while read -r place; do
  case $place in
  /tmp | /var/* | /dev/shm | /run | /etc | /proc | /sys/fs/cgroup* | /dev/pts) ;;
  *) mount -o remount,bind,ro "$(printf "%b" "$place")" 2>/dev/null || [ "$place" != / ] ;;
  esac
done
! touch /walcast-test 2>/dev/null

for target in walcast-test sysinit basic shutdown network-online multi-user; do
  printf '[Unit]\nDefaultDependencies=no\n' >"/run/systemd/system/$target.target"
done
cp /opt/walcast/deploy/systemd/walcast.service /run/systemd/system/
systemd-sysusers /opt/walcast/deploy/systemd/walcast.sysusers
export container=walcast-test SYSTEMD_UNIT_PATH=/run/systemd/system
export SYSTEMD_GENERATOR_PATH=/nonexistent SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/nonexistent
exec ${WALCAST_TEST_INSTEAD:-/lib/systemd/systemd --system --unit=walcast-test.target --show-status=0}
