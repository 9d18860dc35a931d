#!/usr/bin/env python3
"""A server in a control group of 512 MiB, under clients that want more: it refuses them, lives, and answers the next one.

usage: small_memory.py SMELT MODEL
Skips (77) where this user may not make control groups.
"""
import base64
import concurrent.futures
import http.client
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import time

LIMIT = 512 << 20
BODY = 15 << 20  # bytes, below the largest body that the server takes
ROOTS = [pathlib.Path("/sys/fs/cgroup/memory"), pathlib.Path("/sys/fs/cgroup")]
LIMIT_FILES = ["memory.limit_in_bytes", "memory.max"]


def make_group():
    for root, limit_file in zip(ROOTS, LIMIT_FILES):
        group = root / f"smelt_test_{os.getpid()}"
        try:
            group.mkdir()
            (group / limit_file).write_text(str(LIMIT))
            return group
        except OSError:
            if group.exists():
                group.rmdir()
    print("no control groups here")
    sys.exit(77)


class Server:
    def __init__(self, smelt, model, group):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [smelt, "serve", model, "--device", "cpu", "--port", str(self.port)], stdout=self.log, stderr=self.log,
            preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())))
        for _ in range(300):
            if self.ask("GET", "/health") == 200:
                return
            time.sleep(0.1)
        self.fail("does not start")

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, {"content-type": "application/json"})
            reply = connection.getresponse()
            reply.read()
            return reply.status
        except OSError as e:
            return repr(e)
        finally:
            connection.close()

    def connect(self, head):
        s = socket.create_connection(("127.0.0.1", self.port))
        s.settimeout(20)
        try:
            s.sendall(head)
        except OSError:
            pass  # refused already: that is an answer too
        return s

    def expect_alive(self, after):
        body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4})
        status = self.ask("POST", "/v1/chat/completions", body)
        if self.process.poll() is not None or status != 200:
            self.fail(f"after {after}: exit {self.process.poll()}, a chat is answered {status}")

    def fail(self, text):
        self.process.kill()
        self.log.seek(0)
        print(self.log.read()[-2000:].decode(errors="replace"))
        sys.exit(text)


def send_all(s, data):
    try:
        for _ in range(BODY // len(data) - 1):
            s.sendall(data)
    except OSError:
        pass


def half_websocket(server):
    key = base64.b64encode(os.urandom(16)).decode()
    s = server.connect((f"GET /ws/stream HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
    try:
        s.recv(4096)
        s.sendall(bytes([0x01, 0xFF]) + struct.pack(">Q", BODY) + b"mask")
    except OSError:
        return s
    send_all(s, b"x" * 65536)
    return s


def half_post(server):
    s = server.connect(f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\ncontent-length: {BODY}\r\n\r\n".encode())
    send_all(s, b" " * 65536)
    return s


def main(smelt, model):
    group = make_group()
    server = Server(smelt, model, group)
    pool = concurrent.futures.ThreadPoolExecutor(60)
    try:
        for name, half in (("unfinished WebSocket messages", half_websocket), ("unfinished bodies", half_post)):
            held = list(pool.map(half, [server] * 60))
            server.expect_alive(name)
            for s in held:
                s.close()
        crowds = {
            "long texts to tokenize": ("/tokenize", {"content": "a b c " * (BODY // 6), "with_pieces": True}, 6),
            "echoes of many answers": ("/v1/completions", {"prompt": ["word " * 200] * 64, "echo": True, "logprobs": 5, "n": 16, "max_tokens": 4}, 6),
            "many messages": ("/api/chat", {"messages": [{"role": "user", "content": "x"}] * 200_000}, 6),
        }
        for name, (path, body, n) in crowds.items():
            text = json.dumps(body)
            statuses = list(pool.map(lambda _: server.ask("POST", path, text), range(n)))
            server.expect_alive(name)
            if any(s not in (200, 400, 413, 503) for s in statuses):
                server.fail(f"{name}: answered {statuses}")
        for s in ("[" * 1_000_000, '{"messages":[' + "{}," * 3_000_000 + "{}]}"):
            if (status := server.ask("POST", "/v1/chat/completions", s)) not in (400, 413):
                server.fail(f"{s[:20]}…: answered {status}")
        server.expect_alive("large JSON")
        server.process.terminate()
        if (status := server.process.wait(60)) != 0:
            server.fail(f"exit {status} after SIGTERM")
    finally:
        server.process.kill()
        server.process.wait()
        group.rmdir()


main(*sys.argv[1:])
