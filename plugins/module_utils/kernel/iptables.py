# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of iptables: save text in, restore text out.

Own chains are compared by the comments of their rules: each carries a tag and a hash of the rule as we wrote it,
so that reading back never depends on how a version of iptables prints a rule.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from ..base.command import Host
from ..base.errors import BadInput, CommandFailed
from ..base.names import is_own_tag
from .foreign import could_decide
from .model import Backend, Saved, SavedRuleset, base_program
from .plan import Change, Effect, Plan, Run
from .ruleset import Rule, Ruleset, Table, comment_of

CHAIN_PREFIX = "PIC-"
TABLES = ("mangle", "nat", "filter")  # those that have rules of ours
DENYING = ("mangle", "filter")  # each of them denies by default
_LOCK_WAIT = "10"  # seconds that iptables-restore waits for another one's lock
# What iptables-nft-save 1.8.9 to 1.8.11 print of a table with rules of nftables' own, and of one with base chains of its own beside those of iptables.
_HIDDEN = re.compile(r"^# Table `([^']+)' is incompatible, use 'nft' tool\.$", re.M)
_NATIVE = re.compile(r"^# Table `([^']+)' contains incompatible base-chains, use 'nft' tool to list them\.$", re.M)
_RULE_LINE = re.compile(r"(?:\[\d+:\d+\] )?-A ([^ ]+) ?(.*)", re.DOTALL)
_OPEN = re.compile(r'(?:(?:"(?:[^"\\]|\\.)*"|[^ "][^ ]*)? )*"(?:[^"\\]|\\.)*', re.DOTALL)
_CLOSED = re.compile(r'[^"]* "[^"\\]*"(?: [^"]*)?')  # as all of ours are: told sooner than that a quote is open
_COMMENT_OPTION = re.compile(r'-m comment --comment (?:"(?:[^"\\]|\\.)*"|[^ ]+) ?', re.DOTALL)
_IMPLIED = re.compile(r"(-p (tcp|udp) )-m \2 ")
_LONGEST = 8192  # characters of a rule; a comment has 256 at most


def choose_backend(host: Host, family: int) -> tuple[Backend, Backend | None, list[str]]:
    """Return the backend whose tables are in use, the other one where it holds rules as well, and a warning where they are foreign.

    The host's own choice of iptables is used, unless it holds no rule while the other one holds foreign ones.
    The legacy one is not even asked unless the kernel lists its tables: asking would load them.
    """
    default, base = Backend(family, ""), base_program(family)
    if not all(host.has(tool) for tool in (base, f"{base}-nft-save", f"{base}-legacy-save")):
        return default, None, []
    legacy_loaded = bool((host.read(f"/proc/net/{'ip6' if family == 6 else 'ip'}_tables_names") or "").strip())
    own, other = ("-legacy", "-nft") if "legacy" in host.run([base, "-V"]).out else ("-nft", "-legacy")
    if not legacy_loaded and other == "-legacy":
        return default, None, []
    found = read_rules(host, Backend(family, other))
    rules = _all_rules(found)
    if any(saved.hidden for saved in found.values()):
        hidden = f"{base}{other} cannot show its rules, which filter packets in addition to those of {base}{own}, which the cell uses. "
        return default, None, [f"{hidden}Move all rules into one of the two."]
    foreign = [rule for rule in rules if not is_own_tag(comment_of(rule))]
    asked = own == "-nft" or legacy_loaded
    if foreign and not (asked and _all_rules(read_rules(host, Backend(family, own)))):
        return Backend(family, other), None, []
    warning = (
        f"{base}{other} holds {len(foreign)} rules in addition to those of {base}{own}, which the cell uses. Both filter packets; "
        "move all rules into one of the two."
    )
    return default, Backend(family, other) if rules else None, [warning] if foreign else []


def read_rules(host: Host, backend: Backend) -> SavedRuleset:
    """Read all tables of a family; none where iptables is not installed yet. A table that cannot be read says why, and holds nothing."""
    if not host.has(backend.save):
        return {}
    try:
        result = host.run([backend.save])
    except CommandFailed as error:
        return {name: Saved(hidden=str(error)) for name in TABLES}
    # iptables-save ends with 0 after it has met tables that it cannot show.
    saved = parse_save(result.out)
    for name in _HIDDEN.findall(result.out + result.err):
        saved[name] = Saved(
            hidden=(
                f"Table {name!r} (IPv{backend.family}) holds native nftables rules, so {backend.save} does not show it at all. See them with "
                f"'nft list table {_nft_family(backend.family)} {name}', and move them into a table with another name."
            )
        )
    return saved


def check_shown(saved: SavedRuleset, tables: Collection[str] = TABLES) -> None:
    """Refuse to plan rules for tables that cannot be read: nobody could tell them from those that are there. Raises BadInput."""
    hidden = [saved[name].hidden for name in tables if name in saved and saved[name].hidden]
    if hidden:
        raise BadInput(" ".join(dict.fromkeys(hidden)))


def check_denies(saved: SavedRuleset) -> None:
    """Refuse to go on where neither of the tables that deny by default can be read. Raises BadInput."""
    if all(name in saved and saved[name].hidden for name in DENYING):
        check_shown(saved, DENYING)


def native_tables(saved: SavedRuleset, family: int) -> list[str]:
    """Return the tables that have base chains of nftables' own beside those of iptables, as nft calls them."""
    return [f"{_nft_family(family)} {name}" for name, table in sorted(saved.items()) if table.native]


def parse_save(text: str) -> SavedRuleset:
    """Read what iptables-save printed (counters are dropped)."""
    saved: SavedRuleset = {name: Saved(native=True) for name in _NATIVE.findall(text)}
    table = Saved()
    for line in _lines(text):
        if line.startswith("*"):
            table = saved.setdefault(line[1:].strip(), Saved())
        elif line.startswith(":"):
            name, policy, *_counters = (line[1:] + " -").split(" ")
            table.policies[name] = policy
            table.rules.setdefault(name, [])
        else:
            match = _RULE_LINE.fullmatch(line)
            if match:
                table.rules.setdefault(match[1], []).append(match[2])
    return saved


def _lines(text: str) -> Iterator[str]:
    """Yield lines; a comment of others may hold line feeds, which iptables-save prints as they are."""
    begun = ""
    for line in text.split("\n"):
        whole = begun + line
        if '"' in whole and whole.startswith(("-A", "[")) and not _CLOSED.fullmatch(whole) and len(whole) < _LONGEST and _OPEN.fullmatch(whole):
            begun = whole + "\n"
            continue
        begun = ""
        yield whole
    yield from begun.split("\n")  # a quote that nobody ends: then these were lines after all


def own_rules(saved: Saved) -> list[str]:
    """Return the rules of one table that are ours, as saved and in their order."""
    return [f"{chain} {rule}" for chain, rules in saved.rules.items() for rule in rules if is_own_tag(comment_of(rule))]


def plan_rules(
    wanted: Ruleset, saved: SavedRuleset, ours: Collection[str], backend: Backend, only: Collection[str] | None = None, observed_as: str = "iptables"
) -> Plan:
    """Plan the one restore that leads from saved to wanted; no step where all is right.

    Others write the same tables: afterwards it is read back, and what somebody has undone in between is written again.

    ours: interfaces whose packets we decide ('pic-+' and the devices'), for judging where a jump has to stand.
    only: look at these own chains alone and leave every other rule and jump, but make a chain that they jump to;
    None means all that is ours.
    observed_as: the slice of what is observed that holds the saved rules, by family.
    """
    plan, text = Plan(), []
    for name in TABLES:
        if saved.get(name, Saved()).hidden:
            continue
        lines = _plan_table(wanted.get(name, Table()), saved.get(name, Saved()), tuple(ours), None if only is None else set(only))
        if lines.commands:
            text += [f"*{name}", *lines.commands, "COMMIT"]
            where = f"IPv{backend.family}{backend.variant.replace('-', ' ')} {name}"
            for change in lines.changes:
                # A repair tells the rules of the variant that is not the host's own one by one.
                chain = f"{where}: {change.chain}" if change.chain and not backend.variant else ""
                plan.describe((f"{where}: {line}" for line in change.before), (f"{where}: {line}" for line in change.after), chain)
    if not text:
        return plan

    def rest(host: Host) -> Run | None:
        left = plan_rules(wanted, read_rules(host, backend), ours, backend, only)
        return next((step for step in left.steps if isinstance(step, Run)), None)

    plan.steps.append(Run((backend.restore, "--noflush", "-w", _LOCK_WAIT), "\n".join(text) + "\n", rest=rest))
    plan.effects.append(Effect(observed_as, lambda rulesets, _items: {**rulesets, backend.family: restored(rulesets[backend.family], text)}))
    return plan


def stands(wanted: Ruleset, saved: SavedRuleset, ours: Collection[str]) -> bool:
    """Tell whether all that is wanted is there, each jump before every foreign rule that could decide our packets. Other rules of ours do not matter."""
    for name, table in wanted.items():
        found = saved.get(name, Saved())
        if _plan_table(table, found, tuple(ours), set(table.chains)).commands:
            return False
        lines = _Lines()
        if any(_plan_shared_chain(chain, target, found, tuple(ours), lines) for chain, target in table.jumps.items()):
            return False
    return True


def restored(saved: SavedRuleset, lines: Iterable[str]) -> SavedRuleset:
    """Return what iptables-restore makes of the rules when it is given lines as plan_rules writes them."""
    result = {name: replace(table, policies=dict(table.policies), rules={c: list(rules) for c, rules in table.rules.items()}) for name, table in saved.items()}
    table = Saved()
    for line in lines:
        if line.startswith("*"):
            table = result.setdefault(line[1:], Saved())
        elif line.startswith(":"):
            chain = line[1:].split()[0]
            table.policies[chain], table.rules[chain] = "-", []
        elif line != "COMMIT":
            command, chain, *rule = line.split(" ", 2)
            if command == "-A":
                table.rules[chain] += rule
            elif command == "-D":
                table.rules[chain].remove(*rule)
            elif command == "-X":
                del table.policies[chain], table.rules[chain]
            else:  # -I <chain> 1 <rule>
                table.rules.setdefault(chain, []).insert(0, rule[0].partition(" ")[2])
    return result


@dataclass
class _Lines:
    commands: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


def _plan_table(wanted: Table, saved: Saved, ours: tuple[str, ...], only: set[str] | None) -> _Lines:
    """Return the commands for one table, in the order that iptables-restore needs: chains, their rules, the jumps of others' chains, and what goes."""
    lines = _Lines()
    declared, added, changes, dropped = [], [], [], []
    led_to = {rule.text.rpartition(" ")[2] for rules in wanted.chains.values() for rule in rules}
    for chain, rules in wanted.chains.items():
        found = saved.rules.get(chain)
        described = only is None or chain in only
        if found is None and not rules and only is not None and chain not in led_to:
            continue
        comments = [rule.comment(chain) for rule in rules]
        if found is not None and (not described or [comment_of(r) for r in found] == comments):
            continue
        declared.append(f":{chain} - [0:0]")
        added += [f"-A {rule.render(chain)}" for rule in rules]
        if described:
            known = {comment: rule.text for comment, rule in zip(comments, rules)}
            before = [f"{chain} {known.get(comment_of(r), without_comment(r))}" for r in found or ()]
            lines.changes.append(Change(before, [f"{chain} {rule.text}" for rule in rules], chain))
    for chain, policy in saved.policies.items():
        unwanted = policy == "-" and chain.startswith(CHAIN_PREFIX) and chain not in wanted.chains and (only is None or chain in only)
        # Others may begin a chain's name as we do.
        if unwanted and all(is_own_tag(comment_of(rule)) for rule in saved.rules[chain]):
            declared.append(f":{chain} - [0:0]")
            dropped.append(f"-X {chain}")
            lines.changes.append(Change([f"{chain} {without_comment(rule)}" for rule in saved.rules[chain]], [], chain))
    if only is None:
        for chain in sorted(set(saved.rules) | set(wanted.jumps)):
            if not chain.startswith(CHAIN_PREFIX):
                changes += _plan_shared_chain(chain, wanted.jumps.get(chain), saved, ours, lines)
    lines.commands = declared + added + changes + dropped
    return lines


def _plan_shared_chain(chain: str, target: str | None, saved: Saved, ours: tuple[str, ...], lines: _Lines) -> list[str]:
    """Leave in a chain of others just our one jump, standing before every foreign rule that could decide our packets."""
    jump = None if target is None else Rule(f"-j {target}")
    found = saved.rules.get(chain, [])
    own = [rule for rule in found if is_own_tag(comment_of(rule))]
    if jump is not None and [comment_of(rule) for rule in own] == [jump.comment(chain)]:
        earlier = found[: found.index(own[0])]
        if not any(could_decide(rule, chain, saved.rules, ours) for rule in earlier):
            return []
        before = [f"{chain} -j {target} (after a foreign rule)"]
    else:
        before = [f"{chain} {without_comment(rule)}" for rule in own]
    lines.changes.append(Change(before, [] if jump is None else [f"{chain} -j {target}"]))
    commands = [f"-D {chain} {rule}" for rule in own]
    if jump is not None:
        commands.append(f"-I {chain} 1 {jump.render(chain).split(' ', 1)[1]}")
    return commands


def without_comment(rule: str) -> str:
    """Return a rule without its comment, and without what iptables adds to one with a port, so that it reads the same once it was saved."""
    return _IMPLIED.sub(r"\1", _COMMENT_OPTION.sub("", rule)).strip()


def _all_rules(saved: SavedRuleset) -> list[str]:
    return [rule for table in saved.values() for rules in table.rules.values() for rule in rules]


def _nft_family(family: int) -> str:
    return "ip6" if family == 6 else "ip"
