"""PostgreSQL of this host, with a cluster of the farm's own."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.production.accounts import Account
from deploy.production.component import Component, run_once
from deploy.production.debian import libraries, unpack

_DEBIAN = "usr/lib/postgresql"


def find_postgres(folder: Path, say: Callable[[str], None]) -> Path:
    """Return the folder with the programs of PostgreSQL: of PATH, of Debian's place for them, or fetched.

    Args:
        folder: Where those that are fetched are put.
        say: Told what is tried.

    Raises:
        PackageError: There is none, and it cannot be fetched.
    """
    for program in (shutil.which("postgres"), *_newest_first(Path("/"))):
        # A link on PATH stands beside the links of others; the programs look for each other where they really are.
        if program and (place := Path(program).resolve().parent) and (place / "initdb").exists():
            return place
    say("PostgreSQL is neither on PATH nor in /usr/lib/postgresql.")
    root = unpack("postgresql", folder / "postgresql", say)
    return _newest_first(root)[0].parent


def postgres_environment(programs: Path) -> dict[str, str]:
    """Return what the programs need to find their libraries, where these are not installed."""
    root = next((above for above in programs.parents if (above / _DEBIAN).is_dir()), Path("/"))
    found = [] if root == Path("/") else libraries(root)
    return {"LD_LIBRARY_PATH": os.pathsep.join(map(str, found))} if found else {}


@dataclass(frozen=True)
class Cluster:
    """The files of a PostgreSQL of the farm's own.

    Args:
        programs: The folder of `find_postgres`.
        data: Where the files lie.
        account: Who runs it.
        environment: The environment of the compose file's service; all that its processes see.
    """

    programs: Path
    data: Path
    account: Account
    environment: Mapping[str, str]

    async def make(self, log: Path) -> None:
        """Make the files, with the superuser and the password of the environment; do nothing where they are.

        An attempt that was interrupted is begun again.

        Raises:
            ProductionError: They cannot be made.
        """
        made = self.data / "made"
        if made.exists():
            return
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.parent.mkdir(parents=True, exist_ok=True)
        self.account.own(self.data)
        with tempfile.NamedTemporaryFile(dir=self.data.parent, mode="w") as secret:
            secret.write(self.environment["POSTGRES_PASSWORD"])
            secret.flush()
            if self.account.uid >= 0:
                os.chown(secret.name, self.account.uid, self.account.gid)
            words = ["--pgdata", str(self.data / "cluster"), "--username", self.environment["POSTGRES_USER"]]
            words += [f"--pwfile={secret.name}", "--auth=scram-sha-256"]
            words += self.environment["POSTGRES_INITDB_ARGS"].split()
            await run_once("initdb", [str(self.programs / "initdb"), *words], self.environment, log, self.account)
        made.touch()

    def component(self, command: Sequence[str], port: int, log: Path) -> Component:
        """Return the server on these files.

        Args:
            command: The compose file's command: the program and its options.
            port: Where it listens on the loopback interface.
            log: File for its output.
        """
        program, *options = [self._readable(word) for word in command]
        options += ["-D", str(self.data / "cluster"), "-c", f"port={port}", "-c", "listen_addresses=127.0.0.1"]
        # A socket in the file system would need a folder of its own; everybody comes by TCP.
        options += ["-c", "unix_socket_directories="]

        async def ready(component: Component) -> bool:
            return "database system is ready to accept connections" in component.printed

        return Component(
            "postgres",
            [str(self.programs / program), *options],
            self.environment,
            log,
            ready,
            account=self.account,
            # The compose file says so too: end the sessions, and stop.
            stopping=signal.SIGINT,
        )

    def _readable(self, option: str) -> str:
        """Return an option with a copy of the file it names, which the account can read wherever the file lies."""
        name, _, path = option.partition("=")
        if not Path(path).is_absolute():
            return option
        copy = self.data / Path(path).name
        shutil.copyfile(path, copy)
        copy.chmod(0o644)
        return f"{name}={copy}"


def _newest_first(root: Path) -> list[Path]:
    found = root.glob(f"{_DEBIAN}/*/bin/postgres")
    return sorted(found, key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0, reverse=True)
