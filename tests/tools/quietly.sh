#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs a command on what others leave of the processor. Niceness counts within a session alone (sched(7), autogroup), so the command gets its own.
set -uo pipefail

setsid bash -c 'echo 19 2>/dev/null >/proc/self/autogroup; exec nice -n 19 "$@"' quietly "$@" &
command=$!
trap 'kill -- -$command 2>/dev/null' EXIT
wait "$command"
