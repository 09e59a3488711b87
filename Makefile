# make          build ./maintd            make run     serve maintenance.html on port 8080
# make static   the same, static          make test    run the tests (needs Catch2)
# make install  to $(DESTDIR)$(PREFIX)    make clean   leave nothing that make made
.POSIX:
.SUFFIXES:
.SUFFIXES: .cpp .o
.PHONY: all run static test install clean

PREFIX ?= /usr/local
CXX ?= c++
CXXFLAGS ?= -O2 -fPIE -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
LDFLAGS ?= -pie -Wl,-z,relro,-z,now
WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion
COMPILE = $(CXX) -std=c++20 $(WARNINGS) $(CPPFLAGS) $(CXXFLAGS)
LINK = $(CXX) $(CXXFLAGS) $(LDFLAGS)

all: maintd

maintd: maintd.cpp maintenance.inc
	$(COMPILE) $(LDFLAGS) -o $@ maintd.cpp

# The page as a raw string, for #include. It must not hold the string's end.
maintenance.inc: maintenance.html
	@if grep -q ')maintd"' maintenance.html; then \
	    echo 'maintenance.html: must not contain )maintd"' >&2; exit 1; fi
	@test -s maintenance.html || { echo 'maintenance.html: empty' >&2; exit 1; }
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

TESTS = test/main.o test/unit.o

.cpp.o:
	$(COMPILE) -c -o $@ $<

$(TESTS): test/catch.hpp test/fixture.hpp
test/unit.o: maintd.cpp maintenance.inc

test/run: $(TESTS)
	$(LINK) -o $@ $(TESTS) $$(echo '#include <catch2/catch_all.hpp>' | \
	    $(CXX) -std=c++20 -E -x c++ - >/dev/null 2>&1 && echo -lCatch2Main -lCatch2)

test: maintd test/run
	./test/run

clean:
	rm -f maintd maintenance.inc maintenance.inc.new test/run test/*.o
