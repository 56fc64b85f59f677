// Elementwise kernels: one element per thread, a loop over the grid, structures by value, bytes, halves, doubles.
struct Affine {
    float scale;
    float shift;
    long long count;
    unsigned char enabled;
};

extern "C" __global__ void doubled(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] * 2.0f;
}

extern "C" __global__ void axpy_loop(float a, const float* __restrict__ x, float* __restrict__ y, unsigned long long n) {
    unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        y[i] = a * x[i] + y[i];
    }
}

extern "C" __global__ void affine(Affine how, const float4* x, float4* y) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= how.count || !how.enabled) return;
    float4 v = x[i];
    v.x = v.x * how.scale + how.shift;
    v.y = v.y * how.scale + how.shift;
    v.z = v.z * how.scale + how.shift;
    v.w = fmaxf(v.w, 0.0f) / how.scale;
    y[i] = v;
}

extern "C" __global__ void bytes(const unsigned char* a, const signed char* b, unsigned char* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned char x = a[i];
    int y = b[i];
    int sum = x + y;
    out[i] = (unsigned char)((sum < 0 ? 0 : sum > 255 ? 255 : sum) ^ (x >> 3));
}

static __device__ float from_half(unsigned short h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}

static __device__ unsigned short to_half(float f) {
    unsigned short h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}

extern "C" __global__ void halves(const unsigned short* x, float* wide, unsigned short* back, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float f = from_half(x[i]);
    wide[i] = f;
    back[i] = to_half(f * 1.5f);
}

extern "C" __global__ void doubles(const double* x, const int* k, double* y, long long rows, long long columns) {
    long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= rows * columns) return;
    long long row = at / columns;
    long long column = at % columns;
    y[column * rows + row] = sqrt(x[at]) / (double)k[at] + (double)(float)floor(x[at]);
}
