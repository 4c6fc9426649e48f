#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs the named scenarios, or all, one after the other. One that fails does not stop the next: one run shows all that is broken.
#
# A lab that shares two cores with other work can be late. With PIC_LAB_SECOND_TRY set, one scenario that failed runs once more, and
# the summary says so. What a capture saw is never a matter of time: such a scenario has failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

# Without the reset, molecule takes the cells of the scenario before for those of this one.
run() {
	molecule reset --scenario-name "$1" && molecule test --scenario-name "$1" --destroy=never
}

if [ $# -eq 0 ]; then
	for file in molecule/*/molecule.yml; do
		set -- "$@" "$(basename "$(dirname "$file")")"
	done
fi
second_try=${PIC_LAB_SECOND_TRY:-}
summary=()
failed=0
mkdir -p .build
for name; do
	log=.build/scenario-$name.log
	if run "$name" 2>&1 | tee "$log"; then
		summary+=("scenario $name: passed")
	elif [ -z "$second_try" ] || grep -q 'packets\.Sniffer' "$log"; then
		summary+=("scenario $name: FAILED")
		failed=1
	elif second_try='' && run "$name" 2>&1 | tee "$log.second"; then
		summary+=("scenario $name: FAILED, and passed when it ran again")
	else
		summary+=("scenario $name: FAILED, twice")
		failed=1
	fi
done
printf '%s\n' "--- scenarios" "${summary[@]}"
[ "$failed" -eq 0 ] && make --no-print-directory demo-down
exit "$failed"
