"""Small changes to maintd.cpp ("make mutants"): each should make a test fail.

test/proof/mutants.txt holds one change a line, "search ==> replacement"; the search text occurs
exactly once. A line "= equivalent: reason" or "= speed: reason" excuses the change below it. Each
mutant meets the unit tests, then the other quick tests, then faults.py, until one of them fails.
The program without a change runs beside them, and has to survive: load alone must not kill.

usage: mutants.py [every=NUMBER] [text]    every so many changes, or those that contain the text
"""
import concurrent.futures, os, pathlib, shutil, subprocess, sys, tempfile, time

ROOT = pathlib.Path.cwd()
SOURCE = (ROOT / "maintd.cpp").read_text()
FOLDER = tempfile.TemporaryDirectory()
WORK = pathlib.Path(FOLDER.name)
COMPILE = [os.environ.get("CXX") or "c++", "-std=c++20", "-O0"]
OBJECTS = [each for each in (ROOT / "test").glob("*.o") if each.name != "unit.o"]
SUITES = ["unit"] + sorted(each.stem for each in OBJECTS if each.name != "main.o")
AT_A_TIME = 3 * (os.cpu_count() or 1)  # The tests wait most of the time.

def read_list():
    mutants, mark, errors = [], None, []
    for number, line in enumerate((ROOT / "test/proof/mutants.txt").read_text().splitlines(), 1):
        if line.startswith("= "):
            mark = line[2:]
        elif line and not line.startswith("#"):
            search, arrow, replacement = line.partition(" ==>")
            if not arrow or SOURCE.count(search) != 1:
                errors.append(f"mutants.txt:{number}: not exactly once in maintd.cpp: {search}")
            mutants.append((line, SOURCE.replace(search, replacement[1:]), mark))
            mark = None
    return mutants if not errors else sys.exit("\n".join(errors))

def build(folder, output, sources):
    command = [*COMPILE, "-o", output, *sources, *(["-pthread"] if output == "run" else [])]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if built.returncode != 0:
        sys.exit(f"does not compile: {built.stderr}")

def failure_of(name, command, folder):
    """Returns what the test says if it fails. timeout(1) also ends the servers that it started."""
    limit = "30" if name == "unit" else "400"  # seconds; some mutants wait forever
    result = subprocess.run(["timeout", "-k", "1", limit, *command], cwd=folder, text=True,
                            env={**os.environ, "MAINTD": f"{folder}/maintd"}, errors="replace",
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = result.stdout.splitlines()
    # Catch2 puts the test's name between two rules, faults.py after "FAIL".
    told = [line for line in lines if line.startswith("FAIL ")] + [
        line for rule, line in zip(lines, lines[1:]) if set(rule) == {"-"}] + lines[-1:]
    return f"{name}: {told[0] if told else '?'}"[:96] if result.returncode != 0 else None

def killer(source):
    """Returns which test kills the mutant, or None."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=WORK))
    try:
        shutil.copytree(ROOT / "test", folder / "test", ignore=shutil.ignore_patterns("*.o", "run"))
        for name in ("maintenance.html", "maintenance.inc", "README", "Makefile"):
            shutil.copy(ROOT / name, folder)
        subprocess.run(["chmod", "-R", "a+rX", folder], check=True)  # also without root
        (folder / "maintd.cpp").write_text(source)
        sources = ["-include", WORK / "first.hpp", "test/unit.cpp", *OBJECTS, *LIBRARY]
        build(folder, "run", sources)
        for suite in SUITES:
            if suite != "unit" and not (folder / "maintd").exists():
                build(folder, "maintd", ["maintd.cpp"])
            if failure := failure_of(suite, ["./run", "-#", f"[#{suite}]", "--abort"], folder):
                return failure
        return failure_of("faults", [sys.executable, "test/proof/faults.py", "-x"], folder)
    finally:
        shutil.rmtree(folder)

mutants = read_list()
for argument in sys.argv[1:]:
    number = argument.removeprefix("every=")
    mutants = mutants[::int(number)] if number != argument else [
        each for each in mutants if argument in each[0]]
WORK.chmod(0o755)
(WORK / "first.hpp").write_text(f'#include "{ROOT}/test/catch.hpp"\n')
build(WORK, "first.hpp.gch", ["-x", "c++-header", "first.hpp"])
CATCH_3 = pathlib.Path("/usr/include/catch2/catch_all.hpp").exists()
LIBRARY = ["-lCatch2Main", "-lCatch2"] if CATCH_3 else []

began = time.monotonic()
counts = {"killed": 0, "survived": 0, "marked": 0}
with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
    unchanged = pool.submit(killer, SOURCE)
    results = [None if mark else pool.submit(killer, source) for _, source, mark in mutants]
    if failure := unchanged.result():
        pool.shutdown(wait=False, cancel_futures=True)
        sys.exit(f"without a change a test fails: {failure}")
    for (line, _, mark), result in zip(mutants, results):
        failure = mark or result.result()
        kind = "marked" if mark else "killed" if failure else "survived"
        counts[kind] += 1
        print(f"{kind:8} {line}\n         {failure or ''}", flush=True)
print(counts, f"{time.monotonic() - began:.0f} s")
sys.exit(counts["killed"] < 0.97 * (counts["killed"] + counts["survived"]))
