# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device's file on the controller, and the QR codes of it: the only places of its private key, which is in nothing that is returned here but to them."""

from __future__ import annotations

import base64
import contextlib
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.wgkeys import clamped, is_key
from ansible_collections.pic.cells.plugins.module_utils.kernel import wgconfig
from ansible_collections.pic.cells.plugins.module_utils.parts.device_file import NO_PRESHARED_KEY
from ansible_collections.pic.cells.plugins.plugin_utils.devices import Written
from ansible_collections.pic.cells.plugins.plugin_utils.outside import read_file, shown, write_new

try:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
except ImportError:
    HAS_CRYPTOGRAPHY = False
else:
    HAS_CRYPTOGRAPHY = True
try:
    import segno
except ImportError:
    HAS_SEGNO = False
else:
    HAS_SEGNO = True

IMAGES = (".svg", ".png")
_LARGEST = 65536
_PRIVATE, _PRESHARED = "PrivateKey", "presharedkey"
_LARGE = {"scale": 5}  # so that a phone's camera reads it from a screen


def default_place(hostvars: Mapping[str, Any], host: str, name: str) -> str | None:
    """Return where a file of this name is unless somebody says otherwise: beside the inventory; None where that is in no file.

    In a folder that is the inventory, Ansible would read it as a part of that.
    """
    file = hostvars[host].get("inventory_file")
    for source in _sources(hostvars) if file else ():
        if os.path.abspath(file) == source or os.path.abspath(file).startswith(f"{source}{os.sep}"):
            return os.path.join(os.path.dirname(source), name)
    return None


def check_apart(hostvars: Mapping[str, Any], path: str, what: str = "The device's file", option: str = "config_dest") -> None:
    """Refuse a place that Ansible reads as a part of the inventory, and may print. Raises BadInput."""
    for source in filter(os.path.isdir, _sources(hostvars)):
        if os.path.realpath(path).startswith(f"{os.path.realpath(source)}{os.sep}"):
            raise BadInput(f"{what} {shown(path)} is in {shown(source)}, which Ansible reads as an inventory. Give {option}, a path elsewhere.")


def _sources(hostvars: Mapping[str, Any]) -> list[str]:
    """Return the files and folders that are the inventory of this run."""
    return [os.path.abspath(str(source)) for source in getattr(getattr(hostvars, "_inventory", None), "_sources", None) or ()]


def place(text: str, name: str) -> str:
    """Return the path that config_dest stands for: a file, or a folder in which the file is named after the device. Raises BadInput."""
    if "\0" in text:
        raise BadInput("config_dest holds a NUL, which no path can. Correct it.")
    path = os.path.abspath(os.path.expanduser(text))
    if text.endswith(os.sep) or os.path.isdir(path):
        return os.path.join(path, f"{name}.conf")
    if Path(path).suffix in IMAGES:
        raise BadInput(
            f"config_dest={shown(text)} is the name of a picture. Give the path of the WireGuard file, like {name}.conf; the pictures stand beside it."
        )
    return path


def images(path: str) -> list[str]:
    """Return the paths of the QR codes of a file."""
    stem = path.removesuffix(".conf")
    return [f"{stem}{ending}" for ending in IMAGES]


def look(path: str) -> Written | None:
    """Read a device's file without its key; None where there is none. Raises BadInput for what is no such file."""
    text = _text(path)
    if text is None:
        return None
    key = wgconfig.parse(text).get(_PRIVATE.lower()) or ""
    if not is_key(key):
        raise BadInput(f"The file {shown(path)} is there and holds no private key, so it is not a device's. Move it away, or give config_dest.")
    _need_cryptography()
    return Written(path, _public(key), [address.partition("/")[0] for address in wgconfig.addresses_of(text)], without_key(text))


def without_key(text: str) -> str:
    """Return a file's text without the line with the key, and without a preshared key that somebody has written into it."""
    lines = [line for line in text.splitlines() if wgconfig.setting(line)[0] != _PRIVATE.lower() and not line.startswith(f"# {_PRIVATE}")]
    return "".join(f"{NO_PRESHARED_KEY if wgconfig.setting(line)[0] == _PRESHARED else line}\n" for line in lines)


def check_place(path: str) -> None:
    """Refuse a place where no file can be made, and a controller that lacks a library to make it."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise BadInput(f"No file can be made in {shown(folder)}, where that of the device is to be. Make the folder, or give config_dest.")
    for image in filter(os.path.lexists, images(path)):
        raise BadInput(
            f"{shown(image)} is there and {shown(path)} is not, so it is the QR code of another key. Move it away or delete it, or give another config_dest."
        )
    _need_cryptography()
    check_qr()


def fits(text: str) -> bool:
    """Tell whether a QR code can hold a file. text: without the key."""
    return not HAS_SEGNO or _drawn(f"{_PRIVATE} = {'A' * 44}\n{text}") is not None


def check_qr() -> None:
    """Refuse a controller without the library for QR codes."""
    if not HAS_SEGNO:
        raise BadInput(
            "The Python library 'segno' is not installed on the controller, which draws the device's file as a QR code. Install it: pip install segno."
        )


def _need_cryptography() -> None:
    if not HAS_CRYPTOGRAPHY:
        raise BadInput(
            "The Python library 'cryptography' is not installed on the controller, where the device's key pair is to be made. Install it: pip install "
            "cryptography. Or make the key on the device, and give public_key."
        )


def make(path: str, render: Callable[[str], str]) -> str:
    """Make a key, write the file that render makes with it, and return the public key. A file that is there is never overwritten. Raises BadInput."""
    private = clamped(base64.b64encode(os.urandom(32)).decode())
    _write(path, render(private).encode())
    return _public(private)


def missing_images(path: str) -> list[str]:
    """Return which QR codes of a file are not there; none where the file is too large for one."""
    missing = [image for image in images(path) if not os.path.lexists(image)]
    return [] if missing and HAS_SEGNO and _code(path) is None else missing


def make_images(path: str) -> None:
    """Draw the QR codes of a file that are not there. Raises BadInput."""
    for image in missing_images(path):
        drawn = io.BytesIO()
        _code(path).save(drawn, kind=Path(image).suffix[1:], **_LARGE)
        _write(image, drawn.getvalue())


def show(path: str) -> bool:
    """Draw a file's QR code on the terminal that this run prints to, and nowhere else; tell whether there is one."""
    terminal = _terminal()
    code = _code(path)
    if terminal is None or code is None:
        return False
    drawn = io.StringIO()
    code.terminal(out=drawn, compact=True)
    # Past Ansible: what it prints is kept in logs and by callbacks.
    with contextlib.suppress(OSError):
        descriptor = os.open(terminal, os.O_WRONLY | os.O_NOCTTY)
        with open(descriptor, "w", encoding="utf-8") as out:
            out.write(f"\n{drawn.getvalue()}\n")
        return True
    return False


def _terminal() -> str | None:
    """Return the terminal of standard output: of this process, or of the one that has started it, as Ansible's workers have none of their own since 2.19."""
    with contextlib.suppress(OSError):
        return os.ttyname(1)
    with contextlib.suppress(OSError):
        found = os.readlink(f"/proc/{os.getppid()}/fd/1")
        return found if found.startswith(("/dev/pts/", "/dev/tty")) else None
    return None


def _code(path: str) -> Any:
    """Return the QR code of a file; None where there is no file, or it is too large."""
    text = _text(path)
    return None if text is None else _drawn(text)


def _drawn(text: str) -> Any:
    """Return the QR code of a text; None where none can hold it. Without the last line's end, since readers add one."""
    try:
        return segno.make(text.removesuffix("\n"), micro=False)
    except segno.DataOverflowError:
        return None


def _text(path: str) -> str | None:
    if not os.path.lexists(path):
        return None
    try:
        return read_file(Path(path), _LARGEST).decode()
    except (OSError, ValueError) as error:
        raise BadInput(f"The file {shown(path)} is there and cannot be read as a device's ({shown(error)}). Move it away, or give config_dest.") from None


def _write(path: str, data: bytes) -> None:
    """Write a new file that only its owner can read. Raises BadInput."""
    try:
        write_new(Path(path), data)
    except OSError as error:
        raise BadInput(f"The file {shown(path)} cannot be made ({error.strerror}). Give another config_dest, or run again.") from None


def _public(private: str) -> str:
    raw = X25519PrivateKey.from_private_bytes(base64.b64decode(private)).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.b64encode(raw).decode()
