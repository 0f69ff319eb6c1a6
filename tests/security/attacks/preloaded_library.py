"""A job sets variables by which a program that is allowed loads code that is not, or writes where it should not."""

from support.attacks import STORE, job, main, repelled, run, succeeded

report = STORE.parent / "report-of-ffmpeg"
VARIABLES = {
    "LD_PRELOAD": str(STORE / "evil.so"),
    "PYTHONPATH": str(STORE),
    "BASH_ENV": str(STORE / "evil.sh"),
    "FFREPORT": f"file={report}",
    "PATH": str(STORE),
}


async def attack() -> None:
    said = []
    for name, value in VARIABLES.items():
        _, failure = await run(job(env={name: value}, command=["ffmpeg", "-version", "{output}"]))
        if f"env: {name} has programs load code" not in failure:
            succeeded(f"a render had {name}: {failure}")
        said.append(name)
    if report.exists():
        succeeded("ffmpeg wrote a report outside of the store")
    repelled(", ".join(said))


main(attack())
