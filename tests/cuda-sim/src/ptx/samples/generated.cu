// The shapes that generated kernels have: strides, casts to and from narrow integers and bfloat16, conditions, fill.
extern "C" __global__ void fill(unsigned long long* y, unsigned long long value, unsigned long long n) {
    unsigned long long i = blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x;
    if (i < n) y[i] = value;
}

extern "C" __global__ void strided(const float* x, float* y, const long long* shape, const long long* strides, int rank,
                                   long long n) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= n) return;
    long long rest = i, at = 0;
    for (int d = rank - 1; d >= 0; d--) {
        at += (rest % shape[d]) * strides[d];
        rest /= shape[d];
    }
    float v = x[at];
    y[i] = v > 0.0f ? v * 1.5f : (expf(v) - 1.0f) * 1.5f;
}

extern "C" __global__ void casts(const float* x, signed char* a, unsigned char* b, short* c, long long* d, double* e,
                                 unsigned short* bf, unsigned char* positive, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = x[i];
    a[i] = (signed char)v;
    b[i] = (unsigned char)v;
    c[i] = (short)v;
    d[i] = (long long)v;
    e[i] = v;
    unsigned bits = __float_as_uint(v);
    bf[i] = (unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    positive[i] = v > 0.0f && v == v;
}
