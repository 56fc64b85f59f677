// Softmax of rows, one block per row, and functions of one value.
extern "C" __global__ void softmax(const float* x, float* y, int columns) {
    extern __shared__ float part[];
    const float* row = x + (long long)blockIdx.x * columns;
    float* out = y + (long long)blockIdx.x * columns;
    int t = threadIdx.x;
    float top = -__int_as_float(0x7f800000);
    for (int i = t; i < columns; i += blockDim.x) top = fmaxf(top, row[i]);
    part[t] = top;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (t < half) part[t] = fmaxf(part[t], part[t + half]);
        __syncthreads();
    }
    top = part[0];
    __syncthreads();
    float sum = 0.0f;
    for (int i = t; i < columns; i += blockDim.x) sum += expf(row[i] - top);
    part[t] = sum;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (t < half) part[t] += part[t + half];
        __syncthreads();
    }
    sum = part[0];
    for (int i = t; i < columns; i += blockDim.x) out[i] = expf(row[i] - top) / sum;
}

extern "C" __global__ void functions(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = x[i];
    float* o = y + i * 8;
    o[0] = logf(v);
    o[1] = rsqrtf(v);
    o[2] = tanhf(v);
    o[3] = __sinf(v) + __cosf(v);
    o[4] = powf(v, 1.7f);
    o[5] = sinf(v);
    o[6] = v / (1.0f + expf(-v));
    o[7] = roundf(v) + truncf(v) + ceilf(v);
}
