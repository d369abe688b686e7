# Where an engine has the machine to itself: mounts, processes and a network of its own. $1: a folder.
# Ends, and all in it, when its standard input does.
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t proc proc /proc
ip link set lo up
touch "$1/up"
# All that loses its parent is a child of this shell then, which takes it in while it waits: no exec of what comes last.
cat > /dev/null
exit 0
