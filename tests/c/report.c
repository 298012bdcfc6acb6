/* Failures, and what the program was doing when it touched a guard page. */
#define _DEFAULT_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

position here;
unsigned long failures;

static int describe(char *text, size_t size, const char *what)
{
    const position *p = &here;
    return snprintf(text, size,
                    "%s_%s: %s; %zu x %zu, stride %zu, %zu bytes from the page %s, stream %d, in place %d, "
                    "scale %a, grid %d ... %d",
                    p->c ? p->c->op : "?", p->c ? p->c->isa : "?", what, p->rows, p->columns, p->stride, p->distance,
                    p->side == AFTER ? "after" : "before", p->stream, p->in_place, (double)p->scale, p->g.qmin,
                    p->g.qmax);
}

void fail(const char *what, size_t element)
{
    char text[512];
    describe(text, sizeof text, what);
    printf("FAILED %s; first at %zu\n", text, element);
    fflush(stdout);
    if (++failures == 20) exit(1);
}

void expect_bytes(const arena *outputs, const void *got, const void *expected, size_t bytes)
{
    const unsigned char *a = expected, *b = got;
    if (memcmp(a, b, bytes) != 0) {
        size_t i = 0;
        while (a[i] == b[i]) i++;
        fail("differs from scalar, at the byte", i);
    }
    if (!margins_intact(outputs, got, bytes)) fail("wrote outside", 0);
}

static void on_signal(int number)
{
    char text[512];
    int n = describe(text, sizeof text - 1, number == SIGILL ? "an illegal instruction" : "touched a guard page");
    text[n++] = '\n';
    if (write(STDOUT_FILENO, "FAILED ", 7) == 7 && write(STDOUT_FILENO, text, (size_t)n) == n) _exit(1);
    _exit(2);
}

void report_touched_guards(void)
{
#if !defined(__SANITIZE_ADDRESS__) /* which has a better report of its own */
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);
#else
    (void)on_signal;
#endif
}
