/* CUDA's words in C++, for one CPU thread: the kernels of pyquant/cuda are compiled with this as they stand.
 *
 * Every CUDA thread is a fiber, and blocks run one after the other. A fiber runs until it must wait (__syncthreads, a
 * shuffle), and then the next one does, in an order that is shuffled at every turn; so is the order of blocks. Code
 * that needs a barrier and has none meets threads that are far ahead or far behind, and gives wrong results here as
 * it might on a device. Threads that wait for each other in vain end the launch with a message.
 *
 * What a warp does together is a rendezvous: every lane of the mask brings a value, and when the last one has come all
 * go on and see what each brought (shim::exchange). A C++ body of mma.sync or of a shuffle is a few lines on top. */
#ifndef PQ_SHIM_H
#define PQ_SHIM_H

#include <sys/mman.h>

#include <algorithm>
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define SHIM_ASAN 1
#else
#define SHIM_ASAN 0
#endif

#define __host__
#define __device__
#define __constant__ const
#define __shared__ static /* blocks run one after the other, so one copy is enough */
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#ifndef SHIM_LIST /* the list of kernels is read off preprocessed text in which this word is left */
#define __global__
#endif

#include "arithmetic.h"
#include "builtins.h"
#include "launch.h"

#endif
