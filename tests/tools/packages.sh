#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Installs what is missing on this machine from Debian's packages; where that is not possible, says what is missing. With the argument --list it only
# prints the packages. With the argument benchmark it also looks for what make benchmark needs.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin:/usr/lib/podman:/usr/libexec/podman
missing=()

need() {
    command -v "$1" >/dev/null || missing+=("${2:-$1}")
}

need git
need shellcheck
need ssh openssh-client
need podman
need runc
need netavark
need iptables # netavark's firewall
need debootstrap
need zbarimg zbar-tools # reads the QR codes of devices
if [ "${1:-}" = benchmark ]; then
    need iperf3
    need conntrack
    need wg wireguard-tools
    [ -e /sys/module/wireguard ] || modprobe --quiet wireguard || need wireguard-go
fi
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring) # not on other systems with apt
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

if [ "${1:-}" = --list ]; then
    echo "${missing[*]}"
    exit
fi
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "Missing on this machine: ${missing[*]} (names of Debian packages). Install them as root, then run this again." >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "The tools need Python 3.11 or newer, and python3 is $(python3 --version). The cells themselves need only 3.9." >&2
    exit 1
fi
