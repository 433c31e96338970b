# Shell functions that ./test and ./demo share: read with `.`, from the checkout's top.
# They install what is missing and make .venv. They never start or enable a service.
# The caller sets NAME, the word that its messages begin with.

say() { printf '%s: %s\n' "$NAME" "$*"; }

fail() {
    printf '%s: %s\n' "$NAME" "$*" >&2
    exit 1
}

PATH="$PATH:/usr/sbin:/sbin"
export PATH
PYTHON=""
POLICY=/usr/sbin/policy-rc.d
POLICY_IS_OURS=""
INSTALL_LOG=""

# The units of packages that may come in, one "package unit..." a line.
units_of_packages() {
    cat <<'UNITS'
docker.io docker.service docker.socket
containerd containerd.service
openssh-server ssh.service ssh.socket
docker-registry docker-registry.service
postgresql-common postgresql.service
UNITS
}

is_package_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null | cut -c1-2)" = ii ]
}

remember_absent_packages() {
    ABSENT=""
    while read -r package _; do
        is_package_installed "$package" || ABSENT="$ABSENT $package"
    done <<LIST
$(units_of_packages)
LIST
}

# Debian enables what it installs; a machine-wide dockerd or sshd was not asked for.
# Only packages that came in just now: an sshd that was here before stays as it is.
disable_new_units() {
    command -v systemctl >/dev/null 2>&1 || return 0
    units_of_packages | while read -r package units; do
        case " $ABSENT " in *" $package "*) ;; *) continue ;; esac
        is_package_installed "$package" || continue
        for unit in $units; do
            systemctl disable --quiet "$unit" >/dev/null 2>&1 || true
        done
    done
}

hold_services() {
    [ -e "$POLICY" ] && return 0
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
    POLICY_IS_OURS=yes
}

release_services() {
    [ -z "$POLICY_IS_OURS" ] || rm -f "$POLICY"
    POLICY_IS_OURS=""
}

# install_packages PACKAGE...: as root, with Debian's or Ubuntu's own tool.
install_packages() {
    [ "$(id -u)" = 0 ] ||
        fail "missing Debian packages: $*; run \`apt-get install $*\` as root first"
    command -v apt-get >/dev/null 2>&1 ||
        fail "missing: $* (Debian's names), and there is no apt-get here; install" \
            "them with this system's own tool"
    say "installing $*"
    INSTALL_LOG=$(mktemp)
    hold_services
    if ! DEBIAN_FRONTEND=noninteractive apt-get update >"$INSTALL_LOG" 2>&1 ||
        ! DEBIAN_FRONTEND=noninteractive apt-get install -y \
            --no-install-recommends "$@" >>"$INSTALL_LOG" 2>&1; then
        release_services
        fail "apt-get could not install $* (its last words:" \
            "$(tail -n 1 "$INSTALL_LOG")); the full log is $INSTALL_LOG"
    fi
    release_services
    rm -f "$INSTALL_LOG"
}

# need_tools COMMAND...: programs whose packages have their names.
need_tools() {
    missing=""
    for tool in "$@"; do
        command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
    done
    # shellcheck disable=SC2086  # one word per package
    [ -z "$missing" ] || install_packages $missing
}

is_python_fit() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
        >/dev/null 2>&1
}

find_python() {
    for candidate in python3 python3.11 python3.12 python3.13; do
        if is_python_fit "$candidate"; then
            PYTHON=$candidate
            return 0
        fi
    done
    return 1
}

need_python() {
    find_python && return 0
    [ "$(id -u)" = 0 ] ||
        fail "needs Python 3.11 or newer with its venv module; install the packages" \
            "python3 and python3-venv as root first"
    install_packages python3 python3-venv
    find_python && return 0
    install_packages python3.11 python3.11-venv
    find_python ||
        fail "needs Python 3.11 or newer with its venv module, and this system's" \
            "packages bring none; put a python3.11 on PATH and run this again"
}

# make_environment EXTRAS: .venv with this checkout in it, made again when
# pyproject.toml or the wish has changed.
make_environment() {
    [ -f pyproject.toml ] || fail "no pyproject.toml here; run it from a full checkout"
    wish="$1 $(cksum <pyproject.toml)"
    if [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null &&
        [ "$(cat .venv/installed 2>/dev/null)" = "$wish" ]; then
        return 0
    fi
    need_python
    say "making .venv with $("$PYTHON" --version 2>&1) (about a minute)"
    rm -rf .venv
    "$PYTHON" -m venv .venv || fail "$PYTHON -m venv .venv failed; see above"
    if ! .venv/bin/python -m pip install --quiet --editable ".[$1]" \
        >.venv/install.log 2>&1; then
        tail -n 5 .venv/install.log >&2
        fail "pip could not install the project (full log: .venv/install.log)"
    fi
    printf '%s' "$wish" >.venv/installed
}

# What the test cluster needs; $1 says what for.
need_cluster() {
    if [ "$(uname -s)" != Linux ] || [ "$(id -u)" != 0 ]; then
        fail "$1 needs root on Linux, for network namespaces, dockerd and sshd of its" \
            "own; $2"
    fi
    if ! is_dpkg_here; then
        sh tests/cluster/requirements.sh || exit 1
        return 0
    fi
    remember_absent_packages
    sh tests/cluster/requirements.sh || exit 1
    disable_new_units
}

is_dpkg_here() { command -v dpkg-query >/dev/null 2>&1; }

# The server's own binaries; a server of the tests' own is started from them.
need_postgresql() {
    for binary in /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb; do
        [ -x "$binary" ] && return 0
    done
    command -v initdb >/dev/null 2>&1 && return 0
    remember_absent_packages
    install_packages postgresql
    disable_new_units
}

release_on_exit() {
    trap release_services EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}
