// Sums: by shared memory and barriers, by shuffles inside a warp, by atomics.
extern "C" __global__ void block_sum(const float* x, float* sums, int n) {
    __shared__ float part[128];
    int t = threadIdx.x;
    int i = blockIdx.x * blockDim.x + t;
    part[t] = i < n ? x[i] : 0.0f;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half >>= 1) {
        if (t < half) part[t] += part[t + half];
        __syncthreads();
    }
    if (t == 0) sums[blockIdx.x] = part[0];
}

extern "C" __global__ void warp_sum(const int* x, int* total, int* largest, int n) {
    extern __shared__ int warps[];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int v = i < n ? x[i] : 0;
    int top = v;
    for (int d = 16; d > 0; d >>= 1) {
        v += __shfl_down_sync(0xffffffffu, v, d);
        top = max(top, __shfl_xor_sync(0xffffffffu, top, d));
    }
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
    __syncthreads();
    if (threadIdx.x == 0) {
        int sum = 0;
        for (int w = 0; w < (blockDim.x + 31) / 32; w++) sum += warps[w];
        atomicAdd(total, sum);
        atomicMax(largest, top);
    }
}

extern "C" __global__ void histogram(const unsigned char* x, unsigned* counts, float* weight, int n) {
    __shared__ unsigned local[256];
    for (int b = threadIdx.x; b < 256; b += blockDim.x) local[b] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        atomicAdd(&local[x[i]], 1u);
        atomicAdd(weight, 0.5f);
    }
    __syncthreads();
    for (int b = threadIdx.x; b < 256; b += blockDim.x) {
        if (local[b]) atomicAdd(&counts[b], local[b]);
    }
}
