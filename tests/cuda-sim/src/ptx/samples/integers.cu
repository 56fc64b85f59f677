// Integers: bit operations, wide products, remainders, votes, a local array, compare-and-swap.
extern "C" __global__ void bits(const unsigned* x, unsigned* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned v = x[i];
    unsigned* o = y + i * 8;
    o[0] = __popc(v);
    o[1] = __clz(v);
    o[2] = __brev(v);
    o[3] = __byte_perm(v, ~v, 0x1726);
    o[4] = __umulhi(v, 0x9E3779B9u);
    o[5] = (v << 7) | (v >> 25);
    o[6] = v % 1000u + v / 7u;
    o[7] = (unsigned)((int)v / -3) + (unsigned)((int)v % 10);
}

extern "C" __global__ void sorted_local(const int* x, int* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int v[16];
    for (int k = 0; k < 16; k++) v[k] = x[i * 16 + k];
    int length = 16;
    while (length > 1) {
        int at = 0;
        for (int k = 1; k < length; k++) {
            if (v[k] > v[at]) at = k;
        }
        length -= 1;
        int largest = v[at];
        v[at] = v[length];
        v[length] = largest;
    }
    for (int k = 0; k < 16; k++) y[i * 16 + k] = v[k];
}

extern "C" __global__ void votes(const int* x, unsigned* y, unsigned long long* product) {
    int v = x[threadIdx.x];
    unsigned odd = __ballot_sync(0xffffffffu, v & 1);
    int all = __all_sync(0xffffffffu, v >= 0);
    if (threadIdx.x % 32 == 0) {
        y[threadIdx.x / 32 * 2] = odd;
        y[threadIdx.x / 32 * 2 + 1] = all;
    }
    unsigned long long seen = *product;
    unsigned long long expected;
    do {
        expected = seen;
        seen = atomicCAS(product, expected, expected * 3 + (unsigned long long)(v == 0));
    } while (seen != expected);
}
