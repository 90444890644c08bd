/* What a child prints: two pipes, read piece by piece and given out line by line; a line that is
 * too long is cut into several. While the reader is paused, nothing is read. */
#include "net/process_private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#define READ_BYTES 16384 /* per read */
#define READS_PER_TURN 4 /* per pipe and turn: other sources come first then */
#define DRAIN_READS 64   /* at the end of that: 1 MiB at most, a pipe holds 64 KiB */

static void emit(struct ec_process_output *output, const char *ptr, size_t len)
{
    struct ec_process *process = output->process;
    if (process->on_line) {
        process->on_line(process->arg, output->is_stderr, (struct ec_span){ptr, len});
    }
}

static void split_lines(struct ec_process_output *output, const char *ptr, size_t len)
{
    size_t max = output->process->line_max_bytes;
    while (len > 0) {
        const char *newline = memchr(ptr, '\n', len);
        size_t part = newline ? (size_t)(newline - ptr) : len;
        size_t room = max - output->len;
        if (part > room) { /* longer than a line may be: cut it here */
            memcpy(output->line + output->len, ptr, room);
            output->len = 0;
            emit(output, output->line, max);
            ptr += room;
            len -= room;
            continue;
        }
        memcpy(output->line + output->len, ptr, part);
        output->len += part;
        ptr += part;
        len -= part;
        if (newline) {
            size_t line_len = output->len;
            output->len = 0;
            emit(output, output->line, line_len);
            ptr++;
            len--;
        }
    }
}

void ec_process_output_end(struct ec_process_output *output)
{
    if (output->fd < 0) {
        return;
    }
    ec_poll_free(output->poll);
    output->poll = NULL;
    close(output->fd);
    output->fd = -1;
    if (output->len > 0) {
        size_t len = output->len;
        output->len = 0;
        emit(output, output->line, len);
    }
}

/* False when there is nothing (more) to read now. */
static bool read_once(struct ec_process_output *output)
{
    char piece[READ_BYTES];
    ssize_t n = read(output->fd, piece, sizeof(piece));
    if (n > 0) {
        split_lines(output, piece, (size_t)n);
        return true;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        ec_process_output_end(output);
    }
    return false;
}

static void on_output(void *arg, int status, int events)
{
    (void)events;
    struct ec_process_output *output = arg;
    struct ec_process *process = output->process;
    if (status < 0) {
        ec_process_output_end(output);
    }
    for (int i = 0; i < READS_PER_TURN && output->fd >= 0 && !process->paused; i++) {
        if (!read_once(output)) {
            break;
        }
    }
    ec_process_settle(process);
}

void ec_process_output_drain(struct ec_process_output *output)
{
    for (int i = 0; i < DRAIN_READS && output->fd >= 0; i++) {
        if (!read_once(output)) {
            break;
        }
    }
    ec_process_output_end(output);
}

EC_RESULT ec_process_output_open(struct ec_process *process, size_t index, int *ret_child_fd)
{
    struct ec_process_output *output = &process->outputs[index];
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return ec_retry(errno, "no pipe for a child process (too many open files?)");
    }
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    output->fd = fds[0];
    output->line = ec_alloc(process->line_max_bytes);
    *ret_child_fd = fds[1];
    return ec_poll_new(process->loop, fds[0], on_output, output, &output->poll);
}
