# SPDX-License-Identifier: 0BSD
"""Small changes to maintd.cpp and to the page ("make mutants"): each has to make a test fail. In a
list each line is one, "search ==> replacement". The search text occurs exactly once; where it has a
space, the file may have a newline and comments. Noticed means that a test fails twice, the second
time beside the unchanged program, with which it passes: a busy machine notices nothing.

usage: mutants.py [every=NUMBER] [text]...    every so many, or those whose line has each text
"""
import concurrent.futures, os, pathlib, re, shutil, subprocess, sys, tempfile, threading, time

ROOT = pathlib.Path.cwd()
FOLDER = tempfile.TemporaryDirectory()
WORK = pathlib.Path(FOLDER.name)
SUITES = "unit", "requests", "command_line", "crowd", "operator"  # the fastest ones first
FAILS = re.compile(r"FAIL|^ *not ok")

# Each list, the file that it changes, and the commands of the tests that have to notice.
LISTS = [
    ("mutants.txt", "maintd.cpp",
     [*(f"./test/run -# [#{name}]" for name in SUITES), "python3 -B test/proof/faults.py"]),
    ("page_mutants.txt", "maintenance.html",
     ["env FIREFOX= PATIENCE=60 node --test --test-reporter=tap test/proof/page.mjs"]),
]

def changes():
    """Yields each change: its name, the file, its new content, the tests."""
    for name, file, tests in LISTS:
        source = (ROOT / file).read_text()
        for line in (ROOT / "test/proof" / name).read_text().splitlines():
            search, arrow, new = line.partition(" ==>")
            pattern = re.compile(r"(?:\s+// .*)*\s+".join(map(re.escape, search.split())))
            if arrow and len(pattern.findall(source)) == 1:
                yield f"{file}: {line}", file, pattern.sub(lambda _: new[1:], source), tests
            elif not line.startswith("#"):
                sys.exit(f"{name}: not exactly once in {file}: {line}")

def tree(file="README", content=None):
    """Returns a copy of the tree with this content in one file, in which all is built again."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=WORK)) / "tree"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", "corpus", "node_modules"))
    if content:
        (folder / file).write_text(content)
    built = subprocess.run(["make", "-s", "test/run"], cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    subprocess.run(["chmod", "-R", "a+rX", folder.parent], check=True)  # also without root
    return folder

def failure(test, folder):
    """Returns the first line in which the test says that it fails, or None. It ends there, or after
    a limit, because a change may make it hang, and all that it has started with its namespace."""
    alone = "setpriv --pdeathsig KILL unshare --pid --fork --kill-child --mount-proc"
    with subprocess.Popen([*alone.split(), *test.split()], cwd=folder, text=True, errors="replace",
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        limit = threading.Timer(900 if "page" in test else 100, process.kill)
        limit.start()
        told = next((line.strip() for line in process.stdout if FAILS.search(line)), None)
        limit.cancel()
        if told:
            process.kill()
    return told or (f"{test} has ended with {process.returncode}" if process.returncode else None)

def twice(test, folder, tries=5):
    """Returns what a test says that has noticed the change, or None."""
    if tries == 0 or not failure(test, folder):
        return None
    control = controls.submit(failure, test, unchanged)
    second = failure(test, folder)
    return twice(test, folder, tries - 1) if control.result() else second

def noticed(file, content, tests):
    """Returns what the first test says that has noticed the change, or None."""
    folder = tree(file, content)
    try:
        return next(filter(None, (twice(each, folder) for each in tests)), None)
    finally:
        shutil.rmtree(folder.parent)

began, survivors = time.monotonic(), 0
chosen = [*changes()]
for argument in sys.argv[1:]:
    every, _, number = argument.partition("every=")
    chosen = chosen[::int(number)] if number else [each for each in chosen if argument in each[0]]
WORK.chmod(0o755)
unchanged = tree()
AT_A_TIME = os.cpu_count() or 1  # With more, browsers would be too late.
controls = concurrent.futures.ThreadPoolExecutor(AT_A_TIME)
with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
    results = [pool.submit(noticed, *rest) for _, *rest in chosen]
    for (name, *_), result in zip(chosen, results):
        survivors += result.result() is None
        print(f"{name}\n    {result.result() or 'SURVIVED'}", flush=True)
print(f"{len(chosen)} changes, {survivors} survived, {time.monotonic() - began:.0f} s")
sys.exit(survivors > 0)
