"""A Temporal server with its state in a file, to be stopped, killed and started again."""

from pathlib import Path

import devserver
from ports import find_free_port


class RestartableServer:
    """One server at one address, whichever process it is."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self.address = f"127.0.0.1:{find_free_port()}"

    async def start(self) -> None:
        """Return when it answers."""
        self._server = await devserver.start_dev_server(
            self._program,
            database=self._folder / "temporal.db",
            address=self.address,
            ui_port=None,
            log=self._folder / "temporal.log",
            on_message=lambda line: None,
        )

    async def kill(self) -> None:
        """End it as a power cut would."""
        process = self._server.process
        assert process is not None, f"somebody else's server runs at {self.address}"
        process.kill()
        await process.wait()

    async def stop(self) -> None:
        """End it; safe to call twice."""
        await self._server.stop()
