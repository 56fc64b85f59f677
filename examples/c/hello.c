/* A pool, a tensor, a view of it, a limit, and statistics at the end. */
#include <neuro_memory.h>

#include <inttypes.h>
#include <stdio.h>

static int failed(const char *doing)
{
    fprintf(stderr, "%s: %s\n", doing, neuro_last_error());
    return 1;
}

int main(void)
{
    neuro_pool_options_t options = {.struct_size = sizeof options, .limit_bytes = (size_t)64 << 20};
    neuro_pool_t *pool;
    if (neuro_pool_create(&options, &pool))
        return failed("create a pool");

    const int64_t shape[] = {8, 28, 28};
    neuro_tensor_t *images, *first;
    if (neuro_tensor_zeros(pool, NEURO_DTYPE_FLOAT32, 3, shape, &images))
        return failed("create a tensor");
    float *pixels = neuro_tensor_get_data(images);
    for (int column = 0; column < 28; column++)
        pixels[column] = 0.5f;

    /* A view shares the storage; nothing is copied, and the storage lives as long as any of them. */
    if (neuro_tensor_select(images, 0, 0, &first))
        return failed("select an image");
    printf("%s [%" PRId64 ", %" PRId64 "], aligned to %zu B, shared by %zu tensors\n",
           neuro_dtype_name(neuro_tensor_get_dtype(first)), neuro_tensor_get_shape(first)[0],
           neuro_tensor_get_shape(first)[1], neuro_tensor_get_alignment(first), neuro_tensor_use_count(first));

    /* A limit is an error that says what was asked and what was there. */
    const int64_t huge[] = {1 << 20, 100};
    neuro_tensor_t *too_big;
    if (neuro_tensor_empty(pool, NEURO_DTYPE_FLOAT64, 2, huge, &too_big) != NEURO_OUT_OF_MEMORY)
        return failed("a tensor beyond the limit");
    printf("%s\n", neuro_last_error());

    neuro_tensor_release(images);
    neuro_tensor_release(first);    /* the last to use it: the memory goes back to the pool */
    neuro_pool_stats_t stats = {.struct_size = sizeof stats};
    if (neuro_pool_get_stats(pool, &stats))
        return failed("statistics");
    printf("at the end: %zu B live in %zu blocks, peak %zu B\n", stats.live_bytes, stats.live_blocks, stats.peak_bytes);
    neuro_pool_release(pool);
    return stats.live_blocks == 0 ? 0 : 1;
}
