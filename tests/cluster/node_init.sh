#!/bin/sh
# The first process of a node. Runs in the node's own mount, pid, network, uts and ipc
# namespaces, makes the mounts that turn the shared machine into this node, tells its
# process number as the machine sees it, and then only reaps.
# Usage: node_init.sh NODE_DIRECTORY HOSTNAME
# Never starts a service: that is done from outside, so that it can be repeated.
set -eu
directory=$1
hostname "$2"

# Read from the machine's own /proc, which still knows this process by its outer number.
read -r outer_pid _ </proc/self/stat

mount --make-rprivate /
mount -t proc proc /proc
mount --bind "$directory/boot_id" /proc/sys/kernel/random/boot_id
mkdir -p /var/lib/docker
# The whole folder: a file that the machine replaces (useradd renames /etc/passwd) takes
# whatever is mounted on it along.
mount --bind "$directory/etc" /etc
mount --bind "$directory/docker" /var/lib/docker
mount --bind "$directory/log" /var/log
mount --bind "$directory/run" /run
# Where /var/run is no link to /run, Docker's socket must be found there all the same.
[ /var/run -ef /run ] || mount --bind "$directory/run" /var/run
# Docker asks for shared mounts; the peers are this node's alone.
mount --make-rshared /

echo "$outer_pid" >"$directory/init_pid.new"
mv "$directory/init_pid.new" "$directory/init_pid"
# With SIGCHLD ignored, which `exec` keeps, the kernel reaps whatever ends up here.
exec env --ignore-signal=CHLD sleep infinity
