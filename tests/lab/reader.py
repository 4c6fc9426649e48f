# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A reader of the documentation, who types what it says: on a machine of his own, and on hosts of the lab."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from lab import entering, inside
from pages import Command, File, keys, not_printed, steps

END = "--- end of this command, exit code"
SECONDS = 180.0
# A cell that another one has told something carries it out some seconds later if it is at work meanwhile. People take as long to type.
LOOKS, LATER, PAUSE = ("pic-cell status",), 15.0, 1.0  # commands that change nothing, and seconds


class Shell:
    """A shell that stays open from one command to the next, as a terminal does."""

    def __init__(self, argv: list[str], environment: Mapping[str, str] | None = None, folder: Path | None = None) -> None:
        self.process = subprocess.Popen(argv, env=environment, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def type(self, command: str) -> tuple[int, list[str]]:
        """Returns exit code and what was printed."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n%s %s\\n' '{END}' $?\n")
        self.process.stdin.flush()
        late = threading.Timer(SECONDS, self.process.kill)
        late.start()
        printed: list[str] = []
        try:
            for line in self.process.stdout:
                if line.startswith(END):
                    return int(line.split()[-1]), printed
                printed.append(line.rstrip("\n"))
        finally:
            late.cancel()
        raise AssertionError(f"the shell ended, or took more than {SECONDS:.0f} s, at {command!r}: {printed}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Reader:
    """Follows pages as they are written.

    machines: the shells of the people of a page, by the name before the prompt; the reader's own has none.
    hosts: hosts of the lab for those of a page, where they are called otherwise. instead: commands that cannot be tried as they are, and what is done.
    """

    def __init__(
        self, machines: Mapping[str, tuple[Path, Mapping[str, str]]], hosts: Mapping[str, str] | None = None, instead: Mapping[str, str] | None = None
    ):
        self.folders = {name: folder for name, (folder, _environment) in machines.items()}
        self.shells = {name: Shell(["bash"], environment, folder) for name, (folder, environment) in machines.items()}
        self.hosts = hosts or {}
        self.instead = instead or {}
        self.keys: dict[str, str] = {}  # that were printed in the place of those that the page shows

    def follow(self, page: Path) -> None:
        """Does what a page says. Fails with page and line where a command fails, or prints something else than is shown."""
        for step in steps(page):
            if isinstance(step, File):
                self.save(step)
            else:
                self.try_out(page, step)

    def save(self, file: File) -> None:
        if file.host in self.folders:
            (self.folders[file.host] / file.path).write_text(self.known(file.text))
        else:
            inside(self.hosts.get(file.host, file.host), "sh", "-c", f"umask 077; cat >{file.path}", stdin=self.known(file.text))

    def try_out(self, page: Path, step: Command) -> None:
        text = self.known(self.instead.get(step.text, step.text))
        if step.host not in self.shells:
            self.shells[step.host] = Shell(entering(self.hosts.get(step.host, step.host), "bash"))
        where, until = f"{page.name}:{step.line}: {text}", time.monotonic() + LATER
        while True:
            rc, printed = self.shells[step.host].type(text)
            everything = "\n".join(printed)
            assert rc == 0, f"{where}\nended with exit code {rc}:\n{everything}"
            missing = not_printed([self.known(line) for line in step.shown], printed, self.keys.values())
            if missing is None or text not in LOOKS or time.monotonic() > until:
                break
            time.sleep(PAUSE)
        assert missing is None, f"{where}\ndid not print\n{missing}\nbut\n{everything}"
        self.keys.update(keys(step.shown, printed))

    def known(self, text: str) -> str:
        """Returns a text of the page with the reader's own keys."""
        for shown, printed in self.keys.items():
            text = text.replace(shown, printed)
        return text

    def close(self) -> None:
        for shell in self.shells.values():
            shell.close()
