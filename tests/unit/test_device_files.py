# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device's file on the controller, and its QR codes: readable by their owner, never overwritten, shown on a terminal alone."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils import device_files
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key

TEXT = "[Interface]\n# phone, a device of cella\n{key}Address = 10.0.0.2/32, fd00:a::2/128\n\n[Peer]\nPublicKey = " + made_key("cella") + "\n"
# made by wg genkey and wg pubkey
PRIVATE, PUBLIC = "wEUGvZJAKXPi92vE+VpDwmXSDajjkuk4W6iL1HI473Y=", "5nkHXQYQ0utG8ZgYtG6eivxJGo8SiqpUQ/yda02mEns="


def rendered(private: str | None) -> str:
    """Return a device's file."""
    return TEXT.format(key=f"PrivateKey = {private}\n" if private else "# PrivateKey: only the device has it\n")


def modes(*paths: Path) -> set[int]:
    """Return who may do what with files."""
    return {path.stat().st_mode & 0o777 for path in paths}


def test_a_key_is_made_once_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "phone.conf"
    public = device_files.make(str(path), rendered)
    written = device_files.look(str(path))
    assert written is not None
    assert (written.public_key, written.addresses) == (public, ["10.0.0.2", "fd00:a::2"])
    assert written.text == device_files.without_key(rendered(None)) and "PrivateKey" not in written.text
    assert modes(path) == {0o600}
    before = path.read_bytes()
    with pytest.raises(BadInput, match="cannot be made"):
        device_files.make(str(path), rendered)
    assert path.read_bytes() == before
    assert device_files.make(str(tmp_path / "other.conf"), rendered) != public


def test_a_preshared_key_that_somebody_has_written_into_the_file_is_not_shown() -> None:
    needed = TEXT.format(key="") + "# PresharedKey: the device has it\n"
    assert device_files.without_key(rendered(PRIVATE) + f"presharedkey={PUBLIC}\n") == needed
    assert device_files.without_key(needed) == needed


def test_the_public_key_is_that_of_wireguard(tmp_path: Path) -> None:
    if shutil.which("wg"):
        assert subprocess.run(["wg", "pubkey"], input=PRIVATE, capture_output=True, text=True, check=True).stdout.strip() == PUBLIC
    path = tmp_path / "phone.conf"
    path.write_text(rendered(PRIVATE))
    written = device_files.look(str(path))
    assert written is not None and written.public_key == PUBLIC


@pytest.mark.parametrize("text", ["", "x", "[Interface]\nPrivateKey = x\n", rendered(None), "\x00", "\udcff"])
def test_what_is_no_file_of_a_device_is_refused_and_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "phone.conf"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput, match="Move it away, or give config_dest"):
        device_files.look(str(path))
    assert path.read_bytes() == text.encode("utf-8", "surrogateescape")


def test_neither_a_pipe_nor_a_link_is_followed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.conf")
    (tmp_path / "link.conf").symlink_to(tmp_path / "elsewhere.conf")
    for name in ("pipe", "link"):
        with pytest.raises(BadInput, match="Move it away"):
            device_files.look(str(tmp_path / f"{name}.conf"))
    with pytest.raises(BadInput, match="cannot be made"):
        device_files.make(str(tmp_path / "link.conf"), rendered)
    assert not (tmp_path / "elsewhere.conf").exists()


def test_where_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "hosts.yml").touch()

    def beside(source: Path, file: Path | None) -> str | None:
        hostvars = _Hostvars({"cella": {"inventory_file": str(file) if file else None}})
        hostvars._inventory = SimpleNamespace(_sources=[str(source)])
        return device_files.default_place(hostvars, "cella", "phone.conf")

    assert beside(tmp_path / "hosts.yml", tmp_path / "hosts.yml") == f"{tmp_path}/phone.conf"
    # Ansible reads all files of such a folder, and would take the device's for inventory.
    assert beside(tmp_path / "folder", tmp_path / "folder" / "hosts.yml") == f"{tmp_path}/phone.conf"
    assert beside(Path("a,b,"), None) is None
    assert device_files.place(str(tmp_path), "phone") == device_files.place(f"{tmp_path}/", "phone") == f"{tmp_path}/phone.conf"
    assert device_files.place(f"{tmp_path}/my.conf", "phone") == f"{tmp_path}/my.conf"
    assert device_files.images(f"{tmp_path}/my.conf") == [f"{tmp_path}/my.svg", f"{tmp_path}/my.png"]
    for text in (f"{tmp_path}/my.png", "x\0y"):
        with pytest.raises(BadInput, match="config_dest"):
            device_files.place(text, "phone")


class _Hostvars(dict):  # type: ignore[type-arg]
    _inventory: SimpleNamespace


@pytest.mark.parametrize("library", ["cryptography", "segno"])
def test_a_library_that_is_missing_is_one_sentence_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setattr(device_files, f"HAS_{library.upper()}", False)
    with pytest.raises(BadInput, match=rf"The Python library '{library}' is not installed on the controller.* Install it: pip install {library}\."):
        device_files.check_place(str(tmp_path / "phone.conf"))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"No file can be made in .*/nowhere, where that of the device is to be"):
        device_files.check_place(str(tmp_path / "nowhere" / "phone.conf"))


def test_the_qr_codes_hold_the_file(tmp_path: Path) -> None:
    path = tmp_path / "phone.conf"
    device_files.make(str(path), rendered)
    device_files.make_images(str(path))
    svg, png = tmp_path / "phone.svg", tmp_path / "phone.png"
    assert modes(svg, png) == {0o600} and svg.read_bytes().startswith(b"<?xml") and png.read_bytes().startswith(b"\x89PNG")
    assert device_files.missing_images(str(path)) == []
    before = png.read_bytes()
    svg.unlink()
    device_files.make_images(str(path))
    assert svg.exists() and png.read_bytes() == before
    if shutil.which("zbarimg"):
        read = subprocess.run(["zbarimg", "--quiet", "--raw", str(png)], capture_output=True, text=True, check=True).stdout
        assert read == path.read_text()


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_picture_without_its_file_is_of_another_key_and_refused(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"phone.{ending}").touch()
    with pytest.raises(BadInput, match=rf"phone\.{ending} is there and .*phone\.conf is not, so it is the QR code of another key\. Move it away"):
        device_files.check_place(str(tmp_path / "phone.conf"))


@pytest.mark.parametrize(("more", "fits"), [(-1, True), (0, True), (1, False)])
def test_a_file_that_no_qr_code_can_hold_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int, fits: bool) -> None:
    path = tmp_path / "phone.conf"
    filled = "# " + "x" * (2953 - len(rendered(PRIVATE)) - 2 + more) + "\n"
    device_files.make(str(path), lambda private: rendered(private) + filled)
    assert device_files.fits(device_files.without_key(rendered(None) + filled)) is fits
    device_files.make_images(str(path))
    assert device_files.missing_images(str(path)) == []
    assert [image.exists() for image in (tmp_path / "phone.svg", tmp_path / "phone.png")] == [fits, fits]
    monkeypatch.setattr(device_files, "_terminal", lambda: os.devnull)
    assert device_files.show(str(path)) is fits


SHOW = "import sys; from ansible_collections.pic.cells.plugins.plugin_utils import device_files; sys.exit(0 if device_files.show(sys.argv[1]) else 7)"


def test_a_code_is_drawn_on_a_terminal_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "phone.conf"
    device_files.make(str(path), rendered)
    piped = subprocess.run([sys.executable, "-c", SHOW, str(path)], capture_output=True, check=False)
    assert (piped.returncode, piped.stdout, piped.stderr) == (7, b"", b"")
    ours, theirs = pty.openpty()
    # As Ansible's workers since 2.19: the terminal is that of the process which has started them.
    worker = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {SHOW!r}, sys.argv[1]], stdout=subprocess.DEVNULL).returncode)"
    drawing = subprocess.Popen([sys.executable, "-c", worker, str(path)], stdout=theirs)
    os.close(theirs)
    drawn = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(ours, 65536):
            drawn += part
    assert drawing.wait() == 0
    assert "█" in drawn.decode() and len(drawn.splitlines()) > 20
