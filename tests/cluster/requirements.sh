#!/bin/sh
# Installs the Debian packages that the test cluster needs and that are missing.
# Never starts a service: an unwanted machine-wide dockerd or sshd would be left running.
set -u

missing=""
need() { # need COMMAND PACKAGE...
    command=$1
    shift
    PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null 2>&1 ||
        missing="$missing $*"
}
need dockerd docker.io
need containerd containerd
need runc runc
need sshd openssh-server
need ssh openssh-client
need ip iproute2
need iptables iptables
need nsenter util-linux
need docker-registry docker-registry
need gcc gcc libc6-dev
busybox=$(command -v busybox || true)
# A dynamically linked busybox cannot run in an image that holds nothing else.
if [ -z "$busybox" ] || ldd "$busybox" >/dev/null 2>&1; then
    missing="$missing busybox-static"
fi
[ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"

[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "tests/cluster: missing Debian packages:$missing; run" \
        "\`apt-get install$missing\` as root, or this script as root." >&2
    exit 1
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "tests/cluster: missing:$missing, and there is no apt-get here; install" \
        "the packages of these Debian names with this system's own tool." >&2
    exit 1
fi

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
log=$(mktemp)
status=0
# shellcheck disable=SC2086  # one word per package
{
    export DEBIAN_FRONTEND=noninteractive
    apt-get update && apt-get install -y --no-install-recommends $missing
} >"$log" 2>&1 || status=1
if [ "$status" != 0 ]; then
    echo "tests/cluster: apt-get could not install$missing (its last words:" \
        "$(tail -n 1 "$log")); install them by hand, the full log is $log." >&2
    exit 1
fi
rm -f "$log"
echo "tests/cluster: installed$missing"
