# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one seam between the engine and the machine: commands, and the few files that are not records."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from . import packages
from .errors import CommandFailed, ToolMissing, WriteFailed

UNANSWERED = 2  # lookups of names; after as many nobody is asked again, since each waits, and everything else waits for it
SLOW = 2.0  # seconds after which an answer has been waited for as well
SYSTEM_PATH = ":/usr/sbin:/sbin"  # a user's PATH can lack them

_AT_ONCE = 1024  # entries of a folder that are looked at together
_MOVED = "moved-by-pic-cells"


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, standard output, standard error."""

    rc: int
    out: str
    err: str = ""


class Host:
    """The machine that the engine works on. Unit tests put a stateful fake in its place."""

    def __init__(self, root: str = "/") -> None:
        """root: the folder that stands for / when files are read and written."""
        self.root = root
        self.lookups_left = UNANSWERED

    def run(self, argv: Sequence[str], stdin: str | None = None, ok: Sequence[int] = (0,), timeout: float = 60) -> Result:
        """Run one command without a shell in the C locale.

        argv: the command, free of secrets, which travel by stdin. ok: the exit codes that are no error.
        timeout: seconds. Raises CommandFailed with argv, exit code, output and input; ToolMissing.
        """
        env = dict(os.environ, LC_ALL="C", PATH=os.environ.get("PATH", "") + SYSTEM_PATH)
        try:
            # AnsibleModule.run_command is not there for pic-cell
            done = subprocess.run(  # pylint: disable=ansible-bad-function
                list(argv), input=(stdin or "").encode("utf-8", "surrogateescape"), capture_output=True, env=env, timeout=timeout, check=False
            )
        except FileNotFoundError:
            raise missing_tool(argv[0], self) from None
        except subprocess.TimeoutExpired:
            raise CommandFailed(argv, 124, f"not finished within {timeout:g} s", stdin) from None
        # What others have written is bytes, of whatever encoding: they are kept as they are.
        out, err = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
        if done.returncode not in ok:
            raise CommandFailed(argv, done.returncode, err or out, stdin)
        return Result(done.returncode, out, err)

    def run_json(self, argv: Sequence[str], ok: Sequence[int] = (0,), timeout: float = 60) -> Any:
        """Run a command that prints JSON; None where it prints nothing. Raises CommandFailed also for what is no JSON."""
        return parsed(argv, self.run(argv, ok=ok, timeout=timeout).out)

    def lookup(self, name: str) -> str | None:
        """Return an address that a name stands for; None where there is none, or nobody has said so within 5 s."""
        if self.lookups_left <= 0:
            return None
        began = time.monotonic()
        try:
            found = self.run(["getent", "ahosts", name], ok=(0, 2), timeout=5).out.split()
        except CommandFailed:
            self.lookups_left -= 1
            return None
        if time.monotonic() - began > SLOW:
            self.lookups_left -= 1
        return found[0] if found else None

    def has(self, tool: str) -> bool:
        """Tell whether a command is installed. busybox's ip is another one: it has no -json."""
        found = shutil.which(tool, path=os.environ.get("PATH", "") + SYSTEM_PATH)
        return found is not None and not (tool == "ip" and os.path.basename(os.path.realpath(found)).startswith("busybox"))

    def read(self, path: str) -> str | None:
        """Return the text of a file, or None where there is none; whatever bytes it has survive being written again."""
        try:
            with open(self._real(path), encoding="utf-8", errors="surrogateescape", newline="") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def read_foreign(self, path: str, limit: int) -> str | None:
        """Return the text of a file that somebody without privileges has put there; None where it is no plain file, or larger than limit bytes."""
        try:
            handle = os.open(self._real(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (OSError, ValueError):  # a path can hold a NUL
            return None
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
                return None
            return os.read(handle, limit).decode("utf-8", "surrogateescape")
        finally:
            os.close(handle)

    def list_foreign(self, path: str, most: int) -> list[str]:
        """Return names in a folder that somebody without privileges fills, in no order and no more than most of them."""
        try:
            with os.scandir(self._real(path)) as entries:
                return [entry.name for entry in itertools.islice(entries, most)]
        except FileNotFoundError:
            return []

    def exists(self, path: str) -> bool:
        """Tell whether a path exists; a dangling link does."""
        return os.path.lexists(self._real(path))

    def list(self, path: str) -> list[str]:
        """Return the sorted names in a folder, none where there is no folder."""
        try:
            return sorted(os.listdir(self._real(path)))
        except FileNotFoundError:
            return []

    def write(self, path: str, text: str, mode: int | None = 0o600) -> None:
        """Write a file so that after a crash it holds the old text or the new one, with this mode whatever the umask.

        mode: None keeps owner, mode and whatever else is set for a file that is there, and follows a link to it; a new one is for root alone.
        A folder that is missing is made, for root alone unless the file is for everybody. Raises WriteFailed.
        """
        real = self._real(path)
        real = os.path.realpath(real) if mode is None else real
        folder, name = os.path.split(real)
        temporary = os.path.join(folder, f".{name}.new")  # always the same: what a power cut leaves is written over
        with writing(path):
            if not os.path.isdir(folder):
                os.makedirs(folder, exist_ok=True)
                os.chmod(folder, 0o755 if (mode or 0) & 0o004 else 0o700)
            try:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
                # Never one that is there: its folder may be somebody else's, who would have it open.
                handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
                with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                    if mode is None:
                        _dress(file.fileno(), real)
                    else:
                        os.fchmod(file.fileno(), mode)
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, real)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            _sync_folder(folder)

    def access(self, path: str) -> tuple[int, int, bool] | None:
        """Return mode and owner of a file or a folder, and whether it is a folder; None where there is none, or something else."""
        try:
            found = os.lstat(self._real(path))
        except OSError:
            return None
        folder = stat.S_ISDIR(found.st_mode)
        return (stat.S_IMODE(found.st_mode), found.st_uid, folder) if folder or stat.S_ISREG(found.st_mode) else None

    def restrict(self, path: str, mode: int) -> None:
        """Give a file or a folder to root, with a mode; no link is followed. Raises WriteFailed."""
        with writing(path):
            handle = os.open(self._real(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                os.fchown(handle, 0, 0)
                os.fchmod(handle, mode)
            finally:
                os.close(handle)

    def remove(self, path: str) -> None:
        """Remove a file, which may be gone already. Raises WriteFailed."""
        with writing(path), contextlib.suppress(FileNotFoundError):
            os.unlink(self._real(path))

    def remove_foreign(self, path: str) -> None:
        """Remove what an unprivileged program has left, also a folder with all that is in it; no link is followed. Raises WriteFailed."""
        real = self._real(path)
        with writing(path), contextlib.suppress(FileNotFoundError):
            try:
                os.unlink(real)
            except IsADirectoryError:
                _remove_tree(real)

    def _real(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Turn what the system says against writing a file into an error that names it."""
    try:
        yield
    except OSError as error:
        raise WriteFailed(f"{path} cannot be written: {error.strerror}. Free some space, or make it writable, and run again.") from error


class Draft(Host):
    """A host on which nothing is written: its files change in memory only. What it is asked to run may only read."""

    def __init__(self, host: Host) -> None:
        """host: the machine that is read."""
        super().__init__(host.root)
        self._host = host
        self._files: dict[str, str | None] = {}
        self._modes: dict[str, int] = {}

    def run(self, argv: Sequence[str], stdin: str | None = None, ok: Sequence[int] = (0,), timeout: float = 60) -> Result:
        """Run a command on the machine."""
        return self._host.run(argv, stdin=stdin, ok=ok, timeout=timeout)

    def lookup(self, name: str) -> str | None:
        """Return an address that a name stands for, as the machine says."""
        return self._host.lookup(name)

    def has(self, tool: str) -> bool:
        """Tell whether the machine has a command."""
        return self._host.has(tool)

    def read(self, path: str) -> str | None:
        """Return the text of a file as drafted, or else as it is."""
        return self._files[path] if path in self._files else self._host.read(path)

    def read_foreign(self, path: str, limit: int) -> str | None:
        """Return the text of a file that somebody without privileges has put on the machine."""
        return self._host.read_foreign(path, limit)

    def exists(self, path: str) -> bool:
        """Tell whether a path exists, or is drafted."""
        return self._files[path] is not None if path in self._files else self._host.exists(path)

    def list(self, path: str) -> list[str]:
        """Return the sorted names in a folder, with those that are drafted."""
        drafted = {os.path.basename(name) for name in self._files if os.path.dirname(name) == path}
        return [name for name in sorted({*self._host.list(path), *drafted}) if self.exists(f"{path}/{name}")]

    def write(self, path: str, text: str, mode: int | None = 0o600) -> None:
        """Draft a file."""
        self._files[path] = text

    def access(self, path: str) -> tuple[int, int, bool] | None:
        """Return mode and owner as drafted, or else as they are; what is written anew is taken to be as it was, or root's."""
        if path in self._files and self._files[path] is None:
            return None
        found = self._host.access(path)
        return (self._modes[path], 0, found[2]) if found and path in self._modes else found

    def restrict(self, path: str, mode: int) -> None:
        """Draft a mode, and root as owner."""
        self._modes[path] = mode

    def remove(self, path: str) -> None:
        """Count a file as removed."""
        self._files[path] = None


def parsed(argv: Sequence[str], out: str) -> Any:
    """Read the JSON that a command has printed; None where that is nothing. Raises CommandFailed for what is none."""
    try:
        return json.loads(out, strict=False) if out.strip() else None  # names of interfaces may hold control characters
    except (ValueError, RecursionError) as error:
        raise CommandFailed(argv, 0, f"its output is not JSON ({error})") from None


def missing_tool(tool: str, host: Host) -> ToolMissing:
    """Build the error for a program that is not installed, with the package to install."""
    known = packages.system(host)
    package = known.package(tool) or known.package(tool.split("-", 1)[0])
    remedy = f"Install the package {package!r}." if package else "Install it."
    return ToolMissing(f"The program {tool!r} is not installed on this host. {remedy}")


def _remove_tree(folder: str) -> None:
    """Remove a folder however deep it is: what its folders hold is moved up first, so that no path grows long and nothing recurses."""
    count = 0
    while True:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in itertools.islice(entries, _AT_ONCE)]
        if not found:
            break
        for name, is_folder in found:
            here = os.path.join(folder, name)
            if not is_folder:
                os.unlink(here)
                continue
            for inner in os.listdir(here):
                count += 1
                os.rename(os.path.join(here, inner), os.path.join(folder, f"{count}.{_MOVED}"))
            os.rmdir(here)
    os.rmdir(folder)


def _dress(handle: int, like: str) -> None:
    """Give a new file owner, mode, access list and label of the one whose place it takes; a file that is not there leaves it as it is."""
    try:
        found = os.stat(like)
    except FileNotFoundError:
        return
    os.fchown(handle, found.st_uid, found.st_gid)
    os.fchmod(handle, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(like):
        with contextlib.suppress(OSError):  # not every file system takes what another one had
            os.setxattr(handle, name, os.getxattr(like, name))


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
