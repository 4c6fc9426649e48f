# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's hosts run: a server that tells its clients which address it sees, and the clients that test it.

serve PROTO:PORT ...            TCP: GET / answers the client's address, GET /stream sends a chunk every 50 ms, GET /large 5 MB
                                UDP: "start" begins a flow of numbered datagrams, "stop" ends it, all else is answered with the sender's address
probe PROTO ADDRESS PORT        exit code 0: it answers, 1: it does not
follow PROTO ADDRESS PORT       prints a line for each connection, chunk or datagram, until stdin ends or 300 s have passed
"""

from __future__ import annotations

import contextlib
import http.server
import os
import socket
import sys
import threading
import time

INTERVAL = 0.05
FLOW_SECONDS = 300.0
PROBE_SECONDS = 2.0
LARGE = 5_000_000


def plain(address: str) -> str:
    """The address as the user knows it: an IPv4 client of a dual-stack socket appears as ::ffff:192.0.2.1."""
    return address.removeprefix("::ffff:")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        if self.path == "/large":
            self.wfile.write(bytes(LARGE))
            return
        if self.path != "/stream":
            self.wfile.write(f"{plain(self.client_address[0])}\n".encode())
            return
        end = time.monotonic() + FLOW_SECONDS
        number = 0
        while time.monotonic() < end:
            number += 1
            try:
                self.wfile.write(f"{number}\n".encode())
            except OSError:
                return
            time.sleep(INTERVAL)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


class TcpServer(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 64

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class UdpServer:
    """Answers from the address that was asked: a wildcard socket alone would take the outgoing interface's."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        self.socket.bind(("::", port))
        self.flows: dict[tuple[str, int], threading.Event] = {}

    def serve_forever(self) -> None:
        while True:
            data, ancillary, dummy, sender = self.socket.recvmsg(2048, 256)
            # address asked, interface 0: the route decides where the answer leaves
            local = [(level, kind, info[:16] + bytes(4)) for level, kind, info in ancillary if kind == socket.IPV6_PKTINFO]
            client = (sender[0], sender[1])
            if data == b"stop":
                if client in self.flows:
                    self.flows[client].set()
            elif data == b"start":
                if client not in self.flows:
                    self.flows[client] = threading.Event()
                    threading.Thread(target=self.send_flow, args=(local, sender, client), daemon=True).start()
            else:
                self.send(plain(sender[0]).encode(), local, sender)

    def send(self, data: bytes, local: list[tuple[int, int, bytes]], sender: tuple[str, int]) -> None:
        try:
            self.socket.sendmsg([data], local, 0, sender)
        except OSError:
            pass  # no route at this moment, or refused by a filter: the next one may pass

    def send_flow(self, local: list[tuple[int, int, bytes]], sender: tuple[str, int], client: tuple[str, int]) -> None:
        end = time.monotonic() + FLOW_SECONDS
        number = 0
        while time.monotonic() < end and not self.flows[client].wait(INTERVAL):
            number += 1
            self.send(str(number).encode(), local, sender)
        del self.flows[client]


def serve(listens: list[str]) -> None:
    for listen in listens:
        proto, port = listen.split(":")
        server: TcpServer | UdpServer = TcpServer(("::", int(port)), Handler) if proto == "tcp" else UdpServer(int(port))
        threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Event().wait()


def probe(proto: str, address: str, port: int) -> int:
    try:
        if proto == "tcp":
            socket.create_connection((address, port), PROBE_SECONDS).close()
        else:
            udp_socket(address, port, PROBE_SECONDS, b"who").recv(2048)
    except OSError:
        return 1
    return 0


ENDED = threading.Event()


def follow(proto: str, address: str, port: int) -> int:
    threading.Thread(target=end_with_stdin, daemon=True).start()
    threading.Timer(FLOW_SECONDS, ENDED.set).start()
    (follow_tcp if proto == "tcp" else follow_udp)(address, port)
    os._exit(0)


def end_with_stdin() -> None:
    sys.stdin.read()
    ENDED.set()


def follow_tcp(address: str, port: int) -> None:
    """A patient client: connects again when the connection has ended or is silent for a second, and says so."""
    while not ENDED.is_set():
        try:
            with socket.create_connection((address, port), 1) as connection:
                connection.sendall(b"GET /stream HTTP/1.0\r\n\r\n")
                print("connected", flush=True)
                while not ENDED.is_set() and connection.recv(2048):
                    print("packet", flush=True)
        except OSError:
            time.sleep(INTERVAL)


def follow_udp(address: str, port: int) -> None:
    """Traffic both ways, as in a call: "start" is repeated, which the server of a running flow ignores."""
    connection = udp_socket(address, port, INTERVAL * 2, b"start")
    while not ENDED.is_set():
        try:
            connection.recv(2048)
            print("packet", flush=True)
            connection.send(b"start")
        except OSError:
            time.sleep(INTERVAL)
            with contextlib.suppress(OSError):
                connection.send(b"start")
    with contextlib.suppress(OSError):
        connection.send(b"stop")


def udp_socket(address: str, port: int, timeout: float, first: bytes) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_DGRAM)
    connection.settimeout(timeout)
    connection.connect((address, port))
    connection.send(first)
    return connection


def main(arguments: list[str]) -> int:
    if arguments[0] == "serve":
        serve(arguments[1:])
    proto, address, port = arguments[1], arguments[2], int(arguments[3])
    return {"probe": probe, "follow": follow}[arguments[0]](proto, address, port)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
