#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs the named scenarios one after the other. One that fails does not stop the next: one run shows all that is broken.
# Without a name these are all, the longest first, but for two that unit tests show on fake hosts too: they are for make matrix (PIC_AT_LENGTH).
#
# PIC_LAB_UNTIL, in seconds since the epoch, is for machines that end a run after some time: what would not be over by then is not begun, and the
# summary says so. Until then a scenario that failed runs once more at the end, since a lab that shares two cores with other work can be late: all of it,
# or where the time does not allow that, its failed tests on cells made anew.
# What a capture saw is never a matter of time: such a scenario has failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

# Without the reset, molecule takes the cells of the scenario before for those of this one.
run() {
	molecule reset --scenario-name "$1" && molecule test --scenario-name "$1" --destroy=never
}

until=${PIC_LAB_UNTIL:-0}
declare -A verdict took minutes=([exit_relay]=20 [docs]=12 [peer_sync]=10 [restore]=8) # on two cores
has_time() {
	[ "$until" -eq 0 ] || [ $(($(date +%s) + $1)) -lt "$until" ]
}

if [ $# -eq 0 ]; then
	set -- exit_relay docs peer_sync restore default share absent neighbours unlink
	if [ -n "${PIC_AT_LENGTH:-}" ]; then
		set -- "$@" awx prediction
	fi
fi
mkdir -p .build
for name; do
	began=$SECONDS log=.build/scenario-$name.log
	if ! has_time $((60 * ${minutes[$name]:-6})); then
		verdict[$name]='not run, since no time is left'
	elif run "$name" 2>&1 | tee "$log"; then
		verdict[$name]=passed
	elif grep -q 'packets\.Sniffer' "$log"; then
		verdict[$name]='FAILED, and a capture saw a packet'
	else
		verdict[$name]=FAILED
	fi
	took[$name]=$((SECONDS - began))
done
for name; do
	# What has failed has nothing to lose: it may take some minutes more.
	if [ "$until" -gt 0 ] && [ "${verdict[$name]}" = FAILED ] && has_time 0; then
		again=--last-failed-no-failures=all part=', its failed tests alone'
		has_time "${took[$name]}" && part='' || again+=' --last-failed'
		PYTEST_ADDOPTS=$again run "$name" 2>&1 | tee ".build/scenario-$name.second.log" && verdict[$name]="passed when it ran again$part" || verdict[$name]='FAILED, twice'
	fi
done
echo "--- scenarios"
failed=0
for name; do
	echo "scenario $name: ${verdict[$name]} (${took[$name]} s)"
	[[ ${verdict[$name]} == FAILED* ]] && failed=1
done
[ "$failed" -eq 0 ] && make --no-print-directory demo-down
exit "$failed"
