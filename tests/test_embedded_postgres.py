"""The embedded PostgreSQL: one server for all its users, gone with the last of them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from config import embedded_postgres
from config.embedded_postgres import place
from config.embedded_postgres import server as server_module
from tests.racing import wait_until

# Says where the server is, and then holds it until a line or the end of its input comes.
USER = """
import sys
from pathlib import Path
from config import embedded_postgres
server = embedded_postgres.start(Path(sys.argv[1]), durable=False)
print(server.url, flush=True)
sys.stdin.readline()
server.release()
"""
TREE = Path(__file__).resolve().parent.parent


def user(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USER, home],
        cwd=TREE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told_url(of: subprocess.Popen[str]) -> str:
    assert of.stdout
    assert of.stderr
    return of.stdout.readline().strip() or pytest.fail(of.stderr.read())


def leave(who: subprocess.Popen[str]) -> None:
    said, complaint = who.communicate("\n", timeout=60)
    assert (who.returncode, said, complaint) == (0, "", "")


def postmaster(home: Path) -> int:
    return int((home / "data" / "postmaster.pid").read_text().splitlines()[0])


def alive(pid: int) -> bool:
    return bool(server_module._command(pid))  # the remains of a process that nobody waited for do not count


def stopped(home: Path) -> bool:
    return not (home / "data" / "postmaster.pid").exists()


def ask(url: str, question: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(question).fetchone()
    assert row
    return row[0]


@contextmanager
def kept_clean(home: Path) -> Iterator[Path]:
    """Whatever happened, no server is left, and no folder elsewhere."""
    try:
        yield home
    finally:
        place = home.resolve()
        if place.exists():
            for server in [*embedded_postgres.held]:
                if server.home == place:
                    server.release()
            wait_until(lambda: stopped(place) or not alive(postmaster(place)))
        if home.is_symlink():
            assert place.parent == embedded_postgres.ELSEWHERE
            shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "a folder with spaces"
    folder.mkdir()
    with kept_clean(folder / ".pg") as place:
        yield place


def test_it_starts_one_server_for_five_that_come_at_once(home: Path) -> None:
    users = [user(home) for _ in range(5)]
    urls = {told_url(each) for each in users}
    assert len(urls) == 1
    assert ask(urls.pop(), "SELECT current_setting('server_version_num')::int >= 150000") is True
    pid = postmaster(home)
    for each in users:
        assert alive(pid)
        leave(each)
    assert not alive(pid)
    assert stopped(home)


def test_it_stays_for_those_who_are_left(home: Path) -> None:
    first, second = user(home), user(home)
    url = told_url(first)
    assert told_url(second) == url
    pid = postmaster(home)
    leave(first)
    assert ask(url, "SELECT 1") == 1
    assert postmaster(home) == pid
    leave(second)
    assert stopped(home)


def test_it_ends_when_its_last_user_is_killed(home: Path) -> None:
    first, second = user(home), user(home)
    url = told_url(first)
    told_url(second)
    pid = postmaster(home)
    for each in (first, second):
        assert ask(url, "SELECT 1") == 1
        each.kill()
        each.communicate()
    wait_until(lambda: stopped(home) and not alive(pid))


def test_it_keeps_its_data_and_its_port(home: Path) -> None:
    server = embedded_postgres.start(home, durable=False)
    url = server.url
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    server.release()
    assert stopped(home)
    server = embedded_postgres.start(home, durable=False)
    assert server.url == url
    assert ask(url, "SELECT answer FROM kept") == 42
    server.release()


def test_it_recovers_when_the_server_was_killed(home: Path) -> None:
    survivor = embedded_postgres.start(home, durable=False)
    with psycopg.connect(survivor.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    killed = postmaster(home)
    os.kill(killed, signal.SIGKILL)
    server = embedded_postgres.start(home, durable=False)
    assert ask(server.url, "SELECT answer FROM kept") == 42
    assert postmaster(home) != killed
    survivor.release()
    assert ask(server.url, "SELECT 1") == 1
    server.release()
    assert stopped(home)


def test_it_takes_over_a_server_whose_watcher_was_killed(home: Path) -> None:
    survivor = embedded_postgres.start(home, durable=False)
    orphan = postmaster(home)
    assert survivor.watcher
    survivor.watcher.kill()
    survivor.watcher.wait()
    server = embedded_postgres.start(home, durable=False)
    assert not alive(orphan)
    assert ask(server.url, "SELECT 1") == 1
    survivor.release()
    assert server.watcher
    server.watcher.kill()
    server.watcher.wait()
    pid = postmaster(home)
    server.release()
    assert not alive(pid)


def test_it_is_not_misled_by_a_process_that_got_the_number_of_a_dead_server(home: Path) -> None:
    embedded_postgres.start(home, durable=False).release()
    program = "print('here', flush=True); input()"
    stranger = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert stranger.stdout
    stranger.stdout.readline()  # a process that only just began has no command line yet
    try:
        (home / "data" / "postmaster.pid").write_text(f"{stranger.pid}\n{home}\n0\n1\n\n\n\nready\n")
        server = embedded_postgres.start(home, durable=False)
        assert ask(server.url, "SELECT 1") == 1
        server.release()
        assert stranger.poll() is None
    finally:
        stranger.communicate(b"\n")


def test_it_moves_to_another_port_when_its_own_was_taken(home: Path) -> None:
    embedded_postgres.start(home, durable=False).release()
    with socket.create_server(("127.0.0.1", int((home / "port").read_text()))) as taken:
        server = embedded_postgres.start(home, durable=False)
        assert f":{taken.getsockname()[1]}/" not in server.url
        assert ask(server.url, "SELECT 1") == 1
        server.release()


def test_it_says_why_it_did_not_start(home: Path) -> None:
    embedded_postgres.start(home, durable=False).release()
    with (home / "data" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    with pytest.raises(embedded_postgres.EmbeddedPostgresError, match="did not start") as refused:
        embedded_postgres.start(home, durable=False)
    assert "no_such_setting" in str(refused.value)
    assert not embedded_postgres.held or embedded_postgres.held[-1].home != home.resolve()


def test_it_refuses_the_data_of_another_version_by_a_sentence(home: Path) -> None:
    embedded_postgres.start(home, durable=False).release()
    (home / "data" / "PG_VERSION").write_text("14\n")
    with pytest.raises(embedded_postgres.EmbeddedPostgresError, match="was made by PostgreSQL 14"):
        embedded_postgres.start(home, durable=False)


def test_it_lets_nobody_else_in(home: Path) -> None:
    server = embedded_postgres.start(home, durable=False)
    assert ask(server.url, "SHOW listen_addresses") == "127.0.0.1"
    assert ask(server.url, "SHOW unix_socket_directories") == ""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url.replace("desk:", "desk:x", 1))
    server.release()
    assert stat.S_IMODE((home / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "data").stat().st_mode) == 0o700
    assert not stat.S_IMODE(home.stat().st_mode) & 0o007
    assert embedded_postgres.kept_secret(home / "secret_key") == (home / "secret_key").read_text()
    assert stat.S_IMODE((home / "secret_key").stat().st_mode) == 0o600


def test_it_is_utf8_sorted_by_code_point(home: Path) -> None:
    server = embedded_postgres.start(home, durable=False)
    assert ask(server.url, "SHOW server_encoding") == "UTF8"
    assert ask(server.url, "SELECT datcollate FROM pg_database WHERE datname = 'desk'") == "C"
    server.release()


def test_it_gives_up_durability_only_where_told(home: Path) -> None:
    durable = embedded_postgres.start(home)
    assert [ask(durable.url, f"SHOW {name}") for name in embedded_postgres.NOT_DURABLE] == ["on", "on"]
    durable.release()


def test_it_writes_no_codes_into_its_log(home: Path) -> None:
    server = embedded_postgres.start(home, durable=False)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE vouchers (code text UNIQUE)")
        for statement in (
            "INSERT INTO vouchers VALUES ('JS101-SECRET'), ('JS101-SECRET')",
            "SELECT 'JS101-SECRET'::integer",
            "SELECT 'buyer-SECRET@example.com' FROM nowhere",
        ):
            with pytest.raises(psycopg.Error):
                connection.execute(statement)
    log = (home / "log").read_text()
    assert "ready to accept connections" in log
    assert "SECRET" not in log
    server.release()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run it as somebody else")
def test_it_lies_elsewhere_as_root_under_a_private_folder(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with kept_clean(private / ".pg") as home:
        server = embedded_postgres.start(home, durable=False)
        assert home.is_symlink()
        assert home.resolve().parent == embedded_postgres.ELSEWHERE
        assert (home / "data").stat().st_uid != 0
        assert ask(server.url, "SELECT 1") == 1
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        server.release()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run it as somebody else")
def test_it_copies_a_server_that_its_account_cannot_reach(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, version = place.installed()
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    for installed in folder.parents[2].glob("embedded_postgres*"):
        shutil.copytree(installed, private / installed.name)
    unreachable = private / folder.relative_to(folder.parents[2])
    monkeypatch.setattr(place, "installed", lambda: (unreachable, version))
    server = embedded_postgres.start(home, durable=False)
    copied = (home / "postgres").stat().st_ino
    assert ask(server.url, "SELECT 1") == 1
    server.release()
    embedded_postgres.start(home, durable=False).release()
    assert (home / "postgres").stat().st_ino == copied  # once is enough
