/* CUDA's types of several numbers. */
#ifndef PQ_SHIM_VECTORS_H
#define PQ_SHIM_VECTORS_H

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define SHIM_VECTOR(name, type)                                                                                 \
    struct alignas(2 * sizeof(type)) name##2 {                                                                  \
        type x, y;                                                                                              \
    };                                                                                                          \
    struct alignas(sizeof(type) < 8 ? 4 * sizeof(type) : 16) name##4 {                                          \
        type x, y, z, w;                                                                                        \
    };                                                                                                          \
    static inline name##2 make_##name##2(type x, type y) { return {x, y}; }                                     \
    static inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
SHIM_VECTOR(int, int)
SHIM_VECTOR(uint, unsigned)
SHIM_VECTOR(float, float)
SHIM_VECTOR(double, double)
#undef SHIM_VECTOR

#endif
