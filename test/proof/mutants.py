"""Small changes to maintd.cpp ("make mutants"): each should make a test fail.

test/proof/mutants.txt holds one change a line, "search ==> replacement"; the search text occurs
exactly once. A line "= equivalent: reason" or "= speed: reason" excuses the change below it.

Each mutant is compiled, and meets the unit tests, then the other quick tests, all files of them at
a time, then faults.py. The program without a change comes first, and has to survive all of them.

usage: mutants.py [every=NUMBER] [text]    every so many changes, or those that contain the text
"""
import concurrent.futures, os, pathlib, shutil, signal, subprocess, sys, tempfile, time

ROOT = pathlib.Path.cwd()
SOURCE = (ROOT / "maintd.cpp").read_text()
LIST = ROOT / "test/proof/mutants.txt"
FOLDER = tempfile.TemporaryDirectory()
WORK = pathlib.Path(FOLDER.name)
WORK.chmod(0o755)
COMPILE = [os.environ.get("CXX") or "c++", "-std=c++20", "-O0"]
OBJECTS = [each for each in (ROOT / "test").glob("*.o") if each.name != "unit.o"]
SUITES = [each.stem for each in OBJECTS if each.name != "main.o"]
AT_A_TIME = (os.cpu_count() or 1) + 1

def read_list():
    mutants, mark, errors = [], None, []
    for number, line in enumerate(LIST.read_text().splitlines(), 1):
        if line.startswith("= "):
            mark = line[2:]
        elif line and not line.startswith("#"):
            search, arrow, replacement = line.partition(" ==>")
            if not arrow or SOURCE.count(search) != 1:
                errors.append(f"mutants.txt:{number}: not exactly once in maintd.cpp: {search}")
            mutants.append((line, SOURCE.replace(search, replacement[1:]), mark))
            mark = None
    if errors:
        sys.exit("\n".join(errors))
    return mutants

def start(command, folder, log):
    """Starts a process group of its own, so that it can be killed with the servers it started."""
    environment = {**os.environ, "MAINTD": f"{folder}/maintd"}
    return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True,
                            stdin=subprocess.DEVNULL, env=environment)

def first_failure(commands, folder, limit):
    """Runs the commands beside each other. Returns what the first failure says, or None."""
    logs = {name: (folder / f"{name}.log") for name in commands}
    running = {name: start(each, folder, logs[name].open("w")) for name, each in commands.items()}
    end = time.monotonic() + limit
    failure = None
    while running and not failure:
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                if process.returncode != 0:
                    lines = logs[name].read_text(errors="replace").splitlines()
                    # Catch2 puts the test's name between two rules, faults.py after "FAIL".
                    told = [line for line in lines if line.startswith("FAIL ")] or [
                        line for rule, line in zip(lines, lines[1:]) if set(rule) == {"-"}]
                    failure = f"{name}: {(told or lines[-1:] or ['?'])[0][:90]}"
            elif time.monotonic() > end:
                failure = f"{name}: does not end"
        time.sleep(0.02)
    for process in running.values():
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return failure

def build(folder, output, sources):
    command = [*COMPILE, "-o", output, *sources, *(["-pthread"] if output == "run" else [])]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)

def killer(source):
    """Returns which test kills the mutant, or None."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=WORK))
    folder.chmod(0o755)
    try:
        (folder / "test").mkdir()
        (folder / "test/proof").symlink_to(ROOT / "test/proof")
        for name in ("maintenance.html", "maintenance.inc", "README", "Makefile"):
            (folder / name).symlink_to(ROOT / name)
        for each in (ROOT / "test").glob("*.?pp"):
            (folder / "test" / each.name).symlink_to(each)
        (folder / "maintd.cpp").write_text(source)
        sources = ["-include", WORK / "first.hpp", "test/unit.cpp", *OBJECTS, *LIBRARY]
        built = build(folder, "run", sources)
        if built.returncode == 0:
            suite = {"unit": ["./run", "-#", "[#unit]", "--abort"]}
            if failure := first_failure(suite, folder, 30):
                return failure
            built = build(folder, "maintd", ["maintd.cpp"])
        if built.returncode != 0:
            sys.exit(f"does not compile: {built.stderr}")
        suites = {name: ["./run", "-#", f"[#{name}]", "--abort"] for name in SUITES}
        faults = {"faults": [sys.executable, "test/proof/faults.py", "-x"]}
        return first_failure(suites, folder, 120) or first_failure(faults, folder, 600)
    finally:
        shutil.rmtree(folder)

mutants = read_list()
for argument in sys.argv[1:]:
    if argument.startswith("every="):
        mutants = mutants[::int(argument[6:])]
    else:
        mutants = [each for each in mutants if argument in each[0]]
(WORK / "first.hpp").write_text(f'#include "{ROOT}/test/catch.hpp"\n')
build(WORK, "first.hpp.gch", ["-x", "c++-header", "first.hpp"])
version_3 = subprocess.run([*COMPILE, "-E", "-x", "c++", "-"], text=True, capture_output=True,
                           input="#include <catch2/catch_all.hpp>").returncode == 0
LIBRARY = ["-lCatch2Main", "-lCatch2"] if version_3 else []
if failure := killer(SOURCE):
    sys.exit(f"without a change a test fails: {failure}")

began = time.monotonic()
counts = {"killed": 0, "survived": 0, "marked": 0}
with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
    results = {}
    for line, source, mark in mutants:
        results[line] = None if mark else pool.submit(killer, source)
    for line, source, mark in mutants:
        failure = mark or results[line].result()
        result = "marked" if mark else "killed" if failure else "survived"
        counts[result] += 1
        print(f"{result:8} {line}\n         {failure or ''}", flush=True)
print(counts, f"{time.monotonic() - began:.0f} s")
sys.exit(counts["killed"] < 0.97 * (counts["killed"] + counts["survived"]))
