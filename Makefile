# make          build ./maintd            make run     serve maintenance.html on port 8080
# make static   the same, static          make test    run the tests (needs Catch2 alone)
# make install  to $(DESTDIR)$(PREFIX)    make clean   leave nothing that make made
#
# Longer tests, which say what to install if something is missing:
# make faults   every system call fails   make attack  slow clients, floods (slowhttptest)
# make fuzz     arbitrary input (clang)   make rollout nginx, Squid, HAProxy, roll-outs
# make page     the page in Chromium      make long    a million answers (valgrind)
# make coverage lines reached (gcov)      make bench   against other servers
# make places   other compilers, machines and roots
.POSIX:
.SUFFIXES:
.SUFFIXES: .cpp .o
.PHONY: all run static install test faults fuzz attack rollout page long coverage bench places clean

PREFIX ?= /usr/local
CXX ?= c++
CXXFLAGS ?= -O2 -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
LDFLAGS ?= -pie -Wl,-z,relro,-z,now
WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion
COMPILE = $(CXX) -std=c++20 -fPIE $(WARNINGS) $(CPPFLAGS) $(CXXFLAGS)

all: maintd

maintd: maintd.cpp maintenance.inc
	$(COMPILE) $(LDFLAGS) -o $@ maintd.cpp

# The page as a raw string, for #include. It must not hold the string's end.
maintenance.inc: maintenance.html
	@test -s maintenance.html || { echo 'maintenance.html: empty' >&2; exit 1; }
	@! grep -n ')maintd"' maintenance.html >&2 || \
	    { echo 'maintenance.html: must not contain )maintd"' >&2; exit 1; }
	{ printf 'R"maintd(' && cat maintenance.html && printf ')maintd"\n'; } > $@.new
	mv $@.new $@

static: maintenance.inc
	$(CXX) -std=c++20 $(WARNINGS) $(CPPFLAGS) -Os -static -s -o maintd maintd.cpp

run: maintd
	./maintd -p 8080 maintenance.html

install: maintd
	mkdir -p $(DESTDIR)$(PREFIX)/bin
	cp maintd $(DESTDIR)$(PREFIX)/bin/maintd
	chmod 755 $(DESTDIR)$(PREFIX)/bin/maintd

# ---- Tests --------------------------------------------------------------------------------------

TEST_OBJECTS = test/main.o test/unit.o test/requests.o test/uploads.o test/crowd.o \
    test/command_line.o test/stopping.o test/terminal.o test/root.o
OTHER_OBJECTS = test/proof/faults.o test/proof/attack.o test/proof/long_run.o test/proof/rollout.o
PROGRAMS = test/run test/proof/faults test/proof/attack test/proof/long_run test/proof/rollout test/bench/bench test/proof/fuzz \
    test/proof/inject.so test/bench/count_allocations.so test/proof/maintd-sanitized

# Tests are compiled for speed of compiling. Catch2 version 3 is a library, version 2 a header.
.cpp.o:
	$(COMPILE) -O0 -U_FORTIFY_SOURCE -c -o $@ $<
LINK_TEST = $(CXX) $(CXXFLAGS) $(LDFLAGS) -pthread -o $@
CATCH_LIBRARY = $$(printf '\043include <catch2/catch_all.hpp>\n' | \
    $(CXX) -std=c++20 -E -x c++ - >/dev/null 2>&1 && echo -lCatch2Main -lCatch2)
SANITIZE = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all

$(TEST_OBJECTS) $(OTHER_OBJECTS): test/catch.hpp test/fixture.hpp
test/unit.o: maintd.cpp maintenance.inc
test/proof/faults.o: test/proof/inject.hpp
test/proof/long_run.o: test/proof/cases.hpp

test/run: $(TEST_OBJECTS)
	$(LINK_TEST) $(TEST_OBJECTS) $(CATCH_LIBRARY)
test/proof/faults: test/main.o test/proof/faults.o
	$(LINK_TEST) test/main.o test/proof/faults.o $(CATCH_LIBRARY)
test/proof/attack: test/main.o test/proof/attack.o
	$(LINK_TEST) test/main.o test/proof/attack.o $(CATCH_LIBRARY)
test/proof/long_run: test/main.o test/proof/long_run.o
	$(LINK_TEST) test/main.o test/proof/long_run.o $(CATCH_LIBRARY)
test/proof/rollout: test/main.o test/proof/rollout.o
	$(LINK_TEST) test/main.o test/proof/rollout.o $(CATCH_LIBRARY)
test/bench/bench: test/bench/bench.cpp test/fixture.hpp
	$(COMPILE) $(LDFLAGS) -pthread -o $@ test/bench/bench.cpp
test/proof/inject.so: test/proof/inject.cpp test/proof/inject.hpp
	$(COMPILE) -fPIC -shared -o $@ test/proof/inject.cpp -ldl
test/bench/count_allocations.so: test/bench/count_allocations.cpp
	$(COMPILE) -fPIC -shared -o $@ test/bench/count_allocations.cpp -ldl
test/proof/maintd-sanitized: maintd.cpp maintenance.inc
	$(CXX) -std=c++20 $(WARNINGS) $(SANITIZE) -o $@ maintd.cpp

# The tests that wait for deadlines run beside the others.
test: maintd test/run
	@./test/run '[slow]' >test/slow.log 2>&1 & slow=$$!; status=0; \
	./test/run '~[slow]' || status=1; \
	wait $$slow || status=1; \
	cat test/slow.log; exit $$status

faults: maintd test/proof/faults test/proof/inject.so
	./test/proof/faults
attack: maintd test/proof/attack
	./test/proof/attack
rollout: maintd test/proof/rollout
	./test/proof/rollout
long: maintd test/proof/maintd-sanitized test/proof/long_run
	./test/proof/long_run
bench: maintd test/bench/bench test/bench/count_allocations.so
	./test/bench/bench
coverage: maintd.cpp maintenance.inc
	./test/proof/coverage.sh
places:
	./test/proof/places.sh

FUZZ_SECONDS ?= 60
CLANG ?= clang++
test/proof/fuzz: test/proof/fuzz.cpp test/proof/cases.hpp maintd.cpp maintenance.inc
	@echo 'extern "C" int LLVMFuzzerTestOneInput() { return 0; }' | \
	    $(CLANG) -fsanitize=fuzzer,address,undefined -x c++ - -o /dev/null 2>/dev/null || \
	    { echo 'make fuzz: install clang and libclang-rt-14-dev (or -19-dev, as clang)' >&2; exit 1; }
	$(CLANG) -std=c++20 $(WARNINGS) $(SANITIZE) -fsanitize=fuzzer -o $@ test/proof/fuzz.cpp
fuzz: test/proof/fuzz
	./test/proof/fuzz seeds test/proof/corpus
	./test/proof/fuzz -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1 -verbosity=0 \
	    -artifact_prefix=test/proof/ test/proof/corpus

# playwright-core is looked for in PLAYWRIGHT_DIR, or else installed for this run alone: a
# version that runs on the Node.js 18 of Debian 12.
page: maintd
	@dir=$${PLAYWRIGHT_DIR:-$$(mktemp -d)}; \
	test -d $$dir/node_modules/playwright-core || \
	    npm install --silent --prefix $$dir playwright-core@1.56 || \
	    { echo 'make page: install chromium, nodejs and npm' >&2; exit 1; }; \
	PLAYWRIGHT_DIR=$$dir node --test test/proof/page.mjs; status=$$?; \
	test -n "$$PLAYWRIGHT_DIR" || rm -rf $$dir; exit $$status

clean:
	rm -f maintd maintenance.inc maintenance.inc.new test/*.o test/*/*.o test/slow.log $(PROGRAMS)
	rm -f test/proof/crash-* test/proof/timeout-* test/proof/slow-unit-* test/proof/oom-*
	rm -rf test/proof/corpus
