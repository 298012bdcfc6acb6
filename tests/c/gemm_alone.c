/* One variant of gemm by itself, GEMM, whatever this CPU says of it: for text that was compiled to run elsewhere than
 * where it belongs, as that for AMX on amx_model.h. NEEDS is the instruction set that it still takes. */
#include <stdio.h>
#include <string.h>

#include "amx_model.h"
#include "check.h"

effort run_effort = {4 * 32 + 3, 64, 3, 40, 0};
amx_model amx;
pq_gemm_fn GEMM;

int main(void)
{
    const comparison c = {"gemm", "alone", (any_fn *)GEMM, NULL, PQ_F32, PQ_F32};
    if (!pq_isa_usable(NEEDS)) {
        printf("could not run: this CPU has no " NEEDS "\n");
        return 0;
    }
    report_touched_guards();
    memset(&here, 0, sizeof here);
    here.c = &c;
    check_gemm(&c);
    if (amx.configuration.palette != 0) fail("left with tiles configured", 0);
    printf(failures ? "%lu FAILURES\n" : "all equal\n", failures);
    return failures != 0;
}
