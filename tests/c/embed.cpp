// A C++11 program that uses the installed library.
#include <pyquant.h>

#include <cstdio>
#include <vector>

int main()
{
    std::vector<float> x = {-1.0f, 0.0f, 0.3f, 1.0f, 5.0f, -5.0f};
    std::vector<unsigned char> q(x.size());
    const std::vector<float> scale = {0.1f, 0.5f, 1.0f};
    const std::vector<int32_t> zero_point = {10, 20, 30};
    const pq_layout layout = {2, 3, 1, 0};
    const pq_params params = {scale.data(), zero_point.data(), 0, 255};
    const std::vector<unsigned char> want = {0, 20, 30, 20, 30, 25};
    if (pq_quantize(x.data(), PQ_F32, q.data(), PQ_U8, &layout, &params) != PQ_OK || q != want) return 1;
    if (pq_quantize(nullptr, PQ_F32, q.data(), PQ_U8, &layout, &params) != PQ_ERROR_ARGUMENT) return 1;
    std::puts("embedded library works");
    return 0;
}
