"""The packed sidecars of a film: all come back as they were, in their order."""

from activities.attempts.proven_chunks import ProvenChunks
from activities.stores.job_folder import Sidecar
from longtake.stores.publications import PublishedFile


def sidecar(chunk: int) -> Sidecar:
    file = PublishedFile(path=f"/films/{chunk}.mp4", size_bytes=chunk, sha256=f"{chunk:064}", attempt_path="/attempt")
    return Sidecar(key=f"{chunk:06}", digest="d" * 64, attempt=f"attempt-{chunk}", files=(file,), frames=chunk % 3 + 1)


def test_sidecars_come_back_as_they_were() -> None:
    wanted = [sidecar(chunk) for chunk in range(0, 500, 2)]
    packed = ProvenChunks(wanted)

    assert list(packed) == wanted
    assert len(packed) == 250
    assert packed[95:105] == wanted[95:105]
    assert [packed[0], packed[-1], packed[249], packed[100]] == [wanted[0], wanted[-1], wanted[-1], wanted[100]]
    assert list(packed.numbers) == list(range(0, 500, 2))
    assert packed.frames == sum(one.frames for one in wanted)


def test_a_film_may_have_no_chunks() -> None:
    packed = ProvenChunks()

    assert not packed
    assert (list(packed), packed[:10], packed.frames) == ([], [], 0)
