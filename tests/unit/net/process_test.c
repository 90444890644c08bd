/* net/process with real children: sh scripts that fork, spin, flood, ignore signals and eat memory.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/resource.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/process.h"
#include "support/kafka.h"
#include "support/raw.h"

struct run {
    struct ec_loop *loop;
    struct ec_process *process;
    size_t lines, bytes, longest;
    char out[4096], err[4096];
    int exits;
    size_t lines_after_exit;
    volatile bool done;
    struct ec_process_result result;
};
static struct run run;

static void on_line(void *arg, bool is_stderr, struct ec_span line)
{
    struct run *r = arg;
    char *into = is_stderr ? r->err : r->out;
    size_t used = strlen(into);
    r->lines++;
    r->lines_after_exit += r->exits > 0;
    r->bytes += line.len;
    r->longest = line.len > r->longest ? line.len : r->longest;
    if (used + line.len + 2 < sizeof(r->out)) {
        memcpy(into + used, line.ptr, line.len);
        memcpy(into + used + line.len, "\n", 2);
    }
}

static void on_exit_(void *arg, const struct ec_process_result *result)
{
    struct run *r = arg;
    r->exits++;
    r->result = *result;
    r->process = NULL;
    r->done = true;
}

static struct ec_err start(struct ec_process_spec *spec)
{
    memset(&run.process, 0, sizeof(run) - offsetof(struct run, process));
    spec->on_line = on_line;
    spec->on_exit = on_exit_;
    spec->arg = &run;
    return ec_process_start(run.loop, spec, &run.process);
}

static void sh(const char *script, struct ec_process_spec spec)
{
    const char *argv[] = {"sh", "-c", script, NULL};
    spec.argv = argv;
    struct ec_err err = start(&spec);
    assert_string_equal(err.what ? err.what : "", "");
}

static void finish(uint32_t max_ms)
{
    loop_until(run.loop, &run.done, max_ms);
    assert_int_equal(run.exits, 1);
    loop_for(run.loop, 20);
    assert_int_equal(run.exits, 1);
    assert_int_equal(run.lines_after_exit, 0);
}

static void test_output_and_code(void **state)
{
    (void)state;
    sh("echo one; echo two >&2; printf three; cat; exit 7",
       (struct ec_process_spec){.input = EC_SPAN("-in")});
    assert_true(ec_process_pid(run.process) > 1);
    assert_int_equal(run.lines, 0); /* never before start has returned */
    finish(3000);
    assert_string_equal(run.out, "one\nthree-in\n");
    assert_string_equal(run.err, "two\n");
    assert_int_equal(run.result.exit_code, 7);
    assert_int_equal(run.result.signal, 0);
    sh("kill -USR1 $$", (struct ec_process_spec){0});
    finish(3000);
    assert_int_equal(run.result.exit_code, -1);
    assert_int_equal(run.result.signal, SIGUSR1);
    assert_false(run.result.timed_out || run.result.cancelled || run.result.out_of_memory);
}

static void test_missing_program(void **state)
{
    (void)state;
    const char *argv[] = {"no-such-program-here", NULL};
    struct ec_process_spec spec = {.argv = argv};
    struct ec_err err = start(&spec);
    assert_int_equal(err.fate, EC_FATE_REJECT);
    assert_non_null(strstr(err.what, "no-such-program-here"));
    const char *sh_argv[] = {"sh", NULL};
    spec = (struct ec_process_spec){.argv = sh_argv, .cwd = "/no/such/folder"};
    err = start(&spec);
    assert_int_equal(err.fate, EC_FATE_REJECT);
    assert_non_null(strstr(err.what, "/no/such/folder"));
    loop_for(run.loop, 20);
    assert_int_equal(run.exits, 0);
}

static void test_clean_environment(void **state)
{
    (void)state;
    setenv("EC_TEST_LEAK", "leaked", 1);
    int extra = dup(0);
    sh("echo $EC_TEST_LEAK; exec ls /proc/self/fd",
       (struct ec_process_spec){0}); /* 3 is ls's own */
    finish(3000);
    close(extra);
    assert_string_equal(run.out, "\n0\n1\n2\n3\n");
}

static int pid_of(const char *text, const char *mark)
{
    const char *at = strstr(text, mark);
    return at ? atoi(at + strlen(mark)) : 0;
}

/* A service that was started without its standard descriptors gives its children theirs. */
static void test_started_with_closed_descriptors(void **state)
{
    (void)state;
    int kept[3];
    for (int i = 0; i < 3; i++) {
        kept[i] = fcntl(i, F_DUPFD_CLOEXEC, 20);
        close(i);
    }
    const char *argv[] = {"sh", "-c", "cat; echo two >&2", NULL};
    struct ec_process_spec spec = {.argv = argv, .input = EC_SPAN("in\n")};
    struct ec_err err = start(&spec);
    loop_until(run.loop, &run.done, 3000);
    for (int i = 0; i < 3; i++) {
        dup2(kept[i], i);
        close(kept[i]);
    }
    assert_int_equal(err.fate, EC_FATE_OK);
    assert_string_equal(run.out, "in\n");
    assert_string_equal(run.err, "two\n");
}

static void test_deadline_kills_grandchildren(void **state)
{
    (void)state;
    sh("(trap '' TERM; sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' & echo pid $!; wait) & "
       "wait",
       (struct ec_process_spec){.deadline_ms = 1500, .kill_grace_ms = 200});
    finish(5000);
    assert_true(run.result.timed_out);
    int pid = pid_of(run.out, "pid ");
    assert_true(pid > 1);
    for (int i = 0; i < 50 && kill(pid, 0) == 0;
         i++) { /* killed; init may take a moment to reap it */
        char path[64], stat[256] = "";
        snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        FILE *file = fopen(path, "r");
        if (!file || !fgets(stat, sizeof(stat), file) || strstr(stat, ") Z")) {
            if (file) {
                fclose(file);
            }
            return;
        }
        fclose(file);
        loop_for(run.loop, 10);
    }
    assert_int_not_equal(kill(pid, 0), 0);
}

static bool has_said(void *text)
{
    return strstr(run.out, text);
}

static void test_cancel(void **state)
{
    (void)state;
    sh("trap '' TERM; echo deaf; while :; do sleep 0.05; done",
       (struct ec_process_spec){.kill_grace_ms = 2500});
    assert_true(test_run_until(run.loop, 3000, has_said, "deaf"));
    ec_process_cancel(run.process);
    ec_process_cancel(run.process);
    assert_int_equal(run.exits, 0); /* never inside cancel */
    int64_t began_ms = ec_mono_ms();
    finish(6000);
    assert_true(ec_mono_ms() - began_ms >= 2400); /* 2 s if not told */
    assert_true(run.result.cancelled);
    assert_false(run.result.timed_out || run.result.out_of_memory);
    assert_int_equal(run.result.signal, SIGKILL);
}

static void test_long_lines(void **state)
{
    (void)state;
    sh("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo end",
       (struct ec_process_spec){.line_max_bytes = 100});
    finish(4000);
    assert_int_equal(run.longest, 100);
    assert_int_equal(run.bytes, 1000003);
}

static void test_flood_with_paused_reader(void **state)
{
    (void)state;
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    sh("yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c "
       "100000000",
       (struct ec_process_spec){0});
    loop_for(run.loop, 50);
    ec_process_pause(run.process, true);
    loop_for(run.loop, 50);
    size_t bytes = run.bytes;
    loop_for(run.loop, 200);
    assert_int_equal(run.bytes, bytes);
    ec_process_pause(run.process, false);
    finish(15000);
    getrusage(RUSAGE_SELF, &after);
    assert_true(run.bytes + run.lines >= 100000000);
    assert_true(after.ru_maxrss - before.ru_maxrss < 4096); /* KiB */
}

static void test_exit_while_paused(void **state)
{
    (void)state;
    sh("seq 1 5000", (struct ec_process_spec){0});
    ec_process_pause(run.process, true);
    loop_for(run.loop, 600); /* longer than the grace of the pipes */
    assert_int_equal(run.exits, 0);
    ec_process_pause(run.process, false);
    finish(3000);
    assert_int_equal(run.lines, 5000);
}

static void test_grandchild_keeps_pipe(void **state)
{
    (void)state;
    sh("sleep 30 & echo started", (struct ec_process_spec){0});
    int64_t began_ms = ec_mono_ms();
    finish(5000);
    assert_true(ec_mono_ms() - began_ms < 15000);
    assert_string_equal(run.out, "started\n");
    assert_int_equal(run.result.exit_code, 0);
}

static void test_limits(void **state)
{
    (void)state;
    sh("x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}",
       (struct ec_process_spec){.memory_max_bytes = 64 << 20, .deadline_ms = 20000});
    finish(9000);
    assert_int_not_equal(run.result.exit_code, 0);
    assert_true(run.result.out_of_memory ||
                run.result.exit_code > 0); /* RLIMIT_DATA where no group */
    if (access("/sys/fs/cgroup/memory", W_OK) == 0) {
        assert_true(run.result.out_of_memory);
        /* Killed by somebody else: the control group knows better. */
        sh("kill -9 $$", (struct ec_process_spec){.memory_max_bytes = 64 << 20});
        finish(3000);
        assert_int_equal(run.result.signal, SIGKILL);
        assert_false(run.result.out_of_memory);
    }
    sh("for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.3 & done; wait; echo all",
       (struct ec_process_spec){.pids_max = 4});
    finish(4000);
    if (access("/sys/fs/cgroup/pids", W_OK) == 0) {
        assert_null(strstr(run.out, "all"));
    }
    sh("while :; do :; done", (struct ec_process_spec){.cpu_s_max = 1, .deadline_ms = 40000});
    finish(15000);
    assert_true(run.result.signal == SIGXCPU || run.result.signal == SIGKILL);
    assert_true(run.result.cpu_ms >= 800);
    assert_false(run.result.timed_out);
}

/* The loop stood still while the child ended and its deadline passed. */
static void test_a_child_that_has_ended_is_not_late(void **state)
{
    (void)state;
    sh("exit 3", (struct ec_process_spec){.deadline_ms = 300});
    usleep(600000);
    finish(3000);
    assert_false(run.result.timed_out);
    assert_int_equal(run.result.exit_code, 3);
}

static void test_output_file(void **state)
{
    (void)state;
    char path[] = "/tmp/ec_process_test.XXXXXX";
    int fd = mkstemp(path);
    sh("echo to the file; echo and errors >&2", (struct ec_process_spec){.output_file = path});
    finish(3000);
    char text[100] = "";
    assert_true(read(fd, text, sizeof(text) - 1) > 0);
    assert_string_equal(text, "to the file\nand errors\n");
    assert_int_equal(run.lines, 0);
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_output_and_code),
        cmocka_unit_test(test_missing_program),
        cmocka_unit_test(test_clean_environment),
        cmocka_unit_test(test_started_with_closed_descriptors),
        cmocka_unit_test(test_deadline_kills_grandchildren),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_flood_with_paused_reader),
        cmocka_unit_test(test_exit_while_paused),
        cmocka_unit_test(test_grandchild_keeps_pipe),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_a_child_that_has_ended_is_not_late),
        cmocka_unit_test(test_output_file),
    };
    ec_log_setup("test", EC_LOG_WARN);
    run.loop = ec_loop_new();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ec_loop_free(run.loop);
    return failed;
}
