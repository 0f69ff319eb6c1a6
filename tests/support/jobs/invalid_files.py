"""Job files with one thing wrong in each, and what the sentence about it must say.

One table for `load_job` and for the command line: `BAD_FILES` holds a name, the file's name, its bytes and a part of
the sentence that names the field and the fix.
"""

# ruff: noqa: E501  # a table is read by rows
import json
from typing import NamedTuple

GOOD: dict[str, object] = {
    "frames": {"first": 0, "count": 100, "per_chunk": 25},
    "fps": 30,
    "command": ["render", "{start}", "{output}"],
    "chunk_output": "chunks/{chunk:06}.mp4",
}
GOOD_YAML = """\
frames: {first: 0, count: 100, per_chunk: 25}
fps: 30
command: [render, "{start}", "{output}"]
chunk_output: "chunks/{chunk:06}.mp4"
"""
HELIOS: dict[str, object] = {
    "metadata": {"totalFrames": 10, "fps": 30, "width": 64, "height": 64, "duration": 1},
    "chunks": [{"id": 0, "startFrame": 0, "frameCount": 10, "outputFile": "a.mov", "command": "helios -o a.mov"}],
    "mergeCommand": "helios merge film.mp4 a.mov",
}


class BadFile(NamedTuple):
    """A job file and a part of the sentence that refuses it."""

    name: str
    file: str
    raw: bytes
    fragment: str


def changed(*absent: str, **changes: object) -> bytes:
    """The good job as JSON, without some keys and with others."""
    kept = {key: value for key, value in GOOD.items() if key not in absent}
    return json.dumps(kept | changes).encode()


def listed(*chunks: object, **changes: object) -> bytes:
    """The good job with a list of chunks for its frames."""
    return changed("frames", chunks=list(chunks), **changes)


def chunk(start: int = 0, count: int = 10, **others: object) -> dict[str, object]:
    return {"start": start, "count": count, **others}


def rules_are(value: object) -> bytes:
    return changed(retry={"rules": value})


def rules(*listed: object) -> bytes:
    """The good job with failure rules."""
    return rules_are(list(listed))


def limited(value: object) -> bytes:
    """The good job going on after failed chunks, up to a limit."""
    return changed(on_chunk_failure="continue", max_failed_chunks=value)


def progress(**fields: object) -> bytes:
    return changed(progress=fields)


def helios(**changes: object) -> bytes:
    return json.dumps(HELIOS | changes).encode()


def helios_chunk(**changes: object) -> bytes:
    first: dict[str, object] = HELIOS["chunks"][0]  # type: ignore[index]  # a literal above
    return helios(chunks=[{key: value for key, value in (first | changes).items() if value is not None}])


def _bomb() -> str:
    """Ten lines of YAML that stand for ten thousand million values."""
    lines = ["env:", "  A0: &v0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"  A{n}: &v{n} [{', '.join([f'*v{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines) + "\n"


_JSON = [
    # unknown keys, with the nearest known one
    ("a misspelt key", changed(comand="x"), "comand: is not a key of a job; did you mean command?"),
    ("a camelCase key", changed(maxParallel=3), "maxParallel: is not a key of a job; did you mean max_parallel?"),
    ("a key of nothing known", changed(zzzz=1), "zzzz: is not a key of a job; known here: name, frames, chunks"),
    ("a misspelt key of frames", changed(frames={"count": 9, "per_chnk": 3}), "frames.per_chnk: is not a key"),
    ("a nearest key of frames", changed(frames={"cuont": 9}), "frames.cuont: is not a key of a job; did you mean count?"),
    ("a misspelt key of retry", changed(retry={"atempts": 9}), "retry.atempts: is not a key of a job; did you mean attem"),
    ("a misspelt key of timeouts", changed(timeouts={"stall": 9}), "timeouts.stall: is not a key of a job; did you mean stall_seconds?"),
    ("a misspelt key of a chunk", listed(chunk(), chunk(10, outptu="x")), "chunks[1].outptu: is not a key of a job; did you mean output?"),
    ("a misspelt key of a list in a file", changed("frames", chunks={"pth": "x"}), "chunks.pth: is not a key of a job; did you mean path?"),
    ("a key with a newline", changed(**{"a\nb": 1}), "a\\nb: is not a key"),
    ("a key that moves the cursor", changed(**{"\x1b[2J": 1}), "\\x1b[2J: is not a key"),
    ("a key of 5,000 letters", changed(**{"k" * 5000: 1}), "kkk...: is not a key"),
    ("a helios key among ours", changed(mergeCommand="cat"), "mergeCommand: is not a key of a job; did you mean merge_command?"),
    # frames
    ("no frames and no chunks", changed("frames"), "frames: is missing; give frames to cut into chunks, or an explicit list"),
    ("frames as a number", changed(frames=100), "frames: is 100; write {count: 100}, or"),
    ("frames as a list of fractions", changed(frames=[1, 1.5]), "frames: has 1.5, which is no frame; write numbers, and ranges as in 1-10"),
    ("frames as words", changed(frames="1-10, all"), "frames: has 'all', which is no frame; write frames as in \"1-10,15,20-100x2\""),
    ("frames that run backwards", changed(frames="10-1"), "frames: has '10-1', which runs backwards; write 1-10"),
    ("frames with a step of 0", changed(frames="1-10x0"), "frames: has '1-10x0', a step of 0; make it at least 1"),
    ("frames of an empty text", changed(frames=" , "), "frames: is empty; write frames as in"),
    ("frames as text beyond 31 bits", changed(frames="0-2147483647"), "frames: has '0-2147483647', beyond 2147483647"),
    ("many frames that overlap", changed(frames="1-999999,7"), "frames: has parts that overlap, with 1,000,000 frames; write each frame once"),
    ("a count beside a range", changed(frames={"range": "1-10", "count": 5}), "frames: count stands beside range, which tells the frames; leave one of the two out"),
    ("a step of 0", changed(frames={"count": 5, "step": 0}), "frames.step: is 0; make it at least 1"),
    ("a step that no command is told of", changed(frames={"count": 5, "step": 2}), "command: has no {step}, and would render the frames between those of frames as well; put {step}"),
    ("no count", changed(frames={"first": 0}), "frames.count: is missing; add it"),
    ("a count of text", changed(frames={"count": "100"}), "frames.count: is '100'; write a whole number"),
    ("a count of 1.5", changed(frames={"count": 1.5}), "frames.count: is 1.5; write a whole number"),
    ("a count of 10.0", changed(frames={"count": 10.0}), "frames.count: is 10.0; write a whole number"),
    ("a count of true", changed(frames={"count": True}), "frames.count: is true; write a whole number"),
    ("a count of null", changed(frames={"count": None}), "frames.count: is null; write a whole number"),
    ("no frame at all", changed(frames={"count": 0}), "frames.count: is 0; make it at least 1"),
    ("fewer than no frames", changed(frames={"count": -5}), "frames.count: is -5; make it at least 1"),
    ("a first frame below 31 bits", changed(frames={"first": -(2**31), "count": 5}), "frames.first: is -2147483648; make it at least -2147483647"),
    ("chunks of no frames", changed(frames={"count": 5, "per_chunk": 0}), "frames.per_chunk: is 0; make it at least 1"),
    ("more frames than 31 bits", changed(frames={"count": 2**31}), "frames.count: is 2147483648; make it at most 2147483647"),
    ("frames that end beyond 31 bits", changed(frames={"first": 2**31 - 2, "count": 5}), "frames: end beyond 2147483647"),
    ("a count of 400 digits", changed(frames={"count": 10**400}), "frames.count: is 1000"),
    ("over a million chunks", changed(frames={"count": 2_000_001, "per_chunk": 2}), "frames: make 1,000,001 chunks, and a job has at most 1,000,000; raise per_chunk to at least 3"),
    ("a count that is not a number", b'{"frames": {"count": NaN}}', "frames.count: is nan; write a finite number"),
    ("a count beyond floats", b'{"frames": {"count": 1e999}}', "frames.count: is inf; write a finite number"),
    # chunks
    ("frames and chunks", changed(chunks=[chunk()]), "chunks: stands beside frames; give one of the two"),
    ("no chunk in the list", listed(), "chunks: is empty; list at least one chunk"),
    ("chunks as a number", changed("frames", chunks=3), "chunks: is 3; write a list"),
    ("chunks as text", changed("frames", chunks="all"), "chunks: is 'all'; write a list"),
    ("a chunk as a number", listed(3), "chunks[0]: is 3; write an object of keys and values"),
    ("a chunk of null", listed(chunk(), None), "chunks[1]: is null; write an object of keys and values"),
    ("a fourth chunk without count", listed(*(chunk(n * 10) for n in range(3)), {"start": 30}), "chunks[3].count: is missing; add it"),
    ("a fourth chunk with a count of text", listed(*(chunk(n * 10) for n in range(3)), chunk(30, count="x")), "chunks[3].count: is 'x'; write a whole number"),  # type: ignore[arg-type]
    ("a chunk of no frames", listed(chunk(0, 0)), "chunks[0].count: is 0; make it at least 1"),
    ("a chunk that ends beyond 31 bits", listed(chunk(2**31 - 1, 1)), "chunks[0]: its frames end beyond 2147483647; lower start or count"),
    ("a negative chunk id", listed(chunk(id=-1)), "chunks[0].id: is -1; make it at least 0"),
    ("two chunks with one id", listed(chunk(id=7), chunk(10, id=7)), "chunks[1].id: 7 stands twice; give each chunk an id of its own"),
    ("two chunks with one output", listed(chunk(output="a.mp4"), chunk(10, output="a.mp4")), "chunks[1].output: 'a.mp4' is also chunks[0].output"),
    ("one output through ./", listed(chunk(output="a.mp4"), chunk(10, output="./a.mp4")), "chunks[1].output: './a.mp4' is also chunks[0].output; give each output a path of its own"),
    ("one output through ..", listed(chunk(output="a.mp4"), chunk(10, output="b/../a.mp4")), "chunks[1].output: 'b/../a.mp4' is also chunks[0].output"),
    ("one output through base_dir", listed(chunk(output="a.mp4"), chunk(10, output="/farm/a.mp4"), base_dir="/farm"), "chunks[1].output: '/farm/a.mp4' is also chunks[0].output"),
    ("one output through a template", listed(chunk(0), chunk(0), chunk_output="c/{start}.mp4"), "chunks[1].output: 'c/0.mp4' is also chunks[0].output"),
    ("one output for a whole list", listed(chunk(0), chunk(10), chunk_output="c.mp4"), "chunks[1].output: 'c.mp4' is also chunks[0].output"),
    ("images that two chunks write", listed(chunk(0), chunk(9), chunk_output="f/{frame:06}.png"), "chunks[1]: writes frame 9 to the same file as chunks[0]; cut the chunks so that none overlap"),
    ("images of unsorted chunks", listed(chunk(50), chunk(0, 60, output="./f/{frame}.png"), chunk_output="f/{frame}.png"), "chunks[0]: writes frame 50 to the same file as chunks[1]"),
    ("outputs of two kinds", listed(chunk(), chunk(10, output="b.exr")), "chunks[1].output: is 'b.exr', of the kind file, and chunks[0] writes video; let all chunks write one kind"),
    ("a chunk without any output", listed(chunk(output="a.mp4"), chunk(10), chunk_output=None), "chunk_output: is missing; say where a chunk's output goes"),
    ("a chunk without any command", listed(chunk(command=["r", "{output}"]), chunk(10), command=None), "command: is missing; write the program and arguments that render one chunk"),
    ("a chunk with an empty command", listed(chunk(command=" ")), "chunks[0].command: is empty; write the program and its arguments"),
    ("a chunk with an unknown word", listed(chunk(command="r {outptu}")), "chunks[0].command: the placeholder {outptu} is not known here; did you mean {output}?"),
    ("a chunk with an output in a folder", listed(chunk(output="a/")), "chunks[0].output: 'a/' names a folder; add a file name"),
    ("a chunk with {output} as output", listed(chunk(output="{output}.mp4")), "chunks[0].output: the placeholder {output} is not known here"),
    ("a list in a file with a bad digest", changed("frames", chunks={"path": "l.json", "sha256": "x", "count": 1}), "chunks.sha256: is 'x'; write what matches ^[0-9a-f]{64}$"),
    # fps
    ("a rounded rate", changed(fps=29.97), 'fps: write "30000/1001" instead of 29.97'),
    ("a whole rate as a float", changed(fps=25.0), "fps: write 25 instead of 25.0; a rounded rate"),
    ("a rate of true", changed(fps=True), 'fps: must be a whole number such as 30 or a fraction such as "30000/1001"'),
    ("a rate of zero", changed(fps=0), "fps: must be a whole number"),
    ("a negative rate", changed(fps=-25), "fps: must be a whole number"),
    ("a rate of words", changed(fps="fast"), "fps: must be a whole number"),
    ("a rate over nothing", changed(fps="30/0"), "fps: must be a whole number"),
    ("a rate as a list", changed(fps=[30]), "fps: must be a whole number"),
    ("a rate beyond cameras", changed(fps=1001), "fps: must be at most 1000 frames a second"),
    ("a rate that is not a number", b'{"frames": {"count": 1}, "fps": NaN}', "fps: is nan; write a finite number"),
    ("an endless rate", b'{"frames": {"count": 1}, "fps": -Infinity}', "fps: is -inf; write a finite number"),
    ("video without a rate", changed("fps"), 'fps: is missing; write the frame rate, as in 30 or "30000/1001"'),
    ("a film of images without a rate", changed("fps", chunk_output="f/{frame}.png", output="a.mp4"), "fps: is missing"),
    # commands
    ("no command", changed("command"), "command: is missing; write the program and arguments"),
    ("an empty command", changed(command=[]), "command: is empty; write the program and its arguments"),
    ("a blank command", changed(command=" \t"), "command: is empty; write the program and its arguments"),
    ("a blank program", changed(command=[" ", "{output}"]), "command: is empty"),
    ("a blank merge", changed(output="a.mp4", merge_command=""), "merge_command: is empty; write the program and its"),
    ("a blank check", changed(check="  "), "check: is empty; write the program and its arguments"),
    ("a command as a number", changed(command=7), "command: is 7; write a list"),
    ("a command as an object", changed(command={"run": "x"}), "command: is {'run': 'x'}; write a list"),
    ("an argument of 1.10", changed(command=["r", 1.10, "{output}"]), 'command[1]: is 1.1; write text, as in "1.1"'),
    ("an argument of null", changed(command=["r", None]), "command[1]: is null; write text"),
    ("an argument of true", changed(command=["r", True]), 'command[1]: is true; write text in quotes, as in "yes"'),
    ("an argument with NUL", changed(command=["r", "a\0", "{output}"]), "command: holds a NUL character; take it out"),
    ("a command that says no output", changed(command=["r"]), "command: has no {output} or {output_dir}"),
    ("a command with a literal {output}", changed(command=["r", "{{output}}"]), "command: has no {output} or {output_dir}"),
    # placeholders
    ("an unknown word", changed(command=["r", "{ouput}"]), "command: the placeholder {ouput} is not known here; did you mean {output}?"),
    ("a word of nothing known", changed(command=["r", "{zzz}"]), "command: the placeholder {zzz} is not known here; it can hold {chunk}, {start}"),
    ("a word of 5,000 letters", changed(command=["r", "{" + "x" * 5000 + "}"]), "xxx...} is not known here; it can hold {chunk}"),
    ("an open brace", changed(command=["r", "{output"]), "command: a single brace stands in '{output'; write {{ or }} for a literal brace"),
    ("a closing brace", changed(command=["r", "output}"]), "command: a single brace stands in 'output}'"),
    ("an open brace in a path", changed(chunk_output="a{{{chunk}.mp4{"), "chunk_output: a single brace stands in"),
    ("a closing brace in a film", changed(output="a}.mp4"), "output: a single brace stands in 'a}.mp4'"),
    ("a word in a film", changed(output="{chunk}.mp4"), "output: the placeholder {chunk} is not known here; it can hold {job}, {date}, {time}"),
    ("a hexadecimal number", changed(command=["r", "{output}", "{chunk:x}"]), "command: {chunk} takes only a width such as {frame:06}"),
    ("a width of a thousand million", changed(command=["r", "{output}", "{chunk:999999999}"]), "command: {chunk} takes only a width"),
    ("a width of 21 in a path", changed(chunk_output="c/{chunk:021}.mp4"), "chunk_output: {chunk} takes only a width"),
    ("a width from a word", changed(command=["r", "{output}", "{chunk:{start}}"]), "command: {chunk} takes only a width"),
    ("a width for text", changed(command=["r", "{output:>5}"]), "command: {output} takes only a width such as {frame:06}, for numbers"),
    ("an attribute", changed(command=["r", "{output.__class__}"]), "command: the placeholder {output.__class__} is not known here"),
    ("an index", changed(command=["r", "{output[0]}"]), "command: the placeholder {output[0]} is not known here; did you mean {output}?"),
    ("a position", changed(command=["r", "{0}"]), "command: the placeholder {0} is not known here"),
    ("no word", changed(command=["r", "{}"]), "command: the placeholder {} is not known here"),
    ("a conversion", changed(command=["r", "{output!r}"]), "command: {output} takes only a width"),
    ("{frame} in a command", changed(command=["r", "{output}", "{frame}"]), "command: the placeholder {frame} is not known here"),
    ("{chunk} in a merge", changed(output="a.mp4", merge_command="cat {chunk} {output}"), "merge_command: the placeholder {chunk} is not known here; it can hold {output}"),
    # paths
    ("no chunk_output", changed("chunk_output"), "chunk_output: is missing; say where a chunk's output goes, as in chunks/{chunk:06}.mp4"),
    ("an empty path", changed(chunk_output=""), "chunk_output: is empty; write a path or leave the key out"),
    ("a blank film", changed(output="  "), "output: is empty; write a path or leave the key out"),
    ("a path as a list", changed(chunk_output=["a"]), "chunk_output: is ['a']; write text"),
    ("a path as a number", changed(output=7), 'output: is 7; write text, as in "7"'),
    ("one path for all chunks", changed(chunk_output="a.mp4"), "chunk_output: is the same for every chunk; add {chunk}"),
    ("a path that differs in what .. takes back", changed(chunk_output="{chunk}/../a.mp4"), "chunk_output: is the same for every chunk"),
    ("a path that differs in what all share", changed(chunk_output="{count}.mp4"), "chunk_output: is the same for every chunk"),
    ("a path with NUL", changed(chunk_output="a\0{chunk}.mp4"), "chunk_output: holds a control character such as NUL or a newline; take it out"),
    ("a path with a newline", changed(output="a\nb.mp4"), "output: holds a control character"),
    ("a path with an escape sequence", changed(output="a\x1b[31m.mp4"), "output: holds a control character"),
    ("a home folder", changed(chunk_output="~/{chunk}.mp4"), "chunk_output: '~/{chunk}.mp4' starts with ~, which only a shell expands; write the path in full"),
    ("a trailing slash", changed(output="films/"), "output: 'films/' names a folder; add a file name"),
    ("a film named ..", changed(output="films/.."), "output: 'films/..' names a folder; add a file name"),
    ("a film named .", changed(output="films/."), "output: 'films/.' names a folder"),
    ("a path in the bookkeeping", changed(chunk_output=".longtake/{chunk}.mp4"), "lies in .longtake, which is Longtake's own; choose another folder"),
    ("a film in the bookkeeping", changed(output="a/../.longtake/a.mp4"), "output: 'a/../.longtake/a.mp4' lies in .longtake"),
    ("a name of 300 letters", changed(chunk_output="x" * 300 + "{chunk}.mp4"), "chunk_output: is longer than file systems allow; shorten it"),
    ("a path of 1,100 letters", changed(output="ab/" * 400 + "a.mp4"), "output: is longer than file systems allow"),
    ("a relative base_dir", changed(base_dir="farm"), "base_dir: 'farm' is no folder from the root; write one that starts with /"),
    ("a home base_dir", changed(base_dir="~/farm"), "base_dir: '~/farm' is no folder from the root"),
    ("a base_dir with a newline", changed(base_dir="/a\nb"), "base_dir: holds a control character"),
    ("a base_dir of null bytes", changed(base_dir="/a\0"), "base_dir: holds a control character"),
    # the film
    ("a film of an unknown kind", changed(output="film.gif"), "output: 'film.gif' is no film; end it in one of .avi, .m4v, .mkv, .mov, .mp4, .mxf, .ts, .webm"),
    ("an MXF film of another rate", changed(fps=15, output="a.mxf"), "fps: .mxf films hold no 15 frames a second, but the rates of television and cinema up to 120 (SMPTE ST 326); write one such as 24"),
    ("a film without a suffix", changed(output="film"), "output: 'film' is no film; end it in one of"),
    ("a film of files", changed(chunk_output="c/{chunk}.bin", output="a.mp4"), "output: no film can be made of chunks that are neither video nor {frame} images"),
    ("a film that is a chunk", changed(output="chunks/../chunks/000003.mp4"), "output: chunk 3 writes this file too; give each output a path of its own"),
    ("a film that is a chunk of a list", listed(chunk(output="a.mp4"), output="./a.mp4"), "chunks[0].output: 'a.mp4' is also output"),
    ("a film that is its sound", changed(output="a.mp4", audio="./a.mp4"), "audio: './a.mp4' is also output; give each output a path of its own"),
    ("sound that is a chunk", changed(output="a.mp4", audio="chunks/000000.mp4"), "audio: chunk 0 writes this file too"),
    ("sound without a film", changed(audio="a.wav"), "audio: there is no film it could go into; add output"),
    ("encoder options without a film", changed(encode=["-crf", "18"]), "encode: there is no film it could go into; add output"),
    ("colours without a film", changed(colour={"input": "linear", "output": "sRGB"}), "colour: there is no film it could go into; add output"),
    ("colours of video", changed(output="a.mp4", colour={"input": "linear", "output": "sRGB"}), "colour: is for films of {frame} images, and video is joined as it is; leave it out"),
    ("colours of one space", changed(output="a.mp4", colour={"input": "linear"}), "colour.output: is missing"),
    ("colours of no configuration", changed(output="a.mp4", colour={"input": "linear", "output": "sRGB", "config": "a.cube"}), "colour.config: is 'a.cube'; name a file that ends in .ocio or .ocioz, or a configuration such as ocio://default"),
    ("encoder options for video", changed(output="a.mp4", encode="-crf 18"), "encode: is for films of {frame} images, and video is joined as it is; leave it out"),
    ("sound beside a merge", changed(output="a.mp4", audio="a.wav", merge_command="m {output}"), "audio: is not for a merge_command, which makes the film alone"),
    ("a merge that says no film", changed(output="a.mp4", merge_command="m"), "merge_command: has no {output}; put it where the program is told what to write"),
    ("a merge of no film", changed(merge_command="m {output}"), "output: is missing, and merge_command names {output}; say where the film goes"),
    # the rest
    ("a name of null", changed(name=None), "name: is null; write text"),
    ("a name of nothing", changed(name=""), "name: is ''; write one line of text"),
    ("a blank name", changed(name=" "), "name: is ' '; write one line of text"),
    ("a name of two lines", changed(name="a\nb"), "name: is 'a\\nb'; write one line of text"),
    ("a name of 101 letters", changed(name="x" * 101), "shorten it to 100 characters"),
    ("half a character", b'{"frames": {"count": 1}, "name": "\\ud800"}', "name: '\\ud800' holds half a character; write it anew, in UTF-8"),
    ("no slot", changed(max_parallel=0), "max_parallel: is 0; make it at least 1"),
    ("10,001 slots", changed(max_parallel=10001), "max_parallel: is 10001; make it at most 10000"),
    ("slots as text", changed(max_parallel="8"), "max_parallel: is '8'; write a whole number"),
    ("slots of null", changed(max_parallel=None), "max_parallel: is null; write a whole number"),
    ("an unknown backend", changed(backend="moon"), "backend: is 'moon'; choose 'local'"),
    ("an unknown policy", changed(on_chunk_failure="ignore"), "on_chunk_failure: is 'ignore'; choose 'fail'"),
    ("no film for film_only", changed(film_only=True, if_exists="reuse"), "film_only: there is no film to make; add output"),
    ("film_only without reuse", changed(film_only=True, output="film.mp4"), "film_only: takes over what other jobs have rendered; set if_exists to reuse"),
    ("an unknown if_exists", changed(if_exists="overwrite"), "if_exists: is 'overwrite'; choose 'refuse', 'reuse' or 'replace'"),
    ("yes for true", changed(allow_gaps="yes"), "allow_gaps: is 'yes'; write true or false"),
    ("retry of null", changed(retry=None), "retry: is null; write an object of keys and values"),
    ("no attempt", changed(retry={"attempts": 0}), "retry.attempts: is 0; make it at least 1"),
    ("a backoff that shrinks", changed(retry={"backoff": 0.5}), "retry.backoff: is 0.5; make it at least 1"),
    ("an exit code of text", changed(retry={"fatal_exit_codes": [1, "2"]}), "retry.fatal_exit_codes[1]: is '2'; write a whole number"),
    ("a pattern alone", changed(retry={"fatal_patterns": "out of memory"}), "retry.fatal_patterns: is 'out of memory'; write a list"),
    ("a broken pattern", changed(retry={"fatal_patterns": ["ok", "("]}), "retry.fatal_patterns[1]: '(' is no regular expression"),
    ("a pattern of 5,000 braces", changed(retry={"fatal_patterns": ["(" * 5000]}), "shorten it to 1000 characters"),
    ("65 patterns", changed(retry={"fatal_patterns": ["x"] * 65}), "retry.fatal_patterns: has 65 entries; keep 64 of them"),
    ("a timeout of nothing", changed(timeouts={"chunk_seconds": 0}), "timeouts.chunk_seconds: is 0; make it more than 0"),
    ("a timeout of text", changed(timeouts={"chunk_seconds": "1h"}), "timeouts.chunk_seconds: is '1h'; write a number"),
    ("a timeout of centuries", changed(timeouts={"stall_seconds": 1e10}), "timeouts.stall_seconds: is 10000000000.0; make it at most 31536000"),
    ("an endless timeout", b'{"timeouts": {"chunk_seconds": Infinity}}', "timeouts.chunk_seconds: is inf; write a finite number"),
    ("env as a list", changed(env=["A=1"]), "env: is ['A=1']; write an object of keys and values"),
    ("env with a number", changed(env={"A": 1}), 'env.A: is 1; write text, as in "1"'),
    ("env with a name of digits", changed(env={"1A": "x"}), "env: '1A' cannot be set; use a name of letters, digits and _"),
    ("env with an empty name", changed(env={"": "x"}), "env: '' cannot be set"),
    ("env with an equals sign", changed(env={"A=B": "x"}), "env: 'A=B' cannot be set"),
    ("env with NUL", changed(env={"A": "\0"}), "env: 'A' cannot be set; use a name of letters, digits and _, a value without NUL"),
    ("env of 300 KB", changed(env={"A": "x" * 300_000}), "bytes beside its chunks, and 200,000 can travel; shorten env and command"),
    ("contract of text", changed(contract="1"), "contract: is '1'; write a whole number"),
    # what becomes of failures
    ("rules as an object", rules_are({"exit_codes": [1]}), "retry.rules: is {'exit_codes': [1]}; write a list"),
    ("rules of null", rules_are(None), "retry.rules: is null; write a list"),
    ("a rule of text", rules("x"), "retry.rules[0]: is 'x'; write an object of keys and values"),
    ("a rule for every failure", rules({"then": "retry"}), "retry.rules[0]: fits every failure; give it exit_codes, or a pattern"),
    ("a second rule for every failure", rules({"exit_codes": [3]}, {}), "retry.rules[1]: fits every failure; give it exit_codes, or a pattern"),
    ("a rule of a pattern that fits all", rules({"pattern": "x*"}), "retry.rules[0]: fits every failure; give it exit_codes, or a pattern of words"),
    ("a misspelt key of a rule", rules({"exit_codes": [3], "than": "retry"}), "retry.rules[0].than: is not a key of a job; did you mean then?"),
    ("a misspelt condition of a rule", rules({"exit_codes": [3]}, {"exit_code": [4]}), "retry.rules[1].exit_code: is not a key of a job; did you mean exit_codes?"),
    ("a rule of one exit code", rules({"exit_codes": 3}), "retry.rules[0].exit_codes: is 3; write a list"),
    ("a rule of an exit code of text", rules({"exit_codes": ["3"]}), "retry.rules[0].exit_codes[0]: is '3'; write a whole number"),
    ("a rule of an exit code of 256", rules({"exit_codes": [1, 256]}), "retry.rules[0].exit_codes[1]: is 256; make it at most 255"),
    ("a rule of a signal that is none", rules({"exit_codes": [-65]}), "retry.rules[0].exit_codes[0]: is -65; make it at least -64"),
    ("a rule of a broken pattern", rules({"pattern": "("}), "retry.rules[0].pattern: '(' is no regular expression"),
    ("a rule of a list of patterns", rules({"pattern": ["a"]}), "retry.rules[0].pattern: is ['a']; write text"),
    ("an unknown verdict", rules({"exit_codes": [3], "then": "ignore"}), "retry.rules[0].then: is 'ignore'; choose 'retry', 'another_host', 'give_up' or 'accept'"),
    ("a wait of text", rules({"exit_codes": [3], "wait_seconds": "1h"}), "retry.rules[0].wait_seconds: is '1h'; write a number"),
    ("a wait of two days", rules({"exit_codes": [3], "wait_seconds": 172800}), "retry.rules[0].wait_seconds: is 172800; make it at most 86400"),
    ("a wait for no try", rules({"exit_codes": [3], "then": "give_up", "wait_seconds": 5}), "retry.rules[0]: has wait_seconds, and no try follows on give_up; leave wait_seconds out"),
    ("65 rules", rules(*[{"exit_codes": [3]}] * 65), "retry.rules: has 65 entries; keep 64 of them"),
    ("no try on one host", changed(retry={"same_host": 0}), "retry.same_host: is 0; make it at least 1"),
    ("tries on one host as text", changed(retry={"same_host": "two"}), "retry.same_host: is 'two'; write a whole number"),
    ("a misspelt same_host", changed(retry={"same_hosts": 2}), "retry.same_hosts: is not a key of a job; did you mean same_host?"),
    ("a limit of failed chunks below none", limited(-1), "max_failed_chunks: is -1; write a number of chunks, or a share such as 10%"),
    ("a limit of half a chunk", limited(1.5), "max_failed_chunks: is 1.5; write a number of chunks, or a share"),
    ("a limit of true", limited(True), "max_failed_chunks: is true; write a number of chunks, or a share"),
    ("a limit of text", limited("10"), "max_failed_chunks: is '10'; write a number of chunks, or a share such as 10%"),
    ("a limit with a space", limited("10 %"), "max_failed_chunks: is '10 %'; write a number of chunks, or a share such as 10%"),
    ("a limit of 101 per cent", limited("101%"), "max_failed_chunks: is '101%'; write a number of chunks, or a share"),
    ("a limit of 400 digits", limited(10**400), "max_failed_chunks: is 1000"),
    ("a limit for a job that fails at once", changed(max_failed_chunks=3), "max_failed_chunks: is for jobs that go on after a failed chunk; set on_chunk_failure to continue, or leave it out"),
    ("a limit for a job that holds", changed(max_failed_chunks="5%", on_chunk_failure="hold"), "max_failed_chunks: is for jobs that go on after a failed chunk"),
    ("a misspelt limit", changed(max_failures=3), "max_failures: is not a key of a job; did you mean max_failed_chunks?"),
    ("a failure that waits", changed(on_chunk_failure="wait"), "on_chunk_failure: is 'wait'; choose 'fail', 'continue' or 'hold'"),
    # progress, and what is kept
    ("no time to linger", changed(timeouts={"linger_seconds": 0}), "timeouts.linger_seconds: is 0; make it more than 0"),
    ("lingering of text", changed(timeouts={"linger_seconds": "1m"}), "timeouts.linger_seconds: is '1m'; write a number"),
    ("a misspelt linger_seconds", changed(timeouts={"linger": 60}), "timeouts.linger: is not a key of a job; did you mean linger_seconds?"),
    ("progress as a format", changed(progress="ffmpeg"), "progress: is 'ffmpeg'; write an object of keys and values"),
    ("an unknown format of progress", progress(format="maya"), "progress.format: is 'maya'; choose 'auto', 'ffmpeg', 'blender', 'openjd', 'remotion', 'helios' or 'none'"),
    ("a misspelt format of progress", progress(fromat="ffmpeg"), "progress.fromat: is not a key of a job; did you mean format?"),
    ("one pattern of progress", progress(pattern="x"), "progress.pattern: is not a key of a job; did you mean patterns?"),
    ("progress patterns as text", progress(patterns=r"(?P<frame>\d+)"), "progress.patterns: is '(?P<frame>\\\\d+)'; write a list"),
    ("a progress pattern without a group", progress(patterns=[r"(?P<done>\d+)", r"Frame (\d+)"]), r"progress.patterns[1]: 'Frame (\\d+)' has no named group that tells how far it is; write one as in 'Frame (?P<frame>\d+)', with frame, done or percent"),
    ("a progress pattern of a total", progress(patterns=[r"of (?P<total>\d+)"]), "has no named group that tells how far it is"),
    ("a broken progress pattern", progress(patterns=["(?P<frame>"]), "progress.patterns[0]: '(?P<frame>' is no regular expression"),
    ("17 progress patterns", progress(patterns=[r"(?P<frame>\d+)"] * 17), "progress.patterns: has 17 entries; keep 16 of them"),
    ("a broken fatal line", progress(fatal_patterns=["["]), "progress.fatal_patterns[0]: '[' is no regular expression"),
    ("a fatal pattern that fits every line", progress(fatal_patterns=["Error", ".*"]), "progress.fatal_patterns[1]: '.*' fits every line, and so every try would fail; write words that tell it"),
    ("an unknown unit to resume", changed(resume="frame"), "resume: is 'frame'; choose 'frames' or 'chunk'"),
    ("resume of true", changed(resume=True), "resume: is true; choose 'frames' or 'chunk'"),
    ("a misspelt resume", changed(resum="frames"), "resum: is not a key of a job; did you mean resume?"),
    # helios
    ("a helios job without metadata", json.dumps({"chunks": HELIOS["chunks"]}).encode(), "metadata: is missing; a Helios job has an object here"),
    ("a helios job without a rate", helios(metadata={}), "fps: is missing; write the frame rate"),
    ("a helios job without chunks", helios(chunks=None), "chunks: is missing; a Helios job has a list here"),
    ("a helios chunk without a command", helios_chunk(command=None), "chunks[0].command: is missing; a Helios job has text here"),
    ("a helios chunk with a blank command", helios_chunk(command=" "), "chunks[0].command: is empty; write the program"),
    ("a helios chunk with a start of text", helios_chunk(startFrame="0"), "chunks[0].startFrame: is '0'; a Helios job has a whole number here"),
    ("a helios chunk with an id of true", helios_chunk(id=True), "chunks[0].id: is true; a Helios job has a whole number here"),
    ("a helios merge as a list", helios(mergeCommand=["a"]), "mergeCommand: must be text; write the command line that joins the chunks"),
    ("a blank helios merge", helios(mergeCommand=" "), "mergeCommand: is empty; write the program and its arguments"),
    ("helios assets", helios(assetsUrl="s3://b/j"), "assetsUrl: asset bundles are not fetched; put the files beside the job file"),
    ("an endless helios rate", json.dumps(HELIOS | {"metadata": {"fps": float("inf")}}).encode(), "fps: is inf; write a finite number"),
    # of other programs
    ("a job of Open Job Description", b'{"specificationVersion": "jobtemplate-2023-09", "name": "Shot 10", "steps": []}', "job: is one of Open Job Description, which is not read here; write frames, command and chunk_output"),
    ("a job of Flamenco", b'{"name": "Shot 10", "type": "simple-blender-render", "settings": {"frames": "1-100"}}', "job: is one of Flamenco, which is not read here"),
    ("a job of nexrender", b'{"template": {"frameStart": 0}, "assets": [], "actions": {}}', "job: is one of nexrender, which is not read here"),
    # the text itself
    ("JSON with a comment", b'{"name": "a", /* first */ "fps": 24}', "bad.json: cannot be read, line 1, column 15: a comment, which JSON does not have; mend it there"),
    ("an empty file", b"", "bad.json: is empty; see examples/ for job files to start from"),
    ("a list at the top", b"[]", "bad.json: holds no job; it must be an object with keys such as name, frames and command"),
    ("null at the top", b"null", "bad.json: holds no job"),
    ("broken JSON", b'{"name": "a",\n "fps" 30}', "bad.json: cannot be read, line 2, column 8: expecting ':' delimiter; mend it there"),
    ("a JSON key twice", b'{"fps": 25, "fps": 30}', "bad.json: cannot be read, the key fps stands twice in one object; keep one of them"),
    ("JSON with lists in lists", b"[" * 100_000, "bad.json: cannot be read, it is nested too deeply; a job has three levels"),
    ("JSON with objects in objects", b'{"env": ' + b'{"A": ' * 500 + b"1" + b"}" * 501, "is nested too deeply; a job has three levels"),
    ("JSON with a number of 5,000 digits", b'{"fps": ' + b"9" * 5000 + b"}", "bad.json: cannot be read, a number in it has thousands of digits"),
    ("JSON in UTF-16", json.dumps(GOOD).encode("utf-16"), "bad.json: is not UTF-8 at byte 0; save the file as UTF-8"),
    ("JSON in Latin 1", changed(name="caf").replace(b"caf", b"caf\xe9"), "bad.json: is not UTF-8 at byte"),
]  # fmt: skip

_YAML = [
    ("an empty YAML file", "", "bad.yaml: is empty; see examples/ for job files to start from"),
    ("a YAML file of comments", "# nothing yet\n", "bad.yaml: holds no job; it must be an object with keys"),
    ("a YAML list at the top", "- frames\n", "bad.yaml: holds no job"),
    ("a YAML scalar at the top", "render it\n", "bad.yaml: holds no job"),
    ("broken YAML", "frames: [1,\nfps: 30\n", "bad.yaml: cannot be read, line 3, column 1: expected ',' or ']'"),
    ("a tab in YAML", "frames:\n\tcount: 1\n", "bad.yaml: cannot be read, line 2, column 1: found character '\\t' that cannot start any token; mend it there"),
    ("two YAML documents", GOOD_YAML + "---\n" + GOOD_YAML, "bad.yaml: cannot be read, line 5, column 1: but found another document; mend it there"),
    ("a YAML key twice", GOOD_YAML + "fps: 25\n", "bad.yaml: cannot be read, line 5, column 1: the key fps stands twice; mend it there"),
    ("a nested YAML key twice", "frames: {count: 1, count: 2}\n", "the key count stands twice"),
    ("a YAML alias bomb", GOOD_YAML + _bomb(), "aliases make more than 1,000,000 values of this"),
    ("a YAML alias inside itself", GOOD_YAML + "env: &a {A: *a}\n", "line 5, column 6: an alias stands inside this, which it names"),
    ("an unknown YAML alias", GOOD_YAML + "env: {A: *b}\n", "line 5, column 10: found undefined alias 'b'; mend it there"),
    ("YAML in lists in lists", "[" * 3000, "bad.yaml: cannot be read, it is nested too deeply; a job has three levels"),
    ("bytes in YAML", GOOD_YAML + "name: !!binary aGVsbG8=\n", "line 5, column 7: could not determine a constructor for the tag 'tag:yaml.org,2002:binary'"),
    ("a set in YAML", GOOD_YAML + "env: !!set {A}\n", "line 5, column 6: could not determine a constructor for the tag 'tag:yaml.org,2002:set'"),
    ("a program in YAML", GOOD_YAML + "name: !!python/object/apply:os.system [ls]\n", "could not determine a constructor for the tag"),
    ("a YAML key that is a list", GOOD_YAML + "? [1, 2]\n: 3\n", "line 5, column 3: found unhashable key; mend it there"),
    ("a YAML number that is not one", "frames: {count: .nan}\n", "frames.count: is nan; write a finite number"),
    ("an endless YAML number", "retry: {max_seconds: .inf}\n", "retry.max_seconds: is inf; write a finite number"),
    ("a YAML date for a rate", GOOD_YAML.replace("30", "2024-05-01"), "fps: must be a whole number"),
    ("a YAML share with a space", GOOD_YAML + "on_chunk_failure: continue\nmax_failed_chunks: 10 %\n", "max_failed_chunks: is '10 %'; write a number of chunks, or a share such as 10%"),
    ("a YAML pattern in double quotes", GOOD_YAML + 'progress: {patterns: ["Frame (?P<frame>\\d+)"]}\n', "bad.yaml: cannot be read, line 5, column 41: found unknown escape character 'd'; mend it there"),
    ("a YAML number with a leading zero", GOOD_YAML.replace("first: 0", "first: 0101"), "line 1, column 17: 0101 is not the number it looks like; put it in quotes, or write no leading zeros"),
    ("a YAML time of day", GOOD_YAML + "max_parallel: 1:30\n", "line 5, column 15: 1:30 is not the number it looks like"),
    ("a YAML number of 5,000 digits", f"fps: {'9' * 5000}\n", "line 1, column 6: '99999"),
    ("a YAML int of words", GOOD_YAML + "max_parallel: !!int many\n", "line 5, column 15: 'many' is no int; mend it there"),
    ("a YAML bool of words", GOOD_YAML + "allow_gaps: !!bool maybe\n", "line 5, column 13: 'maybe' is no bool; mend it there"),
    ("yes as a YAML name", GOOD_YAML + "name: yes\n", 'name: is true; write text in quotes, as in "yes"'),
    ("a bell in YAML", GOOD_YAML + "name: a\x07\n", "line 5: the character '\\x07' may not stand in YAML; take it out"),
    ("a bare number in YAML env", GOOD_YAML + "env: {A: 1}\n", 'env.A: is 1; write text, as in "1"'),
    ("an unquoted word in YAML", GOOD_YAML.replace('"{output}"', "{output}"), "command[2]: is {'output': None}; write text"),
    ("a merge of sections in YAML", GOOD_YAML + "retry: &r {attempts: 2}\ntimeouts: {<<: *r}\n", "timeouts.attempts: is not a key of a job"),
]  # fmt: skip

BAD_FILES = [
    *(BadFile(name, "bad.json", raw, fragment) for name, raw, fragment in _JSON),
    *(BadFile(name, "bad.yaml", text.encode(), fragment) for name, text, fragment in _YAML),
]
