"""Run chunks by Dask: a local cluster of as many processes as chunks may run at once."""

from distributed import Client, LocalCluster
from peer import read_asked, run_chunk, say_done, wait_for_go


def main() -> None:
    asked = read_asked()
    with (
        LocalCluster(n_workers=asked.parallel, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(asked.parallel)
        wait_for_go()
        client.gather(client.map(run_chunk, asked.commands, pure=False))
        say_done()


if __name__ == "__main__":
    main()
