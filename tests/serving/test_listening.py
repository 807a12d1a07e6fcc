"""Whoever floods or dawdles loses the connection; whoever is being served does not."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from serving.errors import ServingError
from serving.listening import bind
from serving.publish import publish
from serving.settings import ApiConfig, ServingConfig

ROOT = Path(__file__).parents[2]
HURRIED = {"request_timeout_s": 0.4, "store_timeout_s": 30.0, "log": "none"}
HEAD = b"GET /v1/release HTTP/1.1\r\nhost: x\r\n"
POST = b"POST /v1/recommendations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@pytest.fixture
def connect(sealed, store, serving_of):
    """Serve a release with the settings given; return what opens a connection to it."""
    publish(sealed("r1"), store)
    opened = []

    def make(**api):
        settings = ServingConfig(store=str(store), api=ApiConfig(**(HURRIED | api)))
        block = serving_of(settings)
        host, port = block.__enter__().removeprefix("http://").split(":")
        opened.append(block)

        def connection():
            made = socket.create_connection((host, int(port)), timeout=30)
            opened.append(closing(made))
            made.settimeout(30)
            return made

        return connection

    yield make
    for one in reversed(opened):
        one.__exit__(None, None, None)


def all_of(connection):
    """Read until the server closes; what came."""
    found = b""
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def one_of(connection):
    """Read one answer; what came."""
    found = b""
    while (length := re.search(rb"content-length: (\d+)\r\n(?:.+\r\n)*\r\n", found)) is None or (
        len(found) < length.end() + int(length[1])
    ):
        found += connection.recv(65536)
    return found


def still_answers(connect_once):
    connection = connect_once()
    connection.sendall(HEAD + b"connection: close\r\n\r\n")
    return all_of(connection).startswith(b"HTTP/1.1 200 ")


def test_a_head_that_does_not_come_is_not_waited_for(connect):
    once = connect()
    for begun in (b"", b"GET", HEAD, HEAD + b"x: y\r\n"):
        connection = once()
        connection.sendall(begun)
        said = all_of(connection)
        assert said.startswith(b"HTTP/1.1 408 ") and b"did not come in time" in said
    assert still_answers(once)


def test_a_head_that_drips_has_no_more_time_and_neither_has_the_second(connect):
    once = connect()
    for first in (b"", HEAD + b"\r\n"):
        connection = once()
        connection.sendall(first)
        if first:
            assert one_of(connection).startswith(b"HTTP/1.1 200 ")
        connection.sendall(HEAD)

        def drip(connection=connection):
            try:
                while True:
                    connection.sendall(b"x: y\r\n")
                    time.sleep(0.05)
            except OSError:
                pass

        dripping = threading.Thread(target=drip)
        dripping.start()
        assert b"HTTP/1.1 408 " in all_of(connection)
        connection.close()
        dripping.join()
    assert still_answers(once)


def test_a_body_that_drips_has_no_more_time(connect):
    once = connect()
    connection = once()
    connection.sendall(POST + b"content-length: 1000\r\n\r\n{")
    assert b"the body did not come in time" in all_of(connection)
    chunked = once()
    chunked.sendall(POST + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n")
    assert b"HTTP/1.1 408 " in all_of(chunked)
    unread = once()
    unread.sendall(HEAD + b"content-length: 1000\r\n\r\n{")
    assert b"HTTP/1.1 200 " in all_of(unread)  # answered, and closed all the same
    assert still_answers(once)


@pytest.mark.parametrize(
    "flood",
    [
        HEAD + b"".join(b"x-%d: y\r\n" % at for at in range(101)) + b"\r\n",
        HEAD + b"x: " + b"y" * 20_000 + b"\r\n\r\n",
        HEAD + b"x: " + b"y" * 400_000,
        HEAD + b"x: y\r\n" * 200_000,
        b"GET /v1/users/" + b"a" * 20_000 + b"/recommendations HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /" + b"a" * 400_000,
        HEAD + b"".join(b"%05d" % at + b"y" * 300 + b": z\r\n" for at in range(2000)),
    ],
    ids=["many", "long", "endless", "endlessly many", "long path", "endless path", "long names"],
)
def test_a_flood_of_headers_is_refused(connect, flood):
    once = connect(request_timeout_s=30.0)
    connection = once()
    with suppress(OSError):  # refused while it was still being sent
        connection.sendall(flood)
    said = all_of(connection)
    assert not said or said.startswith(b"HTTP/1.1 431 ")
    assert still_answers(once)


@pytest.mark.parametrize(
    "strange",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
     HEAD + b"content-length: -1\r\n\r\n", HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n",
     HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
     HEAD + b"bad header\r\n\r\n", HEAD + b"x: a\x00b\r\n\r\n", b"\x00" * 100],
)  # fmt: skip
def test_what_is_no_http_is_refused(connect, strange):
    once = connect()
    connection = once()
    connection.sendall(strange)
    assert all_of(connection).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 408 "))
    assert still_answers(once)


def test_a_whole_request_in_one_piece_is_no_flood(connect):
    body = json.dumps({"user_ids": ["ann"] * 1000, "k": 1}).encode() + b" " * 200_000
    connection = connect(request_timeout_s=30.0)()
    one = POST + b"content-length: %d\r\n\r\n" % len(body) + body
    connection.sendall(one + one + HEAD + b"connection: close\r\n\r\n")
    assert all_of(connection).count(b"HTTP/1.1 200 ") == 3


def test_one_connection_too_many_is_told_so(connect):
    once = connect(max_connections=2, request_timeout_s=30.0)
    held = [once(), once()]
    for connection in held:
        connection.sendall(HEAD + b"\r\n")
        assert one_of(connection).startswith(b"HTTP/1.1 200 ")
    assert all_of(once()).startswith(b"HTTP/1.1 503 ")
    held[0].close()
    held[1].sendall(HEAD + b"connection: close\r\n\r\n")
    assert all_of(held[1]).startswith(b"HTTP/1.1 200 ")
    while not still_answers(once):
        pass


def test_whoever_does_not_read_keeps_nobody_else_waiting(connect):
    once = connect()
    body = json.dumps({"user_ids": ["ann"] * 1000}).encode()
    deaf = once()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.setblocking(False)
    for _ in range(5):
        try:
            deaf.sendall(POST + b"content-length: %d\r\n\r\n" % len(body) + body)
        except BlockingIOError:
            break
    assert still_answers(once)


@pytest.fixture
def process(store, sealed):
    """`recsys serve` in a process of its own; its port, and the process."""
    publish(sealed("r1"), store)
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "recsys.cli", "serve", "--store", str(store), "--port",
               str(port), "--set", "serving.api.drain_s=1.5"]  # fmt: skip
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/ready").raise_for_status()
            break
        except httpx.HTTPError:
            assert running.poll() is None
            time.sleep(0.05)
    yield port, running
    running.kill()
    running.communicate()


def test_told_to_stop_it_says_so_first_and_ends_what_it_began(process):
    port, running = process
    url = f"http://127.0.0.1:{port}"
    body = b'{"user_ids": ["ann"]}'
    with socket.create_connection(("127.0.0.1", port), timeout=30) as begun:
        begun.sendall(POST + b"content-length: %d\r\n\r\n" % len(body) + body[:5])
        assert httpx.get(f"{url}/ready").status_code == 200
        os.kill(running.pid, signal.SIGTERM)
        while (ready := httpx.get(f"{url}/ready")).status_code == 200:
            pass
        assert (ready.status_code, ready.json()["detail"]) == (503, "told to stop")
        assert httpx.get(f"{url}/v1/users/ann/recommendations").status_code == 200
        while True:  # until it takes no new connection
            try:
                httpx.get(f"{url}/health")
            except httpx.HTTPError:
                break
        assert running.poll() is None  # waits for what was begun
        begun.sendall(body[5:])
        assert b"HTTP/1.1 200 " in all_of(begun)
    assert running.wait(30) in (0, -signal.SIGTERM)


def test_every_line_of_the_log_is_json_without_the_user(process):
    port, running = process
    httpx.get(f"http://127.0.0.1:{port}/v1/users/secret-user/recommendations")
    running.terminate()
    _, said = running.communicate(timeout=30)
    lines = [json.loads(line) for line in said.splitlines()]
    assert any(line.get("route", "").startswith("/v1/users/{") for line in lines)
    assert any("listening on http://127.0.0.1" in line["message"] for line in lines)
    assert "secret-user" not in said


def test_a_place_that_is_taken_is_refused_in_words():
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"cannot listen on 127.0.0.1, port {port}"):
            bind("127.0.0.1", port)
