/* The one place that knows about threads. */
#ifndef PQ_PARALLEL_H
#define PQ_PARALLEL_H

#include "include/pyquant.h"

/* How many tasks `work` bytes of memory traffic are worth: 1 where threads would lose. */
size_t pq_tasks_for(size_t work);

/* Runs task(context, 0) ... task(context, tasks - 1) and returns when all are done. */
void pq_run(size_t tasks, pq_task task, void *context);

#endif
