"""Imports flow one way and in no circle, workflows do no I/O, and names say what things are."""

import ast
import functools

import pytest

from tools.module_metrics import PARTS, ROOT, Module, import_circle, import_graph, modules

# docs/architecture.md: worker -> workflows -> activities -> longtake. Each part, and the parts it may import.
MAY_IMPORT = {
    "longtake": {"longtake"},
    "activities": {"activities", "longtake"},
    "workflows": {"workflows", "activities", "longtake"},
    "agent": {"agent", "activities", "longtake"},
    "worker": {"workflows", "activities", "longtake", "devserver", "ports"},
    "devserver": {"longtake", "ports"},
    "deploy": {"deploy", "longtake", "devserver", "ports"},
    "ports": set(),
}
OURS = {*MAY_IMPORT, "client", "tests", "examples", "benchmarks", "tools"}

# Clocks, chance, files, processes and the network: what a workflow must get from activities or from Temporal.
NOT_IN_WORKFLOWS = {
    "os", "io", "time", "random", "secrets", "uuid", "socket", "ssl", "subprocess", "multiprocessing", "threading",
    "concurrent", "shutil", "tempfile", "glob", "pathlib", "urllib", "http", "signal", "sys", "logging", "requests",
    "httpx", "aiohttp", "boto3", "av", "psutil", "yaml", "typer", "rich",
}  # fmt: skip
EXTRAS = {"httpx", "httpcore", "boto3", "botocore", "av", "psutil", "yaml", "typer", "rich", "google", "cryptography"}

# What every render pays for, because its keeper is a fork of the supervisor: the standard library, and little of it.
IN_SUPERVISOR = "activities.processes.supervisor_main"
TOO_DEAR_FOR_KEEPERS = {"asyncio", "dataclasses", "psutil", "pydantic", "temporalio", "logging", "typing_extensions"}

# Names that gather what nobody found a subject for.
LEFTOVER_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "base", "constants", "shared", "lib"}
# One word, one meaning (docs/architecture.md, "Words"): what these once named is called by the word behind them.
RETIRED_WORDS = {
    "beating": "heartbeat", "arriving": "download", "taken": "conflict", "aside": "executor", "linger": "stall",
    "handing": "upload", "places": "allowed_stores", "standing": "publish", "neighbours": "publish",
    "steering": "control", "looking": "status", "mending": "control", "happenings": "views", "paced": "throttle",
    "leftovers": "lost agents", "calling": "service call", "remotely": "formatting", "words": "formatting",
}  # fmt: skip
# Gerunds that are the field's own nouns.
NOUNS_IN_ING = {"scheduling", "formatting", "listing"}

# Unit tests of the repository itself, which mirror no module.
REPOSITORY_SUBJECTS = {
    "agent_images", "architecture", "benchmarks", "compose_file", "contract", "documents", "env_example", "setup",
    "third_party", "worker_image",
}  # fmt: skip

# Parts that run an event loop with other people's work on it.
ON_A_LOOP = ("activities", "agent", "workflows", "worker")
# Calls that touch a file, a process or a store, by the last part of their names.
BLOCKING_CALLS = {
    "open", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "unlink", "rmdir", "exists", "is_file",
    "is_dir", "iterdir", "glob", "rglob", "stat", "lstat", "touch", "resolve", "chmod", "realpath", "rmtree", "scandir",
    "listdir", "walk", "makedirs", "lexists", "copyfile", "copyfileobj", "symlink", "which", "finish_claim", "publish",
    "revoke", "read_sidecar", "download", "digest", "put", "create", "remove_all", "read_accepted", "read_job",
    "sidecar", "segments", "replace_links", "sign_outputs", "stage_files", "discard_attempt",
}  # fmt: skip

MODULES = modules()


@functools.cache
def graph() -> dict[str, set[str]]:
    """Return what each module imports; not where this file is imported, because that parses the whole source."""
    return import_graph(MODULES)


def of_part(part: str) -> list[Module]:
    return [module for module in MODULES.values() if f"{module.name}.".startswith(f"{part}.")]


def top(module: str) -> str:
    return module.partition(".")[0]


def foreign(module: Module) -> set[str]:
    """Packages of others that a module imports, wherever in the file."""
    return {top(name) for name, _ in module.imports} - OURS


def reached_from(name: str) -> set[str]:
    """Return the source modules that are loaded with one."""
    found, left = set(), [name]
    while left:
        here = left.pop()
        if here not in found:
            found.add(here)
            left.extend(graph()[here])
    return found


def test_the_parts_are_all_there() -> None:
    assert MAY_IMPORT.keys() == PARTS.keys()
    assert all(of_part(part) for part in PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_imports_flow_one_way(part: str) -> None:
    wrong = [
        f"{module.name} imports {name}"
        for module in of_part(part)
        for name, _ in module.imports
        if top(name) in OURS - MAY_IMPORT[part]
    ]

    assert not wrong


def test_no_import_goes_in_a_circle() -> None:
    assert import_circle(graph()) == []


def test_a_circle_would_be_found() -> None:
    assert import_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) != []


def test_imports_name_the_module_in_full() -> None:
    assert not [module.name for module in MODULES.values() for name, _ in module.imports if name.startswith(".")]


def test_a_workflow_takes_nothing_but_classes_from_activities() -> None:
    taken = [
        (name, names) for module in of_part("workflows") for name, names in module.imports if top(name) == "activities"
    ]

    assert all(names and all(name.endswith("Activities") for name in names) for _, names in taken), taken


def test_a_workflow_imports_nothing_that_reaches_the_world() -> None:
    assert not {
        f"{module.name} imports {package}"
        for module in of_part("workflows")
        for package in foreign(module) & NOT_IN_WORKFLOWS
    }


# What begins work that no coroutine awaits: the SDK only logs its exception, and a chunk "runs" for ever.
BEGINS_TASKS = {"create_task", "ensure_future", "gather", "TaskGroup", "call_soon", "call_later", "run_in_executor"}
# What a callback may do in a workflow: note what has ended, and wake the main coroutine, which settles it.
NOTES_AND_WAKES = {"_wake", "_note_end", "_on_ended"}


def name_of_call(call: ast.expr) -> str:
    if not isinstance(call, ast.Call):
        return ""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def hidden_work(tree: ast.Module) -> list[str]:
    """Return what begins tasks, and the callbacks that do more than to note and wake."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    callbacks = [call.args[0] for call in calls if name_of_call(call) == "add_done_callback"]
    return [name_of_call(call) for call in calls if name_of_call(call) in BEGINS_TASKS] + [
        ast.unparse(callback)
        for callback in callbacks
        if not (isinstance(callback, ast.Lambda) and name_of_call(callback.body) in NOTES_AND_WAKES)
    ]


def test_in_a_workflow_no_work_is_done_whose_error_nobody_sees() -> None:
    hidden = {module.name: hidden_work(module.tree) for module in of_part("workflows") if hidden_work(module.tree)}

    # Errors of work that goes on beside the job's own are raised the next time that such work is begun.
    assert hidden == {"workflows.background": ["create_task"]}


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("handle.add_done_callback(lambda handle: self._note_end(partial(self._settle, handle)))", False),
        ("handle.add_done_callback(lambda handle: self._settle(handle))", True),
        ("handle.add_done_callback(self._settle)", True),
        ("asyncio.create_task(self._watch())", True),
    ],
)
def test_such_work_would_be_found(line: str, is_found: bool) -> None:
    assert bool(hidden_work(ast.parse(line))) is is_found


def test_no_activity_has_a_maximum_of_attempts_of_temporals_own() -> None:
    """Temporal counts lost workers, full services and stores that are away as it counts failed tries."""
    keywords = [
        keyword.arg
        for module in of_part("workflows")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
    ]

    assert "maximum_interval" in keywords
    assert "maximum_attempts" not in keywords


def test_each_activity_counts_the_errors_that_nothing_expects() -> None:
    activities = [
        node
        for module in of_part("activities")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.AsyncFunctionDef) and "defn" in map(name_of_call, node.decorator_list)
    ]
    without = {
        node.name
        for node in activities
        if "activity_edge" not in {name_of_call(call) for call in ast.walk(node)}  # type: ignore[arg-type]
    }

    assert len(activities) >= 6
    # They return what their worker knows.
    assert without == {"has_search_attributes", "find_receivers"}


def test_media_knows_nothing_of_jobs() -> None:
    taken = {name for module in of_part("activities.media") for name in graph()[module.name]}

    taken -= {"longtake.sound_formats", "longtake.colour_main"}
    assert all(name.startswith("activities.media") for name in taken), taken


def test_the_contract_needs_temporal_and_pydantic_only() -> None:
    allowed = {
        "longtake.jobfile.safe_yaml": {"yaml"},
        "longtake.encryption": {"cryptography"},
        "longtake.__main__": {"typer", "rich"},
        # In a process of its own.
        "longtake.web.preview_main": {"av"},
        "longtake.web.preview_images": {"av"},
        "longtake.web.preview_sound": {"av"},
    }
    # Imported by the factory alone, and only for jobs whose store is a bucket.
    of_buckets = {name: {"boto3", "botocore"} for name in MODULES if name.startswith("longtake.stores.s3")}
    needed = {module.name: foreign(module) & EXTRAS for module in of_part("longtake")}

    for name, packages in needed.items():
        if not name.startswith("longtake.cli"):
            assert packages <= (allowed | of_buckets).get(name, set()), name


def test_nothing_imports_yaml_before_a_yaml_file_is_read() -> None:
    eager = [
        module.name
        for module in of_part("longtake")
        if not module.name.startswith("longtake.cli")
        for node in module.tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "longtake.jobfile.safe_yaml"
    ]

    assert eager == []


def test_supervisors_and_keepers_load_little_of_the_standard_library() -> None:
    dear = {
        f"{name} imports {package}"
        for name in reached_from(IN_SUPERVISOR)
        for package in foreign(MODULES[name]) & TOO_DEAR_FOR_KEEPERS
        if name != "activities.processes.psutil_table"
    }

    assert dear == set()


def calls_on_the_loop(function: ast.AsyncFunctionDef) -> list[ast.Call]:
    """Return the calls that a coroutine makes itself: not those it awaits, nor those of functions inside of it."""
    found, left = [], list[ast.AST](function.body)
    while left:
        node = left.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
            left.extend(ast.iter_child_nodes(node.value))
            continue
        if isinstance(node, ast.Call):
            found.append(node)
        left.extend(ast.iter_child_nodes(node))
    return found


def last_name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def test_nothing_that_may_hang_runs_on_an_event_loop() -> None:
    blocking = [
        f"{module.name}.{function.name}: {ast.unparse(call)[:80]}"
        for part in ON_A_LOOP
        for module in of_part(part)
        for function in ast.walk(module.tree)
        if isinstance(function, ast.AsyncFunctionDef)
        for call in calls_on_the_loop(function)
        if last_name(call) in BLOCKING_CALLS
    ]

    assert blocking == []


def test_a_call_that_may_hang_would_be_found() -> None:
    source = "async def work(path):\n    await run(lambda: path.stat())\n    await run(open(path))\n    path.unlink()"
    (function,) = ast.parse(source).body

    assert isinstance(function, ast.AsyncFunctionDef)
    assert {last_name(call) for call in calls_on_the_loop(function)} == {"open", "unlink"}


def test_no_work_shares_threads_that_a_store_which_hangs_can_use_up() -> None:
    """`run_in_thread` has a thread for each call; what runs in a pool is named here, and touches no store."""
    pools = {"activities.remote.google_auth", "activities.remote.aws_lambda"}
    pooled = {
        module.name
        for part in ON_A_LOOP
        for module in of_part(part)
        for call in ast.walk(module.tree)
        if isinstance(call, ast.Call) and last_name(call) in {"to_thread", "run_in_executor", "set_default_executor"}
    }

    assert pooled == pools


def test_client_is_a_source_root_and_tests_are_no_package() -> None:
    assert not (ROOT / "client" / "__init__.py").exists()
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_the_source_root_holds_longtake_only() -> None:
    assert [path.name for path in (ROOT / "client").iterdir() if path.suffix != ".egg-info"] == ["longtake"]


def test_a_module_says_what_it_is_for() -> None:
    assert [module.name for module in MODULES.values() if not ast.get_docstring(module.tree)] == []


def test_a_package_holds_nothing_but_its_docstring_and_public_names() -> None:
    assert [
        module.name
        for module in MODULES.values()
        if module.is_package
        and not all(isinstance(node, ast.Expr | ast.ImportFrom | ast.Assign) for node in module.tree.body)
    ] == []


def test_no_module_is_named_for_leftovers_or_by_a_retired_word() -> None:
    words = {name: set(name.rpartition(".")[2].split("_")) for name in MODULES}

    assert {name: found & LEFTOVER_NAMES for name, found in words.items() if found & LEFTOVER_NAMES} == {}
    assert {
        name: {RETIRED_WORDS[word] for word in found & RETIRED_WORDS.keys()}
        for name, found in words.items()
        if found & RETIRED_WORDS.keys()
    } == {}


def test_no_module_is_named_by_what_it_does() -> None:
    last = {name: name.rpartition("_")[2].rpartition(".")[2] for name in MODULES}

    assert [name for name, word in last.items() if word.endswith("ing") and word not in NOUNS_IN_ING] == []


def test_no_class_name_is_used_twice() -> None:
    where: dict[str, list[str]] = {}
    for module in MODULES.values():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where.setdefault(node.name, []).append(module.name)

    assert {name: places for name, places in where.items() if len(places) > 1} == {}


def test_a_file_of_unit_tests_is_named_after_the_one_module_it_tests() -> None:
    tested = {path.stem.removeprefix("test_"): set[str]() for path in (ROOT / "tests" / "unit").glob("test_*.py")}
    for module in MODULES.values():
        *packages, name = module.name.split(".")
        for stem in {name, "_".join([*packages[-1:], name])} & tested.keys():
            if not module.is_package:
                tested[stem].add(module.name)
    files_of = {name: [stem for stem, names in tested.items() if name in names] for name in MODULES}

    assert {stem: names for stem, names in tested.items() if len(names) != 1 and stem not in REPOSITORY_SUBJECTS} == {}
    assert {stem for stem in REPOSITORY_SUBJECTS if tested.get(stem) != set()} == set()
    assert {name: files for name, files in files_of.items() if len(files) > 1} == {}
