/* A pool, a tensor in it, a view of a part, and the bill.
 *
 *   cc hello.c $(pkg-config --cflags --libs neuro_memory) -o hello
 */
#include <neuro_memory.h>
#include <stdio.h>
#include <stdlib.h>

/* Ends the program with the library's own words where a call fails. */
static void must(neuro_status_t status) {
    if (status != NEURO_OK) {
        fprintf(stderr, "%s: %s\n", neuro_status_name(status), neuro_last_error());
        exit(1);
    }
}

int main(void) {
    neuro_pool_options_t options = {.struct_size = sizeof options, .limit_bytes = 64 << 20};
    neuro_pool_t *pool;
    must(neuro_pool_create(&options, &pool));

    neuro_tensor_t *image, *middle;
    int64_t shape[] = {480, 640};
    must(neuro_tensor_zeros(pool, NEURO_DTYPE_FLOAT32, 2, shape, &image));
    must(neuro_tensor_slice(image, 0, 160, 320, 1, &middle)); /* rows 160 to 319: shares storage, copies nothing */
    must(neuro_tensor_fill_f64(middle, 1.0));

    float *pixels = neuro_tensor_get_data(image);
    double sum = 0;
    for (size_t i = 0; i < neuro_tensor_get_numel(image); i++) {
        sum += pixels[i];
    }

    neuro_pool_stats_t stats = {.struct_size = sizeof stats};
    must(neuro_pool_get_stats(pool, &stats));
    printf("sum %.0f, data aligned to %zu B\n", sum, neuro_tensor_get_alignment(image));
    printf("live %zu B in %zu block, limit %zu B\n", stats.live_bytes, stats.live_blocks, stats.limit_bytes);

    must(neuro_tensor_release(middle));
    must(neuro_tensor_release(image));
    must(neuro_pool_get_stats(pool, &stats));
    printf("live %zu B at the end\n", stats.live_bytes);
    must(neuro_pool_release(pool));
    return 0;
}
