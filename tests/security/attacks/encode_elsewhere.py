"""The options of an encoder hold another output, or a filter that reads or writes a file."""

from support.attacks import STORE, job, main, repelled, run, succeeded

aim = STORE.parent / "written-by-encode"
OPTIONS = [
    ["-c:v", "libx264", "-y", str(aim) + ".mp4"],
    ["-f", "tee", f"[f=mp4]{aim}.mp4"],
    ["-i", "/etc/passwd", "-map", "1"],
    ["-vf", f"metadata=print:file={aim}"],
    ["-vf", "movie=/etc/passwd"],
    ["-vstats_file", str(aim)],
    ["-x264-params", f"pass=1:stats={aim}"],
    [str(aim) + ".png"],
]


async def attack() -> None:
    film = {"output": "attack/film.mp4", "fps": "25", "chunk_output": "attack/{frame:04}.png"}
    for options in OPTIONS:
        _, failure = await run(job(**film, encode=options))
        if "encode: " not in failure:
            succeeded(f"{options} was accepted: {failure}")
    if written := list(STORE.parent.glob("written-by-encode*")):
        succeeded(f"{written} was written")
    repelled(f"{len(OPTIONS)} kinds of options")


main(attack())
