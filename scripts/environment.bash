# What demo, test and bench share: find or install what they need, in this clone alone.

unset PYTHONPATH PYTHONHOME # of another Python, as a cluster's modules set them
unset PYTHONDONTWRITEBYTECODE
umask 022 # some tests are other users for a while, who look at these files

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need_package COMMAND PACKAGE...: have COMMAND, installing Debian's PACKAGEs where that is allowed.
need_package() {
    local command=$1
    shift
    PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null && return
    install_packages "$@" || die "there is no $command here: install it (on Debian: apt install $*)"
}

install_packages() {
    ((EUID == 0)) && command -v apt-get >/dev/null || return
    say "installing $*"
    local no_services=/usr/sbin/policy-rc.d log
    log=$(mktemp)
    # A package that brings a service must not start it here.
    if [[ -e $no_services ]]; then
        no_services=
    else
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >$no_services
        chmod +x $no_services
    fi
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null
    local status=$?
    if [[ $no_services ]]; then
        rm -f $no_services
        trap - EXIT
    fi
    ((status)) && tail -n 5 "$log" >&2
    rm -f "$log"
    return "$status"
}

find_python() {
    local candidate
    for candidate in python3 python3.{14,13,12,11,10,9}; do
        "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' 2>/dev/null &&
            echo "$candidate" && return
    done
    return 1
}

# prepare EXTRA: a virtual environment in .venv with this package and its optional dependencies.
prepare() {
    local extra=$1 python stamp wanted
    cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
    need_package ssh openssh-client
    need_package sshd openssh-server
    python=$(find_python) || { install_packages python3 python3-venv && python=$(find_python); } ||
        die "there is no Python 3.9 or newer with venv here (on Debian: apt install python3-venv)"
    stamp=.venv/installed-$extra
    wanted=$(cat pyproject.toml && pwd)
    if [[ $(cat "$stamp" 2>/dev/null) != "$wanted" ]]; then
        say "preparing .venv with $("$python" --version) (JupyterLab and what else is needed: some minutes)"
        "$python" -m venv .venv || die "cannot make .venv"
        .venv/bin/python -m pip install -qq --disable-pip-version-check --config-settings editable_mode=compat -e ".[$extra]" ||
            die "pip could not install what is needed: its message stands above"
        echo "$wanted" >"$stamp"
    fi
    PATH=$PWD/.venv/bin:$PATH
}
