#!/usr/bin/env bash
# One host of the test cluster: a process in namespaces of its own, with a file system of its own.
#   host.bash jlab-cluster:NAME LOWER HOMES [NAMESPACE...]   returns at once; hosts/NAME/pid: it is up
# The first argument is also what `down` finds the host's processes by, whatever became of their parents.
set -e
self=$(realpath "$0")
cd "/run/jlab-cluster/hosts/${1#jlab-cluster:}"

outside() {
    local mark=$1 lower=$2 homes=$3 group
    shift 3
    for group in /sys/fs/cgroup/{.,*}/jlab-cluster/"${mark#*:}"/cgroup.procs; do
        [[ ! -e $group ]] || echo $BASHPID >"$group"
    done
    exec unshare "$@" --fork --kill-child bash "$self" "$mark" "$lower" "$homes" inside
}

inside() {
    local name=${1#*:} mounted device pid
    hostname "$name"
    mount -t overlay "$name" -o "lowerdir=$2,upperdir=upper,workdir=work" root
    for mounted in tmp run root dev; do
        [[ $name == image && $mounted == root ]] || mount -t tmpfs "$name" "root/$mounted"
    done
    chmod 1777 root/tmp
    chmod 700 root/root
    mkdir -p root/dev/{pts,shm} root/run/{lock,sshd} root/opt/{jlab,jlab-remote}
    for device in null zero full random urandom tty; do
        touch "root/dev/$device"
        mount --bind "/dev/$device" "root/dev/$device"
    done
    ln -s /proc/self/fd root/dev/fd
    ln -s fd/0 root/dev/stdin
    ln -s fd/1 root/dev/stdout
    ln -s fd/2 root/dev/stderr
    ln -s pts/ptmx root/dev/ptmx
    mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts root/dev/pts
    mount -t tmpfs -o mode=1777 shm root/dev/shm
    mount -t sysfs sysfs root/sys
    mount_cgroups "$name"
    mount --bind "$3" root/home
    mount --bind ../../opt/jlab root/opt/jlab
    mount --bind ../../opt/jlab-remote root/opt/jlab-remote
    [[ $name == image ]] || mount -o remount,bind,ro root/opt/jlab-remote
    read -r pid _ </proc/self/stat # seen from outside: this /proc is still the machine's
    mount -t proc proc root/proc
    echo "$pid" >pid.new
    mv pid.new pid
    # PID 1: bash, because it reaps what its host's other processes leave behind.
    exec chroot root /bin/bash -c 'while :; do sleep infinity & wait; done' "$1"
}

# Each host has the machine's cgroup trees, from its own directory in them downwards.
mount_cgroups() {
    local tree
    if [[ -d /sys/fs/cgroup/jlab-cluster ]]; then
        mount --bind "/sys/fs/cgroup/jlab-cluster/$1" root/sys/fs/cgroup
        return
    fi
    [[ ! -d root/sys/fs/cgroup ]] || mount -t tmpfs -o mode=755 cgroup root/sys/fs/cgroup
    for tree in /sys/fs/cgroup/*; do
        if [[ -L $tree ]]; then
            cp -P "$tree" root/sys/fs/cgroup/
        elif [[ -d $tree/jlab-cluster/$1 ]]; then
            mkdir "root$tree"
            mount --bind "$tree/jlab-cluster/$1" "root$tree"
        fi
    done
}

if [[ $4 == inside ]]; then inside "$@"; else outside "$@" & fi
