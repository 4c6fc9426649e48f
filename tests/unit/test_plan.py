# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan: what it says of the difference, and how its steps are carried out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base import command, errors
from ansible_collections.pic.cells.plugins.module_utils.kernel import plan as plans
from ansible_collections.pic.cells.tests.unit.fake.machine import Machine, Refused, Tool


class Recorder(Machine):
    """A host whose one tool fails as often as it is told to. calls: what it was given."""

    def __init__(self, root: Path, fails: int = 0) -> None:
        super().__init__(str(root))
        self.calls: list[tuple[str, ...]] = []
        self.left = fails

    def _tool(self, name: str) -> Tool | None:
        def act(argv: list[str], stdin: str) -> str:
            self.calls.append((*argv, stdin))
            if self.left:
                self.left -= 1
                raise Refused(4, "busy")
            return "answer"

        return act if name == "tool" else None


RUN = plans.Run(("tool", "one"), "text\n")


def plan(before: str = "", after: str = "", steps: bool = True) -> plans.Plan:
    """Return a plan that says these words, a line each."""
    found = plans.Plan([RUN] if steps else [])
    found.describe(before.split(), after.split())
    return found


# What it says


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        pytest.param("", "b a", ["missing: a", "missing: b"], id="missing"),
        pytest.param("b a", "", ["surplus: a", "surplus: b"], id="surplus"),
        pytest.param("a b", "b c", ["missing: c", "surplus: a"], id="both"),
        pytest.param("a a", "a", ["surplus: a"], id="one of two"),
        pytest.param("a b c", "b a c", ["misplaced: b", "misplaced: a"], id="in another order"),
        pytest.param("a", "a", ["unfinished: what an earlier run had left undone"], id="the same"),
        pytest.param("", "", ["unfinished: what an earlier run had left undone"], id="nothing said"),
    ],
)
def test_the_difference_is_told(before: str, after: str, lines: list[str]) -> None:
    assert plan(before, after).differences() == lines
    assert plan(before, after, steps=False).differences() == [], "without a step nothing differs"


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        pytest.param("", "c1 c2 c3", ["missing: c1", "missing: c2", "missing: c3"], id="few"),
        pytest.param("", "c4 c3 c2 c1", ["missing: PIC-X (4 rules)"], id="many"),
        pytest.param("c1 c2 c3 c4", "c5 c1", ["missing: c5", "surplus: c2", "surplus: c3", "surplus: c4"], id="many, but few of each kind"),
        pytest.param("c1 c2 c3 c4", "c4 c3 c2 c1", ["misplaced: PIC-X (4 rules)"], id="in another order"),
    ],
)
def test_many_rules_of_a_chain_are_summed_up(before: str, after: str, lines: list[str]) -> None:
    found = plan()
    found.describe(before.split(), after.split(), "PIC-X")
    assert found.summed_up() == lines


def test_what_is_no_rule_is_told_line_by_line() -> None:
    found = plan("a b c d", "e")
    found.describe([], ["r1", "r2", "r3", "r4"], "PIC-X")
    assert found.summed_up() == ["missing: e", "missing: PIC-X (4 rules)", "surplus: a", "surplus: b", "surplus: c", "surplus: d"]


def test_the_difference_is_shown_sorted_and_each_line_once() -> None:
    assert plan("b a b", "c").diff() == {"before": "a\nb\n", "after": "c\n"}
    assert plan("b a b", "c", steps=False).diff() == {"before": "", "after": ""}


def test_a_plan_is_one_if_it_has_a_step() -> None:
    assert (bool(plan()), bool(plan("a", "b", steps=False))) == (True, False)


@pytest.mark.parametrize(
    ("found", "step", "before", "after"),
    [
        pytest.param(None, True, [], ["/f: as wanted"], id="not there"),
        pytest.param("old", True, ["/f: as before"], ["/f: as wanted"], id="another text"),
        pytest.param("", True, ["/f: as before"], ["/f: as wanted"], id="empty"),
        pytest.param("new", False, [], [], id="the same"),
    ],
)
def test_a_file_is_written_where_it_differs(found: str | None, step: bool, before: list[str], after: list[str]) -> None:
    made = plans.Plan()
    made.write("/f", found, "new", 0o644)
    assert (made.steps, made.before, made.after) == ([plans.Write("/f", "new", 0o644)] if step else [], before, after)


def test_a_file_is_for_root_alone_unless_it_is_said_otherwise() -> None:
    made = plans.Plan()
    made.write("/f", None, "new")
    assert made.steps == [plans.Write("/f", "new", 0o600)]


def test_one_plan_follows_another() -> None:
    first, second = plan("a", "b"), plan("c", "d")
    effect = plans.Effect("routing", dict)
    second.warnings.append("careful")
    second.effects.append(effect)
    first.extend(second)
    assert (first.steps, first.before, first.after, first.warnings, first.effects) == ([RUN, RUN], ["a", "c"], ["b", "d"], ["careful"], [effect])


# How it is carried out


def test_steps_are_carried_out_in_their_order(tmp_path: Path) -> None:
    host = Recorder(tmp_path)
    host.files.update(dict.fromkeys(("/restrict", "/remove", "/tree/a", "/tree/b"), (420, "")))
    ask = plans.Ask(("tool", "ask"), lambda answer: [plans.Run(("tool", f"after {answer}")), RUN])
    steps: list[plans.Step] = [
        RUN,
        ask,
        plans.Write("/write", "text"),
        plans.Restrict("/restrict", 0o600),
        plans.Remove("/remove"),
        plans.Remove("/tree", tree=True),
    ]
    plans.apply(host, plans.Plan(steps))
    assert host.calls == [("one", "text\n"), ("ask", ""), ("after answer", ""), ("one", "text\n")]
    assert host.steps == ["write /write", "restrict /restrict", "remove /remove", "remove /tree/a", "remove /tree/b"]
    assert host.files == {"/restrict": (0o600, ""), "/write": (0o600, "text")}


@pytest.mark.parametrize("step", [plans.Run(("missing",)), plans.Ask(("missing",), lambda answer: [])], ids=["run", "ask"])
def test_a_missing_program_is_found_before_the_first_step(tmp_path: Path, step: plans.Step) -> None:
    host = Recorder(tmp_path)
    with pytest.raises(errors.CellError, match="missing"):
        plans.apply(host, plans.Plan([RUN, step]))
    assert host.calls == []


def test_the_first_error_ends_it(tmp_path: Path) -> None:
    host = Recorder(tmp_path, fails=1)
    with pytest.raises(errors.CommandFailed) as found:
        plans.apply(host, plans.Plan([RUN, plans.Write("/write", "text")]))
    assert (found.value.rc, host.calls, host.steps) == (4, [("one", "text\n")], [])


def test_an_exit_code_can_be_no_error(tmp_path: Path) -> None:
    host = Recorder(tmp_path, fails=1)
    plans.apply(host, plans.Plan([plans.Run(("tool", "one"), ok=(0, 4)), RUN]))
    assert len(host.calls) == 2


def doing(*rest: str) -> Callable[[command.Host], plans.Run | None]:
    """Return what tells after a command that these are left to do, one after the other."""
    left = list(rest)

    def tell(_host: command.Host) -> plans.Run | None:
        return plans.Run(("tool", left.pop(0)), rest=tell) if left else None

    return tell


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Do not wait; return how long it would have been."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


@pytest.mark.parametrize(
    ("fails", "rest", "calls", "waited"),
    [
        pytest.param(0, [], ["one"], [], id="nothing left"),
        pytest.param(0, ["two"], ["one", "two"], [0.25], id="something left"),
        pytest.param(0, ["two", "three", "four"], ["one", "two", "three", "four"], [0.25, 0.5, 1.0], id="as often as it is tried"),
        pytest.param(1, ["two"], ["one", "two"], [0.25], id="something left after it has failed"),
        pytest.param(1, [], ["one"], [], id="nothing left although it has failed"),
    ],
)
def test_what_others_write_too_is_tried_until_nothing_is_left(
    tmp_path: Path, pauses: list[float], fails: int, rest: list[str], calls: list[str], waited: list[float]
) -> None:
    host = Recorder(tmp_path, fails)
    plans.apply(host, plans.Plan([plans.Run(("tool", "one"), rest=doing(*rest))]))
    assert ([argv for argv, _stdin in host.calls], pauses) == (calls, waited)


def test_after_four_times_others_are_to_blame(tmp_path: Path, pauses: list[float]) -> None:
    host = Recorder(tmp_path)
    with pytest.raises(errors.CommandFailed, match="other software undid it 4 times"):
        plans.apply(host, plans.Plan([plans.Run(("tool", "one"), rest=doing("two", "three", "four", "five"))]))
    assert [argv for argv, _stdin in host.calls] == ["one", "two", "three", "four"]


def test_the_fourth_failure_is_shown(tmp_path: Path, pauses: list[float]) -> None:
    host = Recorder(tmp_path, fails=9)
    with pytest.raises(errors.CommandFailed, match="exit code 4: busy"):
        plans.apply(host, plans.Plan([plans.Run(("tool", "one"), rest=doing("two", "three", "four", "five"))]))
    assert len(host.calls) == 4


def test_in_a_dry_run_the_files_alone_change_and_on_paper(tmp_path: Path) -> None:
    host = Recorder(tmp_path)
    host.files.update({"/restrict": (0o644, "kept"), "/remove": (0o644, "")})
    draft = command.Draft(host)
    plans.write_files(draft, [RUN, plans.Write("/write", "text"), plans.Restrict("/restrict", 0o600), plans.Remove("/remove")])
    assert [draft.read(path) for path in ("/write", "/restrict", "/remove")] == ["text", "kept", None]
    assert (host.calls, host.steps, set(host.files)) == ([], [], {"/restrict", "/remove"})


def test_a_secret_cannot_be_in_the_arguments_of_a_command() -> None:
    with pytest.raises(errors.UnsafeText):
        plans.Run(("tool", "two\nlines"))
