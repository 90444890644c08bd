# Verbs, the same for people and CI:
#   make demo    installs what is missing, builds, runs the whole platform on real parts  (KEEP=1 leaves it running)
#   make test    installs what is missing, runs all tests
#   make build   all programs into build/bin            make check   unit and service tests, three minutes (T=store: one)
#   make run     the platform without the sample        make bench   numbers   make chaos   kill -9 everywhere
#   make bench-webhook  webhook beside its peers
#   make images  the container images, by docker, podman or buildah (docker/build)
#   make asan tsan fuzz lint format docs clean    make proto-lock   accepts additions to the event contract
# How it works: libs/*/*.c make one archive; each services/<name>/*.c makes build/bin/enclii-<name>
# (services/cli makes `enclii`); proto/**/*.proto, proto/topics.yaml and services/*/sql/*.sql make
# code in build/gen. B=<folder> and MODE=<asan|tsan|cov> build the same beside it.

MAKEFLAGS += -r
MODE ?=
B    ?= build$(if $(MODE),/$(MODE))
CC   ?= gcc
VERSION := $(shell cat VERSION)+$(shell git rev-parse --short=7 HEAD 2>/dev/null || echo unknown)

PKGS := rdkafka libuv libprotobuf-c libpq jansson openssl libcurl yaml-0.1
# Looked up only when something is compiled, so that `make demo` can install them first.
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS))
PKG_LIBS   = $(shell pkg-config --libs $(PKGS))

WARN := -Wall -Wextra -Wshadow -Wvla -Wformat=2 -Wmissing-prototypes -Wstrict-prototypes -Wundef \
        -Wcast-qual -Werror=unused-result -Werror=implicit-function-declaration $(if $(CI),-Werror)
OPT_     := -O2 -D_FORTIFY_SOURCE=2
OPT_asan := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -Wno-format-truncation
OPT_tsan := -O1 -fsanitize=thread -fno-omit-frame-pointer -Wno-format-truncation
OPT_cov  := -O0 --coverage
CFLAGS  ?= -std=gnu17 -g $(OPT_$(MODE)) -fstack-protector-strong -fPIE $(WARN)
# Generated headers are system headers (their macros cast const away); -MD tracks them all the same.
CPPFLAGS = -D_GNU_SOURCE -Ilibs -isystem $(B)/gen $(PKG_CFLAGS) -MD -MP
LDFLAGS ?= $(filter -fsanitize=% --coverage,$(OPT_$(MODE))) -pie -Wl,-z,relro,-z,now
LIBS     = $(PKG_LIBS) -lm -lpthread

PROTO   := $(wildcard proto/enclii/v1/*.proto)
PB      := $(PROTO:proto/%.proto=$(B)/gen/%.pb-c)
GEN_H   := $(PB:=.h)
LIB_SRC := $(wildcard libs/*/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(B)/obj/%.o) $(PB:$(B)/gen/%=$(B)/obj/gen/%.o) $(B)/obj/gen/topics.o $(B)/obj/gen/version.o
LIB     := $(B)/libenclii.a

SERVICES := $(notdir $(patsubst %/,%,$(dir $(wildcard services/*/main.c))))
bin_of    = $(B)/bin/$(if $(filter cli,$(1)),enclii,enclii-$(1))
PROGRAMS := $(foreach s,$(SERVICES),$(call bin_of,$(s)))
# A service's objects without main.o: what its tests link.
objs_of   = $(patsubst %.c,$(B)/obj/%.o,$(wildcard services/$(1)/*.c)) $(if $(wildcard services/$(1)/sql),$(B)/obj/gen/sql/$(1).o)

.PHONY: all build check test-programs test demo run bench bench-engine bench-webhook chaos chaos-programs intake-programs fuzz asan tsan lint format docs clean setup proto-lock images
all: build
build: $(PROGRAMS)

# ---- generated code ----
.SECONDARY: $(GEN_H)
$(B)/gen/%.pb-c.c $(B)/gen/%.pb-c.h: proto/%.proto
	@mkdir -p $(@D)
	protoc-c --proto_path=proto --c_out=$(B)/gen $<
$(B)/gen/topics.c: proto/topics.yaml tools/gen-topics
	@mkdir -p $(@D)
	tools/gen-topics $< > $@.new && mv $@.new $@
$(B)/gen/sql/%.c: tools/gen-sql $(wildcard services/*/sql/*.sql)
	@mkdir -p $(@D)
	tools/gen-sql $* services/$*/sql > $@.new && mv $@.new $@
$(B)/gen/version.c: VERSION $(wildcard .git/HEAD .git/refs/heads/*)
	@mkdir -p $(@D)
	printf 'extern const char ec_version[];\nconst char ec_version[] = "%s";\n' '$(VERSION)' > $@

# ---- objects, archive, programs ----
$(B)/obj/gen/%.o: $(B)/gen/%.c | $(GEN_H)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(filter-out -W%,$(CFLAGS)) -c -o $@ $<
$(B)/obj/%.o: %.c | $(GEN_H)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -Iservices/$(word 2,$(subst /, ,$*)) $(CFLAGS) -c -o $@ $<
$(LIB): $(LIB_OBJ)
	rm -f $@ && ar rcs $@ $^
$(B)/obj/services/cli/local_router.o: docker/haproxy.cfg.in
$(B)/obj/services/builder/isolation.o: services/builder/isolate.sh
# Also in the programs, which tests start.
TSAN_OBJ := $(if $(filter tsan,$(MODE)),$(B)/obj/tests/tsan/threads.o)
define program
$(call bin_of,$(1)): $(call objs_of,$(1)) $(TSAN_OBJ) $(LIB)
	@mkdir -p $$(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $$@ $$^ $$(LIBS)
endef
$(foreach s,$(SERVICES),$(eval $(call program,$(s))))

# ---- tests: tests/unit/<layer>/<module>_test.c and tests/service/<service>_*_test.c, one program each;
# tests/support/*.c is an archive they share ----
SUPPORT     := $(B)/libsupport.a
SUPPORT_OBJ := $(patsubst %.c,$(B)/obj/%.o,$(wildcard tests/support/*.c)) $(patsubst %,$(B)/obj/gen/sql/%.o,pipeline history sweeper)
UNIT    := $(wildcard tests/unit/*/*_test.c)
SERVICE := $(wildcard tests/service/*_test.c)
BENCH   := $(wildcard tests/bench/*_bench.c)
TESTS   := $(patsubst %.c,$(B)/%,$(UNIT) $(SERVICE))
CHOSEN   = $(if $(T),$(foreach t,$(TESTS),$(if $(findstring $(T),$(t)),$(t))),$(TESTS))
svc_of_unit    = $(word 3,$(subst /, ,$(1)))
svc_of_service = $(firstword $(subst _, ,$(notdir $(1))))
$(SUPPORT): $(SUPPORT_OBJ) Makefile
	rm -f $@ && ar rcs $@ $(SUPPORT_OBJ)
define test_program
$(B)/$(1): $(B)/obj/$(1).o $(filter-out %/main.o,$(call objs_of,$(2))) $(TSAN_OBJ) $(SUPPORT) $(LIB)
	@mkdir -p $$(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -rdynamic -o $$@ $$^ $$(LIBS) -lcmocka
endef
$(B)/obj/tests/%.o: CPPFLAGS += -Itests $(addprefix -Iservices/,$(SERVICES))
$(foreach t,$(UNIT:%.c=%),$(eval $(call test_program,$(t),$(call svc_of_unit,$(t)))))
$(foreach t,$(SERVICE:%.c=%) $(BENCH:%.c=%),$(eval $(call test_program,$(t),$(call svc_of_service,$(t)))))

# ---- tests/integration/*_drive.c: stand in for `pipeline` beside one service (tests/support/drive.h) ----
$(B)/drive/%: $(B)/obj/tests/integration/%_drive.o $(SUPPORT) $(LIB)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# ---- chaos: doubles of slow tools, and services with a bug planted by the linker (see tests/chaos) ----
CHAOS_BIN := $(B)/chaos/buildah $(B)/chaos/make_topics $(B)/chaos/enclii-pipeline-planted
INTAKE_BIN := $(B)/chaos/make_topics $(B)/chaos/enclii-webhook-planted $(B)/chaos/webhook_load
$(B)/chaos/buildah: $(B)/obj/tests/chaos/fast_buildah.o $(LIB)
$(B)/chaos/make_topics: $(B)/obj/tests/chaos/make_topics.o $(LIB)
$(B)/chaos/enclii-pipeline-planted $(B)/chaos/enclii-webhook-planted: LDFLAGS += -Wl,--wrap=ec_bus_publish
$(B)/chaos/enclii-pipeline-planted: $(B)/obj/tests/chaos/planted.o $(call objs_of,pipeline) $(LIB)
$(B)/chaos/enclii-webhook-planted: $(B)/obj/tests/chaos/planted_intake.o $(call objs_of,webhook) $(LIB)
$(B)/chaos/webhook_load: $(B)/obj/tests/bench/webhook_load.o
$(sort $(CHAOS_BIN) $(INTAKE_BIN)):
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

test-programs: build chaos-programs intake-programs $(TESTS) $(BENCH:%.c=$(B)/%)
check: build $(CHOSEN)
	tools/run-tests $(CHOSEN)
setup:
	tools/setup
test:
	tools/setup test
	tools/test-all
demo: setup
	$(MAKE) -s -j2 build
	tools/demo
run: setup
	$(MAKE) -s -j2 build
	$(B)/bin/enclii local up
asan:
	$(MAKE) MODE=asan check
tsan:
	TEST_SECONDS=300 TEST_JOBS=3 TSAN_OPTIONS=suppressions=$(CURDIR)/tests/tsan/suppressions $(MAKE) MODE=tsan check
bench-engine: build $(B)/tests/bench/pipeline_engine_bench $(B)/tests/bench/pipeline_relay_bench
	TEST_PG_REAL=1 $(B)/tests/bench/pipeline_engine_bench $(PUSHES)
	TEST_PG_REAL=1 $(B)/tests/bench/pipeline_relay_bench $(ROWS) $(EVENTS)
bench: setup
	$(MAKE) -s -j2 build
	tools/bench
bench-webhook: setup
	$(MAKE) -s -j2 build intake-programs
	python3 tests/bench/webhook.py $(if $(ONLY),--only $(ONLY))
images:
	docker/build
docs: build
	tools/docs
chaos: setup
	$(MAKE) -s -j2 build chaos-programs
	tools/chaos
chaos-programs: $(CHAOS_BIN)
intake-programs: $(INTAKE_BIN)
fuzz lint format:
	tools/$@
proto-lock:
	tools/proto-lock --write
clean:
	rm -rf build

-include $(LIB_OBJ:.o=.d) $(SUPPORT_OBJ:.o=.d) $(foreach s,$(SERVICES),$(patsubst %.o,%.d,$(call objs_of,$(s)))) $(TESTS:$(B)/%=$(B)/obj/%.d)
