#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Holds a further lab (as root) with the names and addresses of the first one until the standard input ends: what enters its first process by nsenter
# finds networks, processes and what podman knows of containers apart. Images are the first lab's. PIC_LAB_STATE: the folder of this one.
set -euo pipefail

if [ "${1:-}" != inside ]; then
	exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" inside
fi

ip link set lo up
for folder in /run/containers /run/libpod /run/netns /etc/containers/networks /dev/shm; do
	mkdir -p "$folder"
	mount -t tmpfs tmpfs "$folder"
done
rm -rf "$PIC_LAB_STATE/podman"
mkdir -p "$PIC_LAB_STATE/podman"
cat >"$PIC_LAB_STATE/storage.conf" <<END
[storage]
driver = "overlay"
graphroot = "$PIC_LAB_STATE/podman"
runroot = "/run/containers/storage"
[storage.options]
additionalimagestores = ["/var/lib/containers/storage"]
END
echo held
cat
