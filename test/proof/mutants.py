# SPDX-License-Identifier: 0BSD
"""Small changes to maintd.cpp and to the page ("make mutants"): each has to make a test fail. In a
list each line is one, "search ==> replacement". The search text occurs exactly once; where it has a
space, the file may have a newline and comments. Noticed means that a test fails twice, the second
time beside the unchanged program, with which it passes: a busy machine notices nothing.

usage: mutants.py [every=NUMBER] [text]...    every so many, or those whose line has each text
"""
import concurrent.futures, os, pathlib, re, shutil, subprocess, sys, tempfile, time

ROOT = pathlib.Path.cwd()
FOLDER = tempfile.TemporaryDirectory()
WORK = pathlib.Path(FOLDER.name)
SUITES = [each.stem for each in (ROOT / "test").glob("*.cpp") if "TEST_CASE" in each.read_text()]
SUITES.sort(key="unit".__ne__)  # The unit tests come first, because they never wait.

# Each list, the file that it changes, and the tests that have to notice: their name and command.
LISTS = [
    ("mutants.txt", "maintd.cpp",
     [*((name, ["./test/run", "-#", f"[#{name}]", "--abort"]) for name in SUITES),
      ("faults", ["python3", "-B", "test/proof/faults.py", "-x"])]),
    ("page_mutants.txt", "maintenance.html",
     [("page", ["env", "FIREFOX=", "PATIENCE=60", "node", "--test", "--test-reporter=tap",
                "test/proof/page.mjs"])]),
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
    """Returns what the test says if it fails. All that it has started ends with its namespace."""
    name, command = test
    limit = f"timeout -k 1 {900 if name == 'page' else 100}"  # A change may make it hang.
    namespace = "unshare --pid --fork --kill-child --mount-proc"
    command = [*limit.split(), *namespace.split(), *command]
    result = subprocess.run(command, cwd=folder, text=True, errors="replace",
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    told = re.search(r"(?m)^(FAIL .*|not ok .*|(?<=---\n)[^-. ].*)$", result.stdout)
    return f"{name}: {told[0] if told else '?'}"[:96] if result.returncode != 0 else None

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
AT_A_TIME = 2 * (os.cpu_count() or 1)  # The tests wait most of the time.
controls = concurrent.futures.ThreadPoolExecutor(AT_A_TIME)
with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
    results = [pool.submit(noticed, *rest) for _, *rest in chosen]
    for (name, *_), result in zip(chosen, results):
        survivors += result.result() is None
        print(f"{name}\n    {result.result() or 'SURVIVED'}", flush=True)
print(f"{len(chosen)} changes, {survivors} survived, {time.monotonic() - began:.0f} s")
sys.exit(survivors > 0)
