# systemd as the first process of namespaces of its own, with cgroups below its own. $1: a folder for it, with its units;
# $2: its program. $3: its cgroup. $4: unshare of util-linux.
set -e
folder=$1 systemd=$2 group=$3 unshare=$4
for top in /sys/fs/cgroup /sys/fs/cgroup/*/; do
  [ -e "$top/cgroup.procs" ] || continue
  # A v2 tree hands its controllers down; a v1 cpuset is empty, and takes nobody in.
  [ ! -e "$top/cgroup.controllers" ] || for controller in $(cat "$top/cgroup.controllers"); do
    echo "+$controller" > "$top/cgroup.subtree_control" || true
  done
  mkdir -p "$top/$group"
  for file in cpuset.cpus cpuset.mems; do
    [ -e "$top/cgroup.controllers" ] || [ ! -e "$top/$file" ] || cat "$top/$file" > "$top/$group/$file"
  done
  echo $$ > "$top/$group/cgroup.procs"
  # Of one tree alone the folders below are others' cgroups.
  [ "$top" != /sys/fs/cgroup ] || break
done
export folder systemd
exec "$unshare" --mount --pid --cgroup --ipc --uts --fork --kill-child sh -c '
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t proc proc /proc
# What it has to say goes to the log, and not between what the tests say.
[ ! -e /dev/console ] || mount --bind "$folder/log" /dev/console
mkdir /run/cgroup
if [ -e /sys/fs/cgroup/cgroup.procs ]; then
  mount -t cgroup2 cgroup2 /run/cgroup
else
  mount -t tmpfs tmpfs /run/cgroup
  for top in /sys/fs/cgroup/*/; do
    name=$(basename "$top")
    mkdir "/run/cgroup/$name"
    case $name in
      unified) mount -t cgroup2 cgroup2 "/run/cgroup/$name" ;;
      systemd) mount -t cgroup -o none,name=systemd cgroup "/run/cgroup/$name" ;;
      *) mount -t cgroup -o "$name" cgroup "/run/cgroup/$name" ;;
    esac
  done
fi
# Nobody else may be in the top of a tree whose controllers are handed down: whoever started this leaves it now.
while [ ! -e "$folder/go" ]; do sleep 0.1; done
mount --rbind /run/cgroup /sys/fs/cgroup
export container=coracle SYSTEMD_UNIT_PATH="$folder/units:/run/systemd/system.control:/run/systemd/transient"
exec "$systemd" --system --unit=coracle.target --show-status=no --log-target=console
'
