# leasehold: build, install, test.
#
#   make && make install      build and install, against the server of PG_CONFIG
#   make demo                 groups at work and their failures, in two minutes
#   make check                every test; ends with "N passed, N failed"
#   make unit | regress | isolation | tap | model        one kind of test
#   make tap T=test/t/020_name.pl    one single test (regress, isolation and
#                             unit take a name: make regress T=name)
#   make soak                 the long runs
#   make bench                the figures
#
# WERROR=1 makes warnings errors.  PG_CONFIG=/path/to/pg_config picks a server.
#
# This file is two makefiles.  Asked for a test or the demo, it needs neither
# a server nor its headers to be parsed: it installs what is missing first and
# then calls itself.  Asked for anything else it is an ordinary PGXS makefile.

PG_CONFIG ?= pg_config
T ?=

HARNESS = demo check soak unit model regress isolation tap bench deps tools \
	unit-programs

ifneq ($(filter $(HARNESS),$(MAKECMDGOALS)),)
# ---------------------------------------------------------------------------
# Tests, demo, figures
# ---------------------------------------------------------------------------

.PHONY: $(HARNESS)
# The parts of a run share the build; what runs side by side, the runner says.
.NOTPARALLEL:

SUB = $(MAKE) --no-print-directory
# The build uses every processor, unless make was told how many.
PARALLEL = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc 2>/dev/null || echo 2))

check: deps
	$(SUB) $(PARALLEL) all
	$(SUB) unit-programs tools
	test/install-extension $(SUB)
	PG_CONFIG='$(PG_CONFIG)' test/as-user test/suite unit model regress isolation tap

soak: deps
	$(SUB) $(PARALLEL) all
	$(SUB) tools
	test/install-extension $(SUB)
	PG_CONFIG='$(PG_CONFIG)' LEASEHOLD_SOAK=1 test/as-user test/suite --test='$(T)' model tap

regress isolation tap: deps
	$(SUB) $(PARALLEL) all
	$(SUB) tools
	test/install-extension $(SUB)
	PG_CONFIG='$(PG_CONFIG)' test/as-user test/suite --test='$(T)' $@

unit: deps
	$(SUB) unit-programs
	PG_CONFIG='$(PG_CONFIG)' test/as-user test/suite --test='$(T)' unit

model: deps
	PG_CONFIG='$(PG_CONFIG)' test/as-user test/suite model

demo: deps
	@{ $(SUB) $(PARALLEL) all && $(SUB) tools; } >demo/build.log 2>&1 && test/install-extension $(SUB) >>demo/build.log 2>&1 \
		|| { cat demo/build.log; exit 1; }
	@PG_CONFIG='$(PG_CONFIG)' test/as-user demo/demo
	@PG_CONFIG='$(PG_CONFIG)' test/as-user demo/standbys
	@PG_CONFIG='$(PG_CONFIG)' test/as-user demo/tables

bench: deps
	$(SUB) $(PARALLEL) all
	$(SUB) tools
	test/install-extension $(SUB)
	PG_CONFIG='$(PG_CONFIG)' test/as-user bench/run $(T)

deps:
	@PG_CONFIG='$(PG_CONFIG)' test/install-deps $(filter $(HARNESS),$(MAKECMDGOALS))

# Goals of the other half, named beside one of ours.
$(filter-out $(HARNESS) tools,$(MAKECMDGOALS)):
	@$(SUB) $@

# Unit tests: a program for each test/unit/test_*.c, linked with layer 0, which
# must compile without the server's headers.
LAYER0 := $(sort $(wildcard src/clock*.c src/lease.c src/lease_*.c src/election*.c \
	src/candidacy.c src/syncset.c src/timeline.c src/names.c src/list.c \
	src/path.c src/spread.c src/cause*.c src/verdict.c src/lines.c src/report.c src/walk.c src/remedy*.c src/picture*.c \
	src/rejoin/plan.c))
UNIT_PROGRAMS := $(patsubst %.c,%,$(wildcard test/unit/test_*.c))
TOOL_CFLAGS = -std=gnu99 -O2 -g -Wall -Wextra -Wmissing-prototypes -Wno-unused-parameter -Isrc \
	$(if $(WERROR),-Werror)
UNIT_CFLAGS = -std=gnu99 -O1 -g -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all -Isrc \
	$(if $(WERROR),-Werror)

unit-programs: $(UNIT_PROGRAMS)

LAYER0_OBJS := $(LAYER0:src/%.c=test/unit/obj/%.o)

$(LAYER0_OBJS): test/unit/obj/%.o: src/%.c $(wildcard src/*.h src/rejoin/plan.h)
	@mkdir -p $(@D)
	$(CC) $(UNIT_CFLAGS) -c -o $@ $<

test/unit/obj/layer0.a: $(LAYER0_OBJS)
	@rm -f $@
	@$(AR) rc $@ $^

$(UNIT_PROGRAMS): %: %.c test/unit/obj/layer0.a $(wildcard test/unit/*.h)
	$(CC) $(UNIT_CFLAGS) -o $@ $< test/unit/obj/layer0.a -lcmocka

tools: test/tools/writer test/tools/pgproxy test/tools/picture test/fake/wallclock.so

test/tools/writer: test/tools/writer.c src/clock.h
	$(CC) $(TOOL_CFLAGS) -I"$$($(PG_CONFIG) --includedir)" -o $@ $< \
		-L"$$($(PG_CONFIG) --libdir)" -lpq -lpthread

test/tools/pgproxy: test/tools/pgproxy.c src/clock.h
	$(CC) $(TOOL_CFLAGS) -o $@ $<

test/tools/picture: test/tools/picture.c $(LAYER0) $(wildcard src/*.h)
	$(CC) $(TOOL_CFLAGS) -o $@ $< $(LAYER0)

test/fake/wallclock.so: test/fake/wallclock.c
	$(CC) $(TOOL_CFLAGS) -shared -fPIC -o $@ $< -ldl

else
# ---------------------------------------------------------------------------
# Build and install (PGXS)
# ---------------------------------------------------------------------------

EXTENSION = leasehold
MODULE_big = leasehold
PGFILEDESC = "leasehold - one writable instance at a time"
DATA = leasehold--1.0.sql leasehold-store.sql
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))

PG_CPPFLAGS = -Isrc -I$(libpq_srcdir)
# The server's own headers do not pass these.
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-cast-function-type \
	$(if $(WERROR),-Werror)
SHLIB_LINK_INTERNAL = $(libpq) -lpthread

EXTRA_CLEAN = tmp_check demo/build.log test/unit/obj \
	test/tools/writer test/tools/pgproxy test/tools/picture test/fake/wallclock.so \
	$(patsubst %.c,%,$(wildcard test/unit/test_*.c))

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifeq ($(wildcard $(PGXS)),)
$(error no server development files found by "$(PG_CONFIG)": say "make deps", or PG_CONFIG=/path/to/pg_config)
endif

# No bitcode for JIT inlining: nothing here would gain by it, it would need the
# compiler that the server was built with, and a copy that a later installation
# left behind would be inlined in place of the new code.
override with_llvm = no

include $(PGXS)

$(OBJS): $(wildcard src/*.h)

# The program that brings a returning instance back: frontend code only.
# Modules and programs cannot be made by one PGXS makefile, so these are the
# rules for the program.
REJOIN = leasehold-rejoin$(X)
REJOIN_OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/rejoin/*.c))) src/list.o src/names.o src/roster.o

$(REJOIN_OBJS): $(wildcard src/*.h src/rejoin/*.h)

all: $(REJOIN)

$(REJOIN): $(REJOIN_OBJS)
	$(CC) $(CFLAGS) $(REJOIN_OBJS) $(LDFLAGS) $(LDFLAGS_EX) \
		-L$(pkglibdir) -lpgcommon -lpgport $(libpq) -lm -o $@

install: install-rejoin
uninstall: uninstall-rejoin
clean: clean-rejoin
.PHONY: install-rejoin uninstall-rejoin clean-rejoin

install-rejoin: $(REJOIN)
	$(MKDIR_P) '$(DESTDIR)$(bindir)'
	$(INSTALL_PROGRAM) $(REJOIN) '$(DESTDIR)$(bindir)'

uninstall-rejoin:
	rm -f '$(DESTDIR)$(bindir)/$(REJOIN)'

clean-rejoin:
	rm -f $(REJOIN) $(REJOIN_OBJS)

endif
