#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs the named scenarios one after the other. One that fails does not stop the next: one run shows all that is broken.
# Without a name these are all, but for two that unit tests show on fake hosts too: they are for make matrix, and for whoever changes what they are about.
#
# A lab that shares two cores with other work can be late. With PIC_LAB_SECOND_TRY set, to seconds for all of it, a scenario that failed runs
# once more at the end if that fits in, and the summary says so. What a capture saw is never a matter of time: such a scenario has failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

# Without the reset, molecule takes the cells of the scenario before for those of this one.
run() {
	molecule reset --scenario-name "$1" && molecule test --scenario-name "$1" --destroy=never
}

at_length=' awx prediction '
if [ $# -eq 0 ]; then
	for file in molecule/*/molecule.yml; do
		name=$(basename "$(dirname "$file")")
		if [ -n "${PIC_AT_LENGTH:-}" ] || [[ $at_length != *" $name "* ]]; then
			set -- "$@" "$name"
		fi
	done
fi
limit=${PIC_LAB_SECOND_TRY:-0}
declare -A verdict took
mkdir -p .build
for name; do
	began=$SECONDS log=.build/scenario-$name.log
	if run "$name" 2>&1 | tee "$log"; then
		verdict[$name]=passed
	elif grep -q 'packets\.Sniffer' "$log"; then
		verdict[$name]='FAILED, and a capture saw a packet'
	else
		verdict[$name]=FAILED
	fi
	took[$name]=$((SECONDS - began))
done
for name; do
	if [ "${verdict[$name]}" = FAILED ] && [ $((SECONDS + took[$name])) -lt "$limit" ]; then
		run "$name" 2>&1 | tee ".build/scenario-$name.second.log" && verdict[$name]='passed when it ran again' || verdict[$name]='FAILED, twice'
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
