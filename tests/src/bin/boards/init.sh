#!/bin/sh
# The first process of a virtual board: sets it up, runs the tests, tells their exit codes, powers off.
PATH=/bin
export PATH

. /board/settings
load_modules() {
  for module in /board/modules/*.ko; do
    insmod "$module" || echo "CORACLE-BOARD no module $module"
  done
}

if [ "$1" != board ]; then
  /bin/busybox --install -s /bin
  mkdir /new
  if [ "$root" = disk ]; then
    # Debian, with what the archive has beside it, and the libraries of programs that were built on another Debian.
    mount -t devtmpfs dev /dev
    load_modules
    mount -t ext4 /dev/vda /new
    umount -l /dev
    mkdir -p /new/board /new/quota /new/kept /new/suite
    mount -t tmpfs board /new/board
    cp -a /board/. /new/board/
    cp /bin/busybox /new/board/
    cp /init /new/init
    for folder in /lib /lib64; do
      [ ! -d $folder ] || cp -a $folder/. /new$folder/
    done
  else
    # pivot_root(2) refuses the kernel's own first file system: go on in a tmpfs.
    mount -t tmpfs -o mode=755 board /new
    for entry in /*; do
      [ "$entry" = /new ] || cp -a "$entry" /new/
    done
  fi
  exec switch_root /new /init board
fi

[ "$root" != disk ] || PATH=/usr/sbin:/usr/bin:/sbin:/bin:/board/applets
mount -t proc proc /proc
if [ "$root" = disk ]; then
  mkdir /board/applets
  /board/busybox --install -s /board/applets
  mount -t tmpfs -o mode=755 run /run
fi
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
# What tests make there is a part of images: on a disk it can belong to others than it shows.
[ "$root" = disk ] || mount -t tmpfs -o mode=1777 tmp /tmp
exec </dev/null >/dev/console 2>&1
# Of the kernel's messages the errors; an OOM kill is none.
echo 4 > /proc/sys/kernel/printk

[ "$root" = disk ] || load_modules

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
  v2)
    one_tree /sys/fs/cgroup
    if [ "$root" = disk ]; then
      # As on a machine with systemd nobody is at the top, where dockerd finds no limit of swap and asks for none.
      for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control
      done
      mkdir /sys/fs/cgroup/init
      echo $$ > /sys/fs/cgroup/init/cgroup.procs
    fi
    ;;
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
elif [ "$root" != disk ] && [ -b /dev/vda ]; then
  export CORACLE_SLOW_DISK=/dev/vda
fi
[ ! -b /dev/vdb ] || mount -t ext4 /dev/vdb /suite

# Whoever asks for a backtrace gets the whole log full of them: the assertion says enough.
export RUST_BACKTRACE=0
export CORACLE_TESTS_WITHOUT="$without"
export CORACLE_LINKS="$links"
# This machine is nobody else's: a test may take all of its memory.
export CORACLE_VIRTUAL=yes
export CORACLE_RUNTIME=/board/bin/coracle-runtime
export CORACLE_SUPERVISOR=/board/bin/coracle-supervisor
# Debian's engines look there whether to confine by AppArmor.
[ ! -f /board/apparmor ] && [ "$root" != disk ] || mount -t securityfs securityfs /sys/kernel/security
if [ -f /board/apparmor ]; then
  cat /board/apparmor > /sys/kernel/security/apparmor/.replace
  export CORACLE_APPARMOR=coracle-test
fi
if [ -x /board/bin/criu ]; then
  # tar and gzip are CRIU's: busybox has not all of their options.
  export CORACLE_CRIU=/board/bin/criu CORACLE_CRIU_WORKS=yes PATH=/board/bin:/bin
elif [ -x /usr/sbin/criu ]; then
  export CORACLE_CRIU=/usr/sbin/criu CORACLE_CRIU_WORKS=yes
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
[ ! -b /dev/vdb ] || umount /suite
poweroff -f
