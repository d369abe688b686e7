#!/bin/sh
# The first process of a virtual board: sets it up, runs the tests, tells their exit codes, powers off.
PATH=/bin
export PATH

if [ "$1" != board ]; then
  # pivot_root(2) refuses the kernel's own first file system: go on in a tmpfs.
  /bin/busybox --install -s /bin
  mkdir /new
  mount -t tmpfs -o mode=755 board /new
  for entry in /*; do
    [ "$entry" = /new ] || cp -a "$entry" /new/
  done
  exec switch_root /new /init board
fi

. /board/settings
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=1777 tmp /tmp
exec </dev/null >/dev/console 2>&1
# Of the kernel's messages the errors; an OOM kill is none.
echo 4 > /proc/sys/kernel/printk

for module in /board/modules/*.ko; do
  insmod "$module" || echo "CORACLE-BOARD no module $module"
done

one_tree() {
  mkdir -p "$1"
  mount -t cgroup2 cgroup2 "$1"
}
hierarchies() {
  mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
  for controllers in cpu,cpuacct cpuset memory blkio devices freezer pids; do
    mkdir "/sys/fs/cgroup/$controllers"
    mount -t cgroup -o "$controllers" cgroup "/sys/fs/cgroup/$controllers"
  done
  # Not every kernel has these for v1.
  for controllers in hugetlb net_cls,net_prio; do
    mkdir "/sys/fs/cgroup/$controllers"
    mount -t cgroup -o "$controllers" cgroup "/sys/fs/cgroup/$controllers" 2>/dev/null \
      || rmdir "/sys/fs/cgroup/$controllers"
  done
}
case $layout in
  v2) one_tree /sys/fs/cgroup ;;
  v1) hierarchies ;;
  hybrid) hierarchies; one_tree /sys/fs/cgroup/unified ;;
esac

ifconfig lo 127.0.0.1 up
echo 64M > /sys/block/zram0/disksize
mkswap /dev/zram0 > /dev/null && swapon /dev/zram0

# A file system with project quotas, in force.
zcat /board/quota.gz > /quota.disk
mount -t "$quota" -o loop,prjquota /quota.disk /quota || echo "CORACLE-BOARD no project quotas"

# A disk that outlives resets, and whether the watchdog made the last one (WDIOF_CARDRESET); or one that is slow.
if [ "$resets" != 0 ]; then
  mount -t ext4 /dev/vda /kept || echo "CORACLE-BOARD no disk that is kept"
  [ "$(cat /sys/class/watchdog/watchdog0/bootstatus)" = 32 ] && echo "CORACLE-BOARD reset by its watchdog"
elif [ -b /dev/vda ]; then
  export CORACLE_SLOW_DISK=/dev/vda
fi

# Whoever asks for a backtrace gets the whole log full of them: the assertion says enough.
export RUST_BACKTRACE=0
export CORACLE_TESTS_WITHOUT="$without"
export CORACLE_LINKS="$links"
# This machine is nobody else's: a test may take all of its memory.
export CORACLE_VIRTUAL=yes
export CORACLE_RUNTIME=/board/bin/coracle-runtime
export CORACLE_SUPERVISOR=/board/bin/coracle-supervisor
if [ -f /board/apparmor ]; then
  mount -t securityfs securityfs /sys/kernel/security
  cat /board/apparmor > /sys/kernel/security/apparmor/.replace
  export CORACLE_APPARMOR=coracle-test
fi
if [ -x /board/bin/criu ]; then
  # tar and gzip are CRIU's: busybox has not all of their options.
  export CORACLE_CRIU=/board/bin/criu CORACLE_CRIU_WORKS=yes PATH=/board/bin:/bin
fi
ends=
for test in /board/tests/*; do
  # A program's own name asks for all of its tests.
  if [ "${test##*/}" = "$only" ]; then
    "$test"
  else
    "$test" $only
  fi
  end="CORACLE-BOARD exit ${test##*/} $?"
  echo "$end"
  ends="$ends$end
"
done
# Once more: what a serial console was still sending is lost when somebody ends who had it as a terminal.
sleep 1
echo
echo "$ends"
echo "CORACLE-BOARD done"
poweroff -f
