# slimscope: the one build file.  `make help` lists the targets.
VERSION   := 0.1.0
BUILD     ?= build
ifeq ($(origin CC),default)
CC        := gcc
endif
ifneq ($(V),1)
Q         := @
endif
PREFIX    ?= /usr/local
DESTDIR   ?=
PKGS      := ncursesw readline yaml-0.1 libcjson openblas libpcre2-8 libutf8proc nettle zlib
# Only its header is needed: it is loaded by the first run that asks a server something (core/evaluate/http.c).
PKGS_LATER := libcurl
DEB_BUILD := gcc make pkg-config libncurses-dev libreadline-dev libyaml-dev libcjson-dev \
             libopenblas-dev libpcre2-dev libutf8proc-dev nettle-dev zlib1g-dev \
             libcurl4-openssl-dev
DEB_MPI   := libopenmpi-dev openmpi-bin
DEB_CHECK := libcmocka-dev clang python3 $(DEB_MPI)
# Links the tests in a third of the time.
DEB_QUICK := lld
PKGCONF   ?= pkg-config

WARN      := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
DEBUG     ?= -g
OPT       ?= -O2 $(DEBUG)
# Results must not depend on how a compiler fuses a*b+c: contraction is off everywhere.
CFLAGS    ?=
ALL_CFLAGS = -std=c17 -D_GNU_SOURCE $(WARN) $(OPT) -ffp-contract=off -pthread -Icore -I. \
             -DSLIMSCOPE_VERSION='"$(VERSION)"' -DSLIMSCOPE_PREFIX='"$(PREFIX)"' $(PKG_CFLAGS) $(CFLAGS)
LDLIBS     = $(PKG_LIBS) -lm -pthread
ifeq ($(SAN),1)
OPT       := -O1 $(DEBUG) -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined
endif
ifeq ($(SAN),thread)
OPT       := -O1 $(DEBUG) -fsanitize=thread -fno-omit-frame-pointer
endif
ifeq ($(SAN),fuzzer)
OPT       := -O1 $(DEBUG) -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -DFUZZ_LIBFUZZER
endif
ifeq ($(WERROR),1)
WARN      += -Werror
endif
NEEDS_PKG := $(filter-out help deps deps-check demo check check-arm clean,$(or $(MAKECMDGOALS),all))
ifneq ($(NEEDS_PKG),)
PKG_CFLAGS := $(shell $(PKGCONF) --cflags $(PKGS) $(PKGS_LATER) $(if $(filter 1,$(MPI)),ompi) >/dev/null 2>&1 && $(PKGCONF) --cflags $(PKGS) $(PKGS_LATER) || echo missing)
PKG_LIBS   := $(shell $(PKGCONF) --libs $(PKGS) 2>/dev/null)
ifeq ($(PKG_CFLAGS),missing)
$(error $(PKGCONF) does not find$(shell for p in $(PKGS) $(PKGS_LATER) $(if $(filter 1,$(MPI)),ompi); do $(PKGCONF) --exists $$p 2>/dev/null || printf ' %s' $$p; done): 'make deps$(if $(filter 1,$(MPI)), MPI=1)' installs what building needs ($(DEB_BUILD)$(if $(filter 1,$(MPI)), $(DEB_MPI))))
endif
endif

MPI_SRC   := core/dist/mpi.c
CORE_SRC  := $(sort $(filter-out $(MPI_SRC),$(wildcard core/*.c core/*/*.c core/*/*/*.c)))
APP_SRC   := $(sort $(filter-out src/main.c,$(wildcard src/*.c ui/*.c)))
HEADERS   := $(wildcard core/*/*.h core/*/*/*.h src/*.h ui/*.h)
CORE_OBJ  := $(CORE_SRC:%.c=$(BUILD)/%.o)
APP_OBJ   := $(APP_SRC:%.c=$(BUILD)/%.o)
MAIN_OBJ  := $(BUILD)/src/main.o
MPI_OBJ   := $(MPI_SRC:%.c=$(BUILD)/%.o)
TEST_LIB  := $(patsubst %.c,$(BUILD)/%.o,$(sort $(filter-out tests/lib/faultshim.c,$(wildcard tests/lib/*.c))))
FAULTSHIM := $(BUILD)/tests/faultshim.so
UNIT_BIN  := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(sort $(wildcard tests/unit/test_*.c)))

.PHONY: FORCE all demo check check-arm check-loaders faults fuzz fuzz-keys unused bench bench-peers bench-real install deps deps-check clean help unit
.SECONDARY:
.DELETE_ON_ERROR:

all: $(BUILD)/slimscope ## build build/slimscope (never installs anything; MPI=1: for several machines)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC    $<")
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/libcore.a: $(CORE_OBJ) tests/core_purity.sh
	@sh tests/core_purity.sh $(CORE_OBJ)
	@rm -f $@
	$(Q)ar rcs $@ $(CORE_OBJ)

$(BUILD)/libapp.a: $(APP_OBJ)
	@rm -f $@
	$(Q)ar rcs $@ $(APP_OBJ)

# With MPI=1 the program has one object more; slimscope-mpi always has it (the tests use it).
$(BUILD)/slimscope: $(MAIN_OBJ) $(BUILD)/libapp.a $(BUILD)/libcore.a $(if $(filter 1,$(MPI)),$(MPI_OBJ)) tests/floors.sh $(BUILD)/linked
	@sh tests/floors.sh $(CORE_SRC) $(MPI_SRC) $(APP_SRC) src/main.c $(HEADERS)
	$(if $(Q),@echo "  LD    $@")
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $(filter %.o %.a,$^) -o $@ $(LDLIBS) $(if $(filter 1,$(MPI)),$(MPI_LIBS))

$(BUILD)/slimscope-mpi: $(MAIN_OBJ) $(MPI_OBJ) $(BUILD)/libapp.a $(BUILD)/libcore.a
	$(if $(Q),@echo "  LD    $@")
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $^ -o $@ $(LDLIBS) $(MPI_LIBS)

MPI_LIBS   = $(shell $(PKGCONF) --libs ompi)
$(MPI_OBJ): ALL_CFLAGS += $(patsubst -I%,-isystem %,$(shell $(PKGCONF) --cflags ompi))
# Says how the program is linked, and is new when that changes.
$(BUILD)/linked: FORCE
	@mkdir -p $(@D)
	@echo 'MPI=$(MPI)' | cmp -s - $@ || echo 'MPI=$(MPI)' >$@

# Tests need no fast code of their own, only what they test does; checked by ASan and UBSan, they'd take long to compile.
$(BUILD)/tests/unit/%.o: ALL_CFLAGS += $(if $(filter 1,$(SAN)),-O0,-O1)

$(BUILD)/tests/%: $(BUILD)/tests/unit/%.o $(TEST_LIB) $(BUILD)/libapp.a $(BUILD)/libcore.a
	@mkdir -p $(@D)
	$(if $(Q),@echo "  LD    $@")
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $(filter %.o,$^) $(filter %.a,$^) -o $@ -lcmocka $(LDLIBS)

# Readers of foreign bytes with changed seeds; `make fuzz` builds the same with clang's libFuzzer.
FUZZ_OBJ  := $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard tests/fuzz/*.c)))
$(BUILD)/tests/run_fuzz: $(FUZZ_OBJ) $(BUILD)/libapp.a $(BUILD)/libcore.a
	@mkdir -p $(@D)
	$(if $(Q),@echo "  LD    $@")
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $(FUZZ_OBJ) $(BUILD)/libapp.a $(BUILD)/libcore.a -o $@ $(LDLIBS)

# Preloaded by tests: without sanitizers of its own, whatever the program it goes into has.
$(FAULTSHIM): tests/lib/faultshim.c
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c17 -D_GNU_SOURCE $(WARN) -O1 -g -fno-omit-frame-pointer -fPIC -shared $< -o $@

unit: $(UNIT_BIN) $(FAULTSHIM) $(BUILD)/tests/run_fuzz $(BUILD)/bench/kernels ## build the unit tests and what measures, without running them

check: deps-check ## install what the tests need, build, and run every test
	@CC="$(CC)" MAKE="$(MAKE)" sh tests/run.sh

faults: export PYTHONDONTWRITEBYTECODE := 1
faults: all $(FAULTSHIM) ## fail every allocation and every call for a file, and kill before each, one by one
	@bad=0; python3 tests/lib/faults.py $(BUILD)/slimscope $(FAULTSHIM) || bad=1; \
	python3 tests/lib/diskfaults.py $(BUILD)/slimscope $(FAULTSHIM) || bad=1; \
	python3 tests/lib/diskfaults.py --kill $(BUILD)/slimscope $(FAULTSHIM) || bad=1; exit $$bad

PYTHON    ?= python3
check-loaders: all ## load outputs with transformers and compressed-tensors, if PYTHON has them, and compare logits
	@PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -W ignore tests/loaders.py $(BUILD)/slimscope $(FAMILIES)

check-arm: ## build core/math for arm64 and run its tests under qemu, if both are installed
	@sh tests/arm.sh $(BUILD)

fuzz: $(BUILD)/tests/run_fuzz ## search each reader of foreign bytes with libFuzzer (SECONDS=60 each; needs clang)
	@$(MAKE) --no-print-directory -s CC=clang BUILD=build-fuzz SAN=fuzzer LDFLAGS=-fsanitize=fuzzer build-fuzz/tests/run_fuzz
	@sh tests/fuzz/search.sh $(BUILD)/tests/run_fuzz build-fuzz/tests/run_fuzz $(or $(SECONDS),60)

# Linked with each function in a section of its own: the linker names those that main does not reach.
fuzz-keys: ## a hundred thousand random keys, lines and sizes into the workbench under ASan (KEYS=N)
	@$(MAKE) --no-print-directory -s BUILD=build-asan SAN=1 build-asan/tests/test_screen
	@SLIMSCOPE_FUZZ_KEYS=$(or $(KEYS),100000) LC_ALL=C.UTF-8 build-asan/tests/test_screen

unused: ## name functions that nothing of the program calls, or only their own file
	@$(MAKE) --no-print-directory -s BUILD=build-unused OPT="-O0 -ffunction-sections" build-unused/unused >/dev/null

$(BUILD)/unused: $(MAIN_OBJ) $(APP_OBJ) $(CORE_OBJ) tests/unused.sh $(wildcard tests/unit/*.c tests/lib/*.c)
	$(Q)$(CC) $(ALL_CFLAGS) -Wl,--gc-sections,--print-gc-sections $(filter %.o,$^) -o $(BUILD)/whole $(LDLIBS) 2>$@.txt
	@sh tests/unused.sh $@.txt $(filter %.o,$^) && touch $@

# A make of its own builds: this one read pkg-config before the packages were there.
demo: deps ## install what is missing, build, and open the workbench on the demo model
	@$(MAKE) --no-print-directory all
	@sh tests/demo.sh $(BUILD)/slimscope

# A sanitizer's builds don't optimize; without it kernels keep their sums in memory. The loops of products would be checked
# over and over, and take most of the time of all tests: test_tiles alone has them checked, in objects of its own.
ifneq ($(SAN),)
$(BUILD)/core/math/%.o: ALL_CFLAGS += -O2
TILES := $(wildcard core/math/tile_*.c)
$(TILES:%.c=$(BUILD)/%.o): ALL_CFLAGS += -fno-sanitize=all
$(BUILD)/checked/%.o: core/math/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -O2 -MMD -MP -c $< -o $@
$(BUILD)/tests/test_tiles: $(TILES:core/math/%.c=$(BUILD)/checked/%.o)
endif

# OpenBLAS, where it is there, is measured beside the program's own products.
$(BUILD)/tests/bench/kernels.o: ALL_CFLAGS += $(shell $(PKGCONF) --exists openblas && echo -DHAVE_OPENBLAS && $(PKGCONF) --cflags openblas)
BENCH_OBJ := $(BUILD)/tests/bench/kernels.o $(BUILD)/tests/bench/peak.o
$(BUILD)/bench/kernels: $(BENCH_OBJ) $(BUILD)/libcore.a
	@mkdir -p $(@D)
	$(if $(Q),@echo "  LD    $@")
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $^ -o $@ $(LDLIBS) $(shell $(PKGCONF) --libs openblas 2>/dev/null)

bench: all $(BUILD)/bench/kernels ## measure speed, memory and latency (QUICK=1: a minute of it; JSON=FILE: also as lines of JSON)
	@QUICK=$(QUICK) JSON=$(JSON) sh tests/bench/run.sh $(BUILD) report

bench-peers: all $(BUILD)/bench/kernels ## the same model by Hugging Face, if PYTHON has torch and transformers, and by llama.cpp (GGUF=FILE)
	@QUICK=$(QUICK) JSON=$(JSON) PYTHON=$(PYTHON) GGUF=$(GGUF) sh tests/bench/run.sh $(BUILD) peers

bench-real: all ## analyze, measure and quantize a model of yours (MODEL=DIR; QUICK=1: short texts)
	@QUICK=$(QUICK) JSON=$(JSON) sh tests/bench/run.sh $(BUILD) real $(MODEL)

deps: ## install the Debian packages that building needs (MPI=1: with those of MPI)
	@sh tests/deps.sh $(DEB_BUILD) $(if $(filter 1,$(MPI)),$(DEB_MPI))

deps-check:
	@sh tests/deps.sh $(DEB_BUILD) $(DEB_CHECK) $(DEB_QUICK) || sh tests/deps.sh $(DEB_BUILD) $(DEB_CHECK)

install: all ## install into PREFIX (default /usr/local), below DESTDIR
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/slimscope $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 755 $(BUILD)/slimscope $(DESTDIR)$(PREFIX)/bin/slimscope
	cp -R themes lab_calib lab_practice lab_models $(DESTDIR)$(PREFIX)/share/slimscope/
	install -m 644 slimscope.1 $(DESTDIR)$(PREFIX)/share/man/man1/slimscope.1

clean: ## remove everything that was built
	rm -rf build build-*

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-13s %s\n", $$1, $$2}' Makefile

-include $(CORE_OBJ:.o=.d) $(MPI_OBJ:.o=.d) $(APP_OBJ:.o=.d) $(MAIN_OBJ:.o=.d) $(TEST_LIB:.o=.d) $(UNIT_BIN:$(BUILD)/tests/%=$(BUILD)/tests/unit/%.d) \
         $(FUZZ_OBJ:.o=.d) $(BENCH_OBJ:.o=.d)
