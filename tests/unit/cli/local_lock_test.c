/* Who runs: the lock of the local platform, those that only look at it, and whom `down` stops. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli.h"
#include "local.h"

const struct command commands[] = {{NULL, NULL, NULL, NULL, NULL, false}};
static struct local local;
static char folder[] = "/tmp/enclii-lock-test.XXXXXX";

static int set_up(void **state)
{
    (void)state;
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    local = (struct local){.arena = ec_arena_new(1 << 20), .home = mkdtemp(folder)};
    return ec_failed(local_make_folder(&local, local_path(&local, "run"), 0700)) ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    int code = system(ec_arena_format(local.arena, "rm -r '%s'", folder));
    ec_arena_free(local.arena);
    return code;
}

/* A process that holds the lock until it is killed; the pipe says when it does. */
static pid_t start_holder(void)
{
    int ends[2];
    char byte = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        byte = local_lock(&local) >= 0;
        byte = write(ends[1], &byte, 1) == 1;
        for (;;) {
            pause();
        }
    }
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_int_equal(byte, 1);
    close(ends[0]);
    close(ends[1]);
    return pid;
}

static void end_holder(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void the_holder_is_known_without_a_state_file(void **state)
{
    (void)state;
    assert_false(local_running(&local));
    assert_int_equal(local_supervisor(&local), 0);
    pid_t pid = start_holder();
    assert_true(local_running(&local));
    assert_int_equal(local_supervisor(&local), pid);
    end_holder(pid);
    assert_false(local_running(&local));
    assert_int_equal(local_supervisor(&local), 0);
}

/* Nobody is better than a wrong one: 0 and a process of another time are never signalled. */
static void a_reused_pid_is_not_the_holder(void **state)
{
    (void)state;
    pid_t pid = start_holder();
    const char *const said[] = {"",
                                "0 0\n",
                                "1 1\n",
                                "0 -1\n",
                                ec_arena_format(local.arena, "%d 17\n", (int)getpid()),
                                "2000000000 -1\n"};
    for (size_t i = 0; i < EC_LEN(said); i++) {
        int fd = open(local_path(&local, "run/lock"), O_WRONLY | O_TRUNC);
        assert_int_equal(write(fd, said[i], strlen(said[i])), strlen(said[i]));
        close(fd);
        assert_true(local_running(&local));
        assert_int_equal(local_supervisor(&local), 0);
    }
    end_holder(pid);
}

static void those_who_look_are_not_the_platform(void **state)
{
    (void)state;
    end_holder(start_holder());
    int looks = open(local_path(&local, "run/lock"), O_RDWR);
    assert_int_equal(flock(looks, LOCK_SH), 0);
    assert_false(local_running(&local));
    pid_t pid = fork();
    if (pid == 0) { /* goes on looking for a while */
        usleep(200000);
        _exit(0);
    }
    close(looks);
    int64_t began_ms = ec_mono_ms();
    int lock = local_lock(&local);
    assert_true(lock >= 0);
    assert_in_range(ec_mono_ms() - began_ms, 50, 5000);
    waitpid(pid, NULL, 0);
    close(lock);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_holder_is_known_without_a_state_file),
        TEST(a_reused_pid_is_not_the_holder),
        TEST(those_who_look_are_not_the_platform),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
