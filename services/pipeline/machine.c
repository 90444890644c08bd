/* The table. To learn what can happen to a thing, read its rows: where it can go from each state,
 * how long it may stay there, who owes the next word, and what happens when that word does not
 * come. */
#include "machine.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define TO(state) (uint16_t)(1u << (state))
#define SECONDS(n) ((int64_t)(n)*1000)
#define MINUTES(n) ((int64_t)(n)*60000)
#define HOURS(n) ((int64_t)(n)*3600000)

/* How a build ends, from any state in which somebody works on it. */
#define BUILD_ENDS                                                                                 \
    (TO(BUILD_SUCCEEDED) | TO(BUILD_FAILED) | TO(BUILD_CANCELLED) | TO(BUILD_TIMED_OUT) |          \
     TO(BUILD_SUPERSEDED))
#define DEPLOYMENT_ENDS                                                                            \
    (TO(DEPLOYMENT_FAILED) | TO(DEPLOYMENT_CANCELLED) | TO(DEPLOYMENT_SUPERSEDED))

const struct machine machines[MACHINE_KINDS] = {
    [MACHINE_DELIVERY] =
        {"delivery",
         5,
         {
             [DELIVERY_RECEIVED] = {"received",
                                    TO(DELIVERY_COMPARING) | TO(DELIVERY_IGNORED) |
                                        TO(DELIVERY_ACCEPTED) | TO(DELIVERY_DUPLICATE),
                                    0, false, "pipeline", "never stored: decided as it is read"},
             [DELIVERY_COMPARING] = {"comparing", TO(DELIVERY_IGNORED) | TO(DELIVERY_ACCEPTED),
                                     SECONDS(30), false, "sweeper",
                                     "built as if everything had changed"},
             [DELIVERY_IGNORED] = {"IGNORED", 0, 0, false, "", ""},
             [DELIVERY_ACCEPTED] = {"ACCEPTED", 0, 0, false, "", ""},
             [DELIVERY_DUPLICATE] = {"DUPLICATE", 0, 0, false, "", ""},
         }},
    [MACHINE_BUILD] =
        {
            "build",
            9,
            {
                [BUILD_WAITING] = {"waiting",
                                   TO(BUILD_QUEUED) | TO(BUILD_CANCELLED) | TO(BUILD_TIMED_OUT) |
                                       TO(BUILD_SUPERSEDED),
                                   SECONDS(1), true, "the git host's CI",
                                   "TIMED_OUT: the CI said nothing in time"},
                [BUILD_QUEUED] = {"queued",
                                  TO(BUILD_LEASED) | TO(BUILD_FAILED) | TO(BUILD_CANCELLED) |
                                      TO(BUILD_TIMED_OUT) | TO(BUILD_SUPERSEDED),
                                  HOURS(1), false, "pipeline (queue)",
                                  "TIMED_OUT: no builder was free"},
                [BUILD_LEASED] =
                    {"leased", TO(BUILD_QUEUED) | TO(BUILD_RUNNING) | BUILD_ENDS, SECONDS(60),
                     false, "builder", "another builder gets it; after too many losses FAILED"},
                [BUILD_RUNNING] = {"running", TO(BUILD_QUEUED) | BUILD_ENDS, SECONDS(60),
                                   true, "builder", "TIMED_OUT, and the build is cancelled"},
                [BUILD_SUCCEEDED] = {"SUCCEEDED", 0, 0, false, "", ""},
                [BUILD_FAILED] = {"FAILED", 0, 0, false, "", ""},
                [BUILD_CANCELLED] = {"CANCELLED", 0, 0, false, "", ""},
                [BUILD_TIMED_OUT] = {"TIMED_OUT", 0, 0, false, "", ""},
                [BUILD_SUPERSEDED] = {"SUPERSEDED", 0, 0, false, "", ""},
            }},
    [MACHINE_RELEASE] =
        {"release",
         4,
         {
             [RELEASE_BUILDING] = {"building", TO(RELEASE_SIGNING) | TO(RELEASE_REJECTED),
                                   MINUTES(2), false, "pipeline", "REJECTED"},
             [RELEASE_SIGNING] = {"signing", TO(RELEASE_READY) | TO(RELEASE_REJECTED), MINUTES(10),
                                  false, "signer", "REJECTED: the signer said nothing"},
             [RELEASE_READY] = {"READY", 0, 0, false, "", ""},
             [RELEASE_REJECTED] = {"REJECTED", 0, 0, false, "", ""},
         }},
    [MACHINE_DEPLOYMENT] =
        {"deployment",
         7,
         {
             [DEPLOYMENT_PENDING] = {"pending", TO(DEPLOYMENT_ROLLING) | DEPLOYMENT_ENDS,
                                     MINUTES(2), false,
                                     "pipeline", "FAILED"},
             [DEPLOYMENT_ROLLING] =
                 {"rolling", TO(DEPLOYMENT_HEALTHY) | TO(DEPLOYMENT_ROLLED_BACK) | DEPLOYMENT_ENDS,
                  SECONDS(60), true, "reconciler",
                  "ROLLED_BACK to the last good release, or FAILED without one"},
             [DEPLOYMENT_HEALTHY] = {"HEALTHY", 0, 0, false, "", ""},
             [DEPLOYMENT_FAILED] = {"FAILED", 0, 0, false, "", ""},
             [DEPLOYMENT_ROLLED_BACK] = {"ROLLED_BACK", 0, 0, false, "", ""},
             [DEPLOYMENT_CANCELLED] = {"CANCELLED", 0, 0, false, "", ""},
             [DEPLOYMENT_SUPERSEDED] = {"SUPERSEDED", 0, 0, false, "", ""},
         }},
    [MACHINE_DOMAIN] =
        {"domain",
         4,
         {
             [DOMAIN_PENDING] = {"pending",
                                 TO(DOMAIN_ISSUING) | TO(DOMAIN_ACTIVE) | TO(DOMAIN_FAILED),
                                 MINUTES(2), false, "pipeline", "failed, tried again later"},
             [DOMAIN_ISSUING] = {"issuing", TO(DOMAIN_ACTIVE) | TO(DOMAIN_FAILED), MINUTES(10),
                                 false, "domain", "failed, tried again later"},
             [DOMAIN_ACTIVE] = {"ACTIVE", TO(DOMAIN_ACTIVE), 0, false, "", ""},
             [DOMAIN_FAILED] = {"failed",
                                TO(DOMAIN_ISSUING) | TO(DOMAIN_ACTIVE) | TO(DOMAIN_FAILED),
                                MINUTES(2), true,
                                "domain", "issuing: the domain is announced to the issuer again"},
         }},
};

static const struct machine_state *state_of(const struct machine_cell *cell)
{
    return &machines[cell->kind].states[cell->state];
}

static bool is_terminal(const struct machine_state *state)
{
    return state->name[0] >= 'A' && state->name[0] <= 'Z';
}

static void set_deadline(struct machine_cell *cell, int64_t now_unix_ms, int64_t extra_ms)
{
    const struct machine_state *state = state_of(cell);
    if (is_terminal(state)) {
        cell->deadline_unix_ms = 0;
        return;
    }
    cell->deadline_unix_ms = now_unix_ms + state->dwell_ms + (state->plus ? extra_ms : 0);
}

void machine_begin_plus(struct machine_cell *cell, enum machine_kind kind, int64_t now_unix_ms,
                        int64_t extra_ms)
{
    cell->kind = kind;
    cell->state = 0;
    set_deadline(cell, now_unix_ms, extra_ms);
}

void machine_begin(struct machine_cell *cell, enum machine_kind kind, int64_t now_unix_ms)
{
    machine_begin_plus(cell, kind, now_unix_ms, 0);
}

bool machine_load(struct machine_cell *cell, enum machine_kind kind, const char *state,
                  int64_t deadline_unix_ms)
{
    const struct machine *machine = &machines[kind];
    for (size_t i = 0; i < machine->state_count; i++) {
        if (strcmp(machine->states[i].name, state) == 0) {
            *cell = (struct machine_cell){kind, (uint8_t)i, deadline_unix_ms};
            return true;
        }
    }
    return false;
}

bool machine_may(const struct machine_cell *cell, uint8_t to)
{
    return to < machines[cell->kind].state_count && (state_of(cell)->next & TO(to)) != 0;
}

bool machine_move(struct machine_cell *cell, uint8_t to, int64_t now_unix_ms, int64_t extra_ms)
{
    if (!machine_may(cell, to)) {
        return false;
    }
    cell->state = to;
    set_deadline(cell, now_unix_ms, extra_ms);
    return true;
}

bool machine_ended(const struct machine_cell *cell)
{
    return is_terminal(state_of(cell));
}

const char *machine_text(const struct machine_cell *cell)
{
    return state_of(cell)->name;
}

static void print_state(const struct machine *machine, const struct machine_state *state)
{
    printf("| %s | `%s` | ", machine->name, state->name);
    if (is_terminal(state)) {
        printf("- | - | ");
    } else {
        printf("%lld s%s | %s | ", (long long)(state->dwell_ms / 1000),
               state->plus ? " + the job's own limit" : "", state->owner);
    }
    const char *comma = "";
    for (size_t to = 0; to < machine->state_count; to++) {
        if (state->next & TO(to)) {
            printf("%s`%s`", comma, machine->states[to].name);
            comma = ", ";
        }
    }
    printf(" | %s |\n", state->overdue);
}

void machine_print(void)
{
    printf("# The state machine\n\n"
           "Made by `enclii-pipeline --print-states` from the table in\n"
           "`services/pipeline/machine.c`, which is also what runs; do not edit it here.\n\n"
           "States in capitals are ends. Every other state has a deadline, set when it is\n"
           "entered. The reaper acts within a second of it and says why (`enclii why`), so the\n"
           "longest a thing can stay anywhere is in the third column. A move that is not in\n"
           "the table does not happen, whatever word asks for it: words that come twice, late\n"
           "or about an old attempt change nothing.\n\n"
           "| thing | state | stays at most | who speaks next | moves to | when overdue |\n"
           "|---|---|---|---|---|---|\n");
    for (size_t kind = 0; kind < MACHINE_KINDS; kind++) {
        for (size_t i = 0; i < machines[kind].state_count; i++) {
            print_state(&machines[kind], &machines[kind].states[i]);
        }
    }
}
