#include "parallel.h"

#include <pthread.h>

#include "cpu.h"

/* A second thread costs about 1.5 us to wake while it spins and 12 us once it sleeps, and one core moves about
 * 20 bytes a nanosecond in cache. Below this many bytes for each thread the hand-off would eat the gain. */
enum { BYTES_A_TASK = 640 * 1024 };

static int threads; /* 0: not set, the CPUs of this process */
static pq_parallel_for caller_run;
static void *caller_pool;

#if defined(_OPENMP)
/* libpyquant.a links without an OpenMP runtime too: its entry points are weak here, and where they are missing
 * everything runs on the calling thread. So this calls what `#pragma omp parallel` would call (LLVM's runtime has
 * the same entry point); calls that the compiler writes itself can not be weak. */
extern void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned) __attribute__((weak));
extern int omp_get_thread_num(void) __attribute__((weak));
extern int omp_get_num_threads(void) __attribute__((weak));

typedef struct {
    pq_task task;
    void *context;
    size_t tasks;
} team;

static void team_member(void *data)
{
    const team *t = (const team *)data;
    const size_t i = (size_t)omp_get_thread_num(), n = (size_t)omp_get_num_threads();
    for (size_t k = t->tasks * i / n; k < t->tasks * (i + 1) / n; k++) t->task(t->context, k);
}

/* GNU's OpenMP deadlocks in the child of a fork whose parent had started its threads. */
static int after_fork;
static int used_openmp;
static void mark_child(void)
{
    if (__atomic_load_n(&used_openmp, __ATOMIC_RELAXED)) after_fork = 1;
}
static void watch_forks(void) { pthread_atfork(NULL, NULL, mark_child); }
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int openmp_usable(void)
{
    if (!GOMP_parallel || !omp_get_thread_num || !omp_get_num_threads || after_fork) return 0;
    pthread_once(&once, watch_forks);
    __atomic_store_n(&used_openmp, 1, __ATOMIC_RELAXED);
    return 1;
}
#endif

pq_status pq_set_num_threads(int n)
{
    if (n < 0) return PQ_ERROR_ARGUMENT;
    __atomic_store_n(&threads, n, __ATOMIC_RELAXED);
    return PQ_OK;
}

int pq_get_num_threads(void)
{
    int n = __atomic_load_n(&threads, __ATOMIC_RELAXED);
    if (n == 0) {
        n = pq_cpu_count();
        __atomic_store_n(&threads, n, __ATOMIC_RELAXED);
    }
    return n;
}

pq_status pq_set_parallel_for(pq_parallel_for run, void *pool)
{
    caller_run = run;
    caller_pool = pool;
    return PQ_OK;
}

size_t pq_tasks_for(size_t work)
{
    const size_t most = (size_t)pq_get_num_threads(), worth = work / BYTES_A_TASK;
    return worth < 2 ? 1 : worth < most ? worth : most;
}

void pq_run(size_t tasks, pq_task task, void *context)
{
    if (tasks > 1 && caller_run) {
        caller_run(caller_pool, tasks, task, context);
        return;
    }
#if defined(_OPENMP)
    const int n = pq_get_num_threads();
    if (tasks > 1 && n > 1 && openmp_usable()) {
        team t = {task, context, tasks};
        GOMP_parallel(team_member, &t, (unsigned)(tasks < (size_t)n ? tasks : (size_t)n), 0);
        return;
    }
#endif
    for (size_t i = 0; i < tasks; i++) task(context, i);
}
