# SPDX-License-Identifier: 0BSD
# make          build ./maintd             make run     serve maintenance.html on port 8080
# make static   build ./maintd-static      make test    run the tests (they need only Catch2)
# make install  to $(DESTDIR)$(PREFIX)     make clean   remove everything that make has made
# make bench    the benchmark              make proof   all of the longer tests, one after another:
# make faults, fuzz, rollout, page, mutants, places (see test/README)
.POSIX:
TESTS = test test/run bench proof faults fuzz rollout page mutants places
.PHONY: all static run install clean FORCE $(TESTS)

# The environment and the command line may set these. The presets of make itself are not used,
# because GNU make would insist on g++, and bmake presets flags that do not harden the program.
# Only the linkers of ELF systems know "-z".
CXX != echo "$${CXX:-c++}"
CXXFLAGS != echo "$${CXXFLAGS--O2 -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2}"
RELRO != echo __ELF__ | $(CXX) -E -x c++ - 2>/dev/null | grep -q '^1' && \
    echo ' -Wl,-z,relro,-z,now' || :
LDFLAGS != echo "$${LDFLAGS--pie$(RELRO)}"
PREFIX ?= /usr/local

WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion
COMPILE = $(CXX) -std=c++20 $(WARNINGS) $(CPPFLAGS) $(CXXFLAGS)

all: maintd
static: maintd-static

maintd: maintd.cpp maintenance.inc .command
	$(COMPILE) -fPIE $(LDFLAGS) -o $@ maintd.cpp
# This one is started as root most often, so it is position independent if the compiler can do
# that (-static-pie). Beside -pie the compiler would leave out -static.
maintd-static: maintd.cpp maintenance.inc .command
	@static=-static-pie; flags=$$(echo ' $(LDFLAGS) ' | sed 's/ -pie / /'); \
	echo 'int main() {}' | $(CXX) -Werror -fPIE $$static -x c++ - -o /dev/null 2>/dev/null || \
	    static=-static; \
	set -x; $(COMPILE) -Os -fPIE $$static $$flags -s -o $@ maintd.cpp

# This file changes only when the flags do: programs that depend on it are then built anew.
.command: FORCE
	@echo '$(COMPILE) $(LDFLAGS)' | cmp -s - $@ || echo '$(COMPILE) $(LDFLAGS)' >$@
FORCE:

# The page as a raw string, for #include. It must not contain what ends the string.
maintenance.inc: maintenance.html
	@test -s maintenance.html || { echo 'maintenance.html: empty' >&2; exit 1; }
	@! grep -n ')maintd"' maintenance.html >&2 || \
	    { echo 'maintenance.html: must not contain )maintd"' >&2; exit 1; }
	{ printf 'R"maintd(' && cat maintenance.html && printf ')maintd"\n'; } >$@.new
	mv $@.new $@

run: maintd
	./maintd -p 8080 maintenance.html
# Installs what was built, even if the variables differ now.
install:
	test -f maintd || $(MAKE) maintd
	mkdir -p "$(DESTDIR)$(PREFIX)/bin"
	cp -f maintd "$(DESTDIR)$(PREFIX)/bin/maintd"
	chmod 755 "$(DESTDIR)$(PREFIX)/bin/maintd"

# The tests are compiled on all processors, unless make was told how many to use.
$(TESTS): maintd
	@case $$MAKEFLAGS in *-j*) ;; *) set -- -j"$$(getconf _NPROCESSORS_ONLN)" ;; esac; \
	$(MAKE) "$$@" -f test/Makefile CXX='$(CXX)' CPPFLAGS='$(CPPFLAGS)' \
	    CXXFLAGS='$(CXXFLAGS)' LDFLAGS='$(LDFLAGS)' $@
clean:
	rm -f maintd maintd-static maintenance.inc maintenance.inc.new .command
	@$(MAKE) -f test/Makefile clean
